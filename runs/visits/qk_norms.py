"""A visit that measures W_Q W_Kᵀ and W_V W_O of every head, and what they bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attention.entropy import entropy_bounds
from attention.weights import (
    Spectrum,
    matrix_logit_norm,
    product_spectrum,
    relative_rotation,
    triangle,
    weight_logit_norm,
)
from runs.attention_weights import HeadWeights, Observed, has_query_key_norm, head_weights, observe
from runs.errors import InputError
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.tables import CaptureTable, QkNormsTable
from runs.visits.base import VisitRow, block_and_head

LEVELS = ("row", "matrix", "weight")
_NORMED = ("Olmo2", "Olmo3", "Olmoe", "Qwen3", "Gemma3", "Cohere2", "Chameleon")
_TOKENS = 16  # enough to see whether the weights give the queries and keys

Floats = NDArray[np.float64]


def _measure(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    table = spec.capture.qk_norms
    if "qk" in table.circuits and any(map(has_query_key_norm, loaded.blocks)):
        raise _normed(loaded.shape.architecture)
    data = {
        name: (array.dims, np.full(array.shape, np.nan)) for name, array in _layout(spec).items()
    }

    def weights(block: int, seen: Observed) -> None:
        found = head_weights(loaded, block, seen)
        at = block - 1
        data["folded"][1][at] = found.gain is not None
        if "qk" in table.circuits:
            for place, spectrum in enumerate(_query_key(found, seen, table.offsets)):
                for name, numbers in zip(("qk_norm", "qk_stable_rank"), spectrum, strict=True):
                    data[name][1][at, :, place] = numbers
        if "ov" in table.circuits:
            spectrum = product_spectrum(found.folded("v"), found.o.transpose(0, 2, 1))
            for name, numbers in zip(("ov_norm", "ov_stable_rank"), spectrum, strict=True):
                data[name][1][at] = numbers

    reach = max(_TOKENS, max(table.offsets) + 1)
    observe(loaded, np.resize(spec.inputs.tokens[0, : spec.inputs.length[0]], reach), weights)
    for sample in range(_samples(spec)):

        def bounds(block: int, seen: Observed, sample: int = sample) -> None:
            found = _bounds(loaded, block, seen, weighed="qk" in table.circuits)
            for name, numbers in found.items():
                data[name][1][..., block - 1, :, sample] = numbers

        observe(loaded, spec.inputs.tokens[sample, : spec.inputs.length[sample]], bounds)
    return xr.Dataset(data)


def _query_key(found: HeadWeights, seen: Observed, offsets: tuple[int, ...]) -> list[Spectrum]:
    """Spectrum of W_Q R_Δ W_Kᵀ / √d_h at each offset."""
    scaling = float(seen.rule["scaling"])
    left, right = triangle(found.folded("q")), triangle(found.folded("k"))
    if seen.rotary is None:
        return [product_spectrum(left, right, scaling=scaling)] * len(offsets)
    cosine, sine = (x.float().cpu().double().numpy() for x in seen.rotary)
    size = found.q.shape[-1]
    spectra = []
    for offset in offsets:
        # Scaled embeddings carry their factor in both turns: once more than the row of Δ has.
        turn = relative_rotation(cosine[offset] * cosine[0], sine[offset] * cosine[0], size)
        spectra.append(product_spectrum(left, right, turn, scaling=scaling))
    return spectra


def _bounds(
    loaded: LoadedModel, block: int, seen: Observed, *, weighed: bool
) -> dict[str, NDArray[np.float64]]:
    """Norms of one sample's logits from row to weight, and the entropies that each allows."""
    rule = seen.rule
    bent = [n for n in ("softcap", "bias", "sink") if rule[n] is not None]
    if bent:
        raise InputError(
            f"key `capture.qk_norms.samples`: logits of {loaded.shape.architecture} are not scaled q·k "
            f"alone ({bent[0]}), so a norm of them does not bound entropy; set it to 0"
        )
    scaling = float(rule["scaling"])
    rows, entropy, visible = (
        seen.statistics[n].cpu().double().numpy() for n in ("row_norm", "entropy", "visible")
    )
    q, k = (x.float().cpu().double().numpy() for x in (seen.q, seen.k))
    k = np.repeat(k, len(q) // len(k), axis=0)
    norms = [rows.max(-1), matrix_logit_norm(q, k, scaling=scaling), np.full(len(q), np.nan)]
    if weighed:
        found = head_weights(loaded, block, seen)
        x = seen.x.float().cpu().double().numpy()
        ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        stretch = 1.0 if seen.rotary is None else max(1.0, float(seen.rotary[0][0].max()) ** 2)
        norms[2] = weight_logit_norm(
            ones, found.q, found.k, scaling=scaling * stretch, rotated=seen.rotary is not None
        )
    each = [rows, norms[1][:, None], norms[2][:, None]]
    lower = [entropy_bounds(norm, visible)[0].mean(-1) for norm in each]
    return {"norm": np.stack(norms), "lower": np.stack(lower), "entropy": entropy.mean(-1)}


def _samples(spec: Spec) -> int:
    return min(spec.capture.qk_norms.samples, spec.inputs.samples)


def _normed(architecture: str) -> InputError:
    return InputError(
        f"key `capture.qk_norms.circuits`: {architecture} normalises queries and keys, so W_Q W_Kᵀ alone "
        'does not make its logits; give ["ov"]'
    )


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    table = spec.capture.qk_norms
    if "qk" in table.circuits and spec.shape.architecture.startswith(_NORMED):
        raise _normed(spec.shape.architecture)
    heads, nan = (spec.shape.blocks, spec.shape.heads), float("nan")
    both, logits, nats = ("block", "head"), {"units": "logits"}, {"units": "nats"}
    found = {"folded": ArraySpec(("block",), heads[:1], "float64", nan, heads[:1])}
    if "qk" in table.circuits:
        shape = (*heads, len(table.offsets))
        for name in ("qk_norm", "qk_stable_rank"):
            found[name] = ArraySpec((*both, "offset"), shape, "float64", nan, shape)
    if "ov" in table.circuits:
        for name in ("ov_norm", "ov_stable_rank"):
            found[name] = ArraySpec(both, heads, "float64", nan, heads)
    if count := _samples(spec):
        dims, sizes = ("level", *both, "bound_sample"), (len(LEVELS), *heads, count)
        found["norm"] = ArraySpec(dims, sizes, "float64", nan, sizes, logits)
        found["lower"] = ArraySpec(dims, sizes, "float64", nan, sizes, nats)
        found["entropy"] = ArraySpec(dims[1:], sizes[1:], "float64", nan, sizes[1:], nats)
    return found


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    found = block_and_head(spec)
    found["offset"] = (("offset",), np.array(spec.capture.qk_norms.offsets))
    if count := _samples(spec):
        found["level"] = (("level",), np.array(LEVELS))
        found["bound_group"] = (("bound_sample",), spec.inputs.group[:count])
    return found


def _options(capture: CaptureTable) -> dict[str, object]:
    table: QkNormsTable = capture.qk_norms
    return table.model_dump()


ROW = VisitRow(
    "qk_norms",
    _measure,
    _layout,
    _options,
    version=1,
    source="spectral norms that bound a head's logits, arXiv 2303.06296 Thm 3.1",
    coordinates=_coordinates,
)
