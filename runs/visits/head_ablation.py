"""A visit that silences heads one by one."""

from __future__ import annotations

import xarray as xr

from probes.ablation import head_ablation
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.visits.base import VisitRow


def _ablate(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    count = min(spec.capture.head_ablation.samples, spec.inputs.samples)
    tokens, length = spec.inputs.tokens[:count], spec.inputs.length[:count]
    whole, ablated = head_ablation(
        lambda head: loaded.ablated_losses(tokens, length, head, vocabulary=spec.vocabulary),
        blocks=loaded.shape.blocks,
        heads=loaded.shape.heads,
    )
    return xr.Dataset(
        {"loss": ("sample", whole), "ablated_loss": (("block", "head", "sample"), ablated)}
    )


def _ablation_layout(spec: Spec) -> dict[str, ArraySpec]:
    count = min(spec.capture.head_ablation.samples, spec.inputs.samples)
    shape = (spec.shape.blocks, spec.shape.heads, count)
    nan, units = float("nan"), {"units": "nats"}
    return {
        "loss": ArraySpec(("ablated_sample",), (count,), "float64", nan, (count,), units),
        "ablated_loss": ArraySpec(
            ("block", "head", "ablated_sample"), shape, "float64", nan, shape, units
        ),
    }


ROW = VisitRow(
    "head_ablation",
    _ablate,
    _ablation_layout,
    lambda capture: capture.head_ablation.model_dump(),
    version=1,
    source="zero ablation of one head's output before the output projection, arXiv 1905.10650 §2",
)
