"""A visit that reads with logits scaled by the context's length, and with another RoPE base."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from attention.reach import logit_scale
from probes.tokens import token_statistics
from runs.attention_tap import AttentionTap, attention_as, register
from runs.errors import InputError
from runs.loaded import LoadedModel
from runs.products.attention import position_bins
from runs.products.base import ArraySpec, Spec
from runs.rope import rope_base
from runs.tables import ScaledTable
from runs.visits.base import VisitRow, block_and_head

NAME = "phasescope_scaled"


def conditions(table: ScaledTable) -> tuple[str, ...]:
    """Names of the ways in which the set is read."""
    return ("plain", "scaled") if table.base is None else ("plain", "scaled", "base", "both")


@contextmanager
def scaled_logits(model: Any, *, context: float, exempt: int = 0) -> Iterator[None]:
    """Multiply every logit of the query at position i by max(log_c i, 1), for as long as this holds.

    Parameters
    ----------
    model
        A Hugging Face causal language model; read without padding on the left.
    context
        c; positions i count from 1.
    exempt
        The first blocks that stay as they are: 2 in the text of arXiv 2401.07004 (layers 0 and 1); its
        code means to exempt them and scales all.
    """
    plain = AttentionInterface()[register()]

    def attend(module: Any, query: torch.Tensor, *rest: Any, **options: Any) -> Any:
        if module.layer_idx >= exempt:
            place = np.arange(1, query.shape[2] + 1)
            scale = torch.as_tensor(logit_scale(place, context), dtype=torch.float32)
            query = (query * scale.to(query.device)[:, None]).to(query.dtype)
        return plain(module, query, *rest, **options)

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS[register()])
    with attention_as(model, NAME):
        yield


@contextmanager
def changed(loaded: LoadedModel, table: ScaledTable, condition: str) -> Iterator[None]:
    """Read as one of the conditions says."""
    with ExitStack() as stack:
        stack.enter_context(attention_as(loaded.model, register()))
        if condition in ("scaled", "both"):
            size = context_of(loaded, table)
            stack.enter_context(scaled_logits(loaded.model, context=size, exempt=table.exempt))
        if condition in ("base", "both"):
            assert table.base is not None
            stack.enter_context(rope_base(loaded.model, table.base))
        yield


def context_of(loaded: LoadedModel, table: ScaledTable) -> int:
    """The context length of pre-training: the recipe's, or the configuration's."""
    known = table.context or getattr(loaded.model.config, "max_position_embeddings", None)
    if not isinstance(known, int) or known < 2:
        raise InputError(
            "key `capture.entropy_scaled.context`: the model's configuration does not say how long its "
            "context was in training; give it"
        )
    return known


def _read(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    table, layout = spec.capture.entropy_scaled, _layout(spec)
    found = {n: np.full(a.shape, a.fill, a.dtype) for n, a in layout.items()}
    found["rows"][:] = _rows(spec)
    for number, condition in enumerate(conditions(table)):
        with changed(loaded, table, condition):
            _pass(loaded, spec, {n: a[number] for n, a in found.items() if n != "rows"})
    return xr.Dataset({name: (layout[name].dims, value) for name, value in found.items()})


def _pass(loaded: LoadedModel, spec: Spec, out: dict[str, NDArray[Any]]) -> None:
    """One reading: entropy (block, head, sample, bin) and loss (sample,) into `out`."""
    count, size = _count(spec), spec.capture.micro_batch or spec.capture.block
    edges = position_bins(spec.inputs.tokens.shape[1])
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        length = spec.inputs.length[rows]
        longest = int(length.max())
        ids = torch.as_tensor(
            spec.inputs.tokens[rows, :longest], dtype=torch.long, device=loaded.device
        )
        real = torch.arange(longest) < torch.as_tensor(length)[:, None]
        mask = None if bool(real.all()) else real.to(loaded.device)

        def listen(
            block: int,
            seen: dict[str, torch.Tensor],
            rows: slice = rows,
            real: torch.Tensor = real,
        ) -> None:
            entropy = seen["entropy"].double().cpu().numpy()
            out["entropy"][block - 1, :, rows] = _binned(entropy, real.numpy(), edges)

        with torch.inference_mode(), AttentionTap(listen, key_mask=mask):
            state = loaded.forward(ids, mask)[:, :-1]
            head = loaded.unembedding.on(state.device)
            targets = torch.where(real[:, 1:].to(ids.device), ids[:, 1:], -1).to(state.device)
            losses = token_statistics(
                state,
                head.weight,
                targets,
                bias=head.bias,
                vocab_size=spec.vocabulary,
                softcap=head.softcap,
            )["surprisal"]
        out["loss"][rows] = np.nanmean(losses.double().cpu().numpy(), axis=1)


def _binned(
    entropy: NDArray[np.float64], real: NDArray[np.bool_], edges: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean entropy of each sample's real rows in each bin: (sample, head, row) to (head, sample, bin).

    NaN where a row is NaN, or there is none.
    """
    starts = edges[:-1][edges[:-1] < entropy.shape[-1]]
    values = np.where(real[:, None], entropy, 0.0)
    total = np.add.reduceat(values, starts, axis=-1)
    count = np.add.reduceat(real.astype(np.int64), starts, axis=-1)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = total / count
    found = np.full((*entropy.shape[:2], len(edges) - 1), np.nan)
    found[..., : len(starts)] = means
    return found.swapaxes(0, 1)


def _count(spec: Spec) -> int:
    return min(spec.capture.entropy_scaled.samples, spec.inputs.samples)


def _rows(spec: Spec) -> NDArray[np.int64]:
    """How many real rows of each sample lie in each bin."""
    edges = position_bins(spec.inputs.tokens.shape[1])
    length = spec.inputs.length[: _count(spec), None]
    return np.clip(length, edges[:-1], edges[1:]) - edges[:-1]


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    names, count = conditions(spec.capture.entropy_scaled), _count(spec)
    bins = len(position_bins(spec.inputs.tokens.shape[1])) - 1
    shape = (len(names), spec.shape.blocks, spec.shape.heads, count, bins)
    dims, nan = ("condition", "block", "head", "scaled_sample", "position_bin"), float("nan")
    loss = (len(names), count)
    return {
        "entropy": ArraySpec(dims, shape, "float32", nan, shape, {"units": "nats"}),
        "loss": ArraySpec((dims[0], dims[3]), loss, "float64", nan, loss, {"units": "nats"}),
        "rows": ArraySpec(dims[3:], (count, bins), "int32", 0, (count, bins)),
    }


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    edges = position_bins(spec.inputs.tokens.shape[1])
    return {
        **block_and_head(spec),
        "condition": (("condition",), np.array(conditions(spec.capture.entropy_scaled))),
        "position_bin": (("position_bin",), edges[:-1]),
        "position_end": (("position_bin",), edges[1:]),
        "scaled_group": (("scaled_sample",), spec.inputs.group[: _count(spec)]),
    }


ROW = VisitRow(
    "entropy_scaled",
    _read,
    _layout,
    lambda capture: capture.entropy_scaled.model_dump(),
    version=1,
    source="logits × max(log_c n, 1) and another RoPE base, arXiv 2401.07004 §3.2",
    coordinates=_coordinates,
)
