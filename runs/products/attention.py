"""Attention row statistics, binned by query position."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from runs.inputs import FOLDS
from runs.loaded import Unembedding
from runs.products.base import Arrays, ArraySpec, Batch, Spec
from runs.tables import CaptureTable

STATISTICS = (
    "entropy",
    "normalised_entropy",
    "max_logit",
    "row_norm",
    "first_key",
    "previous_key",
    "distance",
    "top_mass",
    "effective_support",
    "lower_bound",
    "upper_bound",
    "bound_share",
)
_VERSION = 2  # raised when statistics are added: a store has all of one version or none
_LOGITS = ("max_logit", "top_mass")  # what a fused kernel does not have
_EXACT, _PER_OCTAVE = 64, 8


def position_bins(length: int) -> NDArray[np.int64]:
    """Lower edges of position bins, and the end: 0–63 one by one, then 8 an octave.

    Returns
    -------
    int array (bin + 1,)
    """
    edges = list(range(min(_EXACT, length)))
    index = 0
    while (edge := round(_EXACT * 2 ** (index / _PER_OCTAVE))) < length:
        edges.append(edge)
        index += 1
    return np.array([*edges, length])


def statistics_of(capture: CaptureTable) -> tuple[str, ...]:
    """Statistics that are kept; a fused kernel has no largest logit."""
    fused = capture.attention.kernel == "fused"
    return tuple(s for s in STATISTICS if not (fused and s in _LOGITS))


class Attention:
    """`count`, `mean`, `m2`, `nan_count` of each row statistic per block, head, fold and bin.

    Samples weigh in them by their length. `sequence_entropy` per block, head and fold is the mean over
    samples of each sample's mean row entropy: there they weigh alike.
    """

    name = "attention"

    def options(self, capture: CaptureTable) -> Mapping[str, object]:
        """Which statistics there are, and the kernel if it is not the default one."""
        table = capture.attention
        kernel = {} if table.kernel == "streaming" else table.model_dump()
        return {"version": _VERSION, **kernel}

    def layout(self, spec: Spec) -> dict[str, ArraySpec]:
        """Six arrays, one chunk a checkpoint each."""
        dims = ("statistic", "block", "head", "fold", "position_bin")
        bins = len(position_bins(spec.inputs.tokens.shape[1])) - 1
        shape = (
            len(statistics_of(spec.capture)),
            spec.shape.blocks,
            spec.shape.heads,
            FOLDS + 1,
            bins,
        )
        nan = float("nan")
        heads = dims[1:4], shape[1:4]
        return {
            "sequence_entropy": ArraySpec(*heads, "float64", nan, heads[1], {"units": "nats"}),
            "sequence_count": ArraySpec(*heads, "int64", 0, heads[1]),
            "count": ArraySpec(dims, shape, "int64", 0, shape),
            "mean": ArraySpec(dims, shape, "float64", nan, shape),
            "m2": ArraySpec(dims, shape, "float64", nan, shape),
            "nan_count": ArraySpec(dims, shape, "int64", 0, shape),
        }

    def coordinates(self, spec: Spec) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Statistics, blocks from 1, heads, folds and the bins' edges."""
        edges = position_bins(spec.inputs.tokens.shape[1])
        return {
            "statistic": (("statistic",), np.array(statistics_of(spec.capture))),
            "block": (("block",), np.arange(1, spec.shape.blocks + 1)),
            "head": (("head",), np.arange(spec.shape.heads)),
            "fold": (("fold",), np.arange(FOLDS + 1)),
            "position_bin": (("position_bin",), edges[:-1]),
            "position_end": (("position_bin",), edges[1:]),
        }

    def collector(self, spec: Spec, unembedding: Unembedding) -> AttentionCollector:
        """Sums of a few numbers a head, fold and bin."""
        return AttentionCollector(spec)


class AttentionCollector:
    """Sums, sums of squares and counts in float64; float32 statistics lose nothing in them."""

    sums = True

    def __init__(self, spec: Spec) -> None:
        length = spec.inputs.tokens.shape[1]
        edges = position_bins(length)
        self._statistics = statistics_of(spec.capture)
        self._bin = np.searchsorted(edges, np.arange(length), side="right") - 1
        self._bins = len(edges) - 1
        shape = Attention().layout(spec)["count"].shape
        self._count = np.zeros(shape, np.int64)
        self._nan = np.zeros(shape, np.int64)
        self._sum = np.zeros(shape, np.float64)
        self._sequences = np.zeros(shape[1:4], np.float64)
        self._sequence_count = np.zeros(shape[1:4], np.int64)
        self._squares = np.zeros(shape, np.float64)

    def layers(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def wants_attention(self) -> bool:
        """True."""
        return True

    def hidden(self, layer: int, state: torch.Tensor, batch: Batch) -> None:
        """Take nothing."""

    def attention(self, block: int, rows: Mapping[str, torch.Tensor], batch: Batch) -> None:
        """Add the rows of one block of samples."""
        positions = batch.mask.shape[1]
        valid = batch.mask[:, None, :]
        onehot = torch.zeros(positions, self._bins, dtype=torch.float64)  # on the CPU, as sums are
        onehot[torch.arange(positions), torch.as_tensor(self._bin[:positions])] = 1
        values = torch.stack([rows[name] for name in self._statistics]).double()
        defined = torch.ones_like(values, dtype=torch.bool) & valid
        lone = rows["visible"] < 2
        if bool((lone & valid).any()):
            for name in ("normalised_entropy", "previous_key"):
                defined[self._statistics.index(name)] &= ~lone
        # Bounds that meet leave no share, which is not a number that failed.
        defined[self._statistics.index("bound_share")] &= ~(
            rows["bound_share"].isnan() & rows["entropy"].isfinite()
        )
        self._add_sequences(block, rows["entropy"], batch)
        finite = torch.isfinite(values) & defined
        values = torch.where(finite, values, 0.0)
        where = (slice(None), block - 1, slice(None), batch.fold)
        for target, number in (
            (self._count, finite),
            (self._nan, defined & ~finite),
            (self._sum, values),
            (self._squares, values.square()),
        ):
            summed = number.double().sum(1).cpu() @ onehot
            target[where] += summed.numpy().astype(target.dtype)

    def _add_sequences(self, block: int, entropy: torch.Tensor, batch: Batch) -> None:
        """Add each sample's mean row entropy (sample, head); NaN if one of its rows is."""
        real = batch.mask[:, None, :]
        total = torch.where(real, entropy.double(), 0.0).sum(-1)
        means = (total / real.sum(-1)).sum(0).cpu().numpy()
        self._sequences[block - 1, :, batch.fold] += means
        self._sequence_count[block - 1, :, batch.fold] += len(batch.mask)

    def finish(self) -> Arrays:
        """Means and centred second moments; fold 0 is the sum of the others."""
        for array in (self._count, self._nan, self._sum, self._squares):
            array[:, :, :, 0] = array[:, :, :, 1:].sum(axis=3)
        for array in (self._sequences, self._sequence_count):
            array[:, :, 0] = array[:, :, 1:].sum(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self._sum / self._count
            m2 = np.maximum(self._squares - self._sum * mean, 0.0)
            sequences = self._sequences / self._sequence_count
        return {
            "sequence_entropy": sequences,
            "sequence_count": self._sequence_count,
            "count": self._count,
            "mean": mean,
            "m2": m2,
            "nan_count": self._nan,
        }
