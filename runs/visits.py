"""Visits: things done to a checkpoint while its weights are loaded, one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr

from probes.ablation import head_ablation
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.recipe import CaptureTable

VisitFunction = Callable[[LoadedModel, Spec], xr.Dataset]


@dataclass(frozen=True)
class VisitRow:
    """One visit of the catalogue.

    Attributes
    ----------
    name : str
        What `[capture] visits` lists; also the product's name in the store.
    function
        Called with the loaded model and the set's spec; gives a Dataset whose variables are those of
        `layout`.
    layout
        From a product spec to array specs; known before any checkpoint is loaded.
    options
        What of the recipe decides its numbers.
    version : int
        Raised when numbers change.
    source : str
        Where the method comes from.
    """

    name: str
    function: VisitFunction
    layout: Callable[[Spec], dict[str, ArraySpec]]
    options: Callable[[CaptureTable], dict[str, object]]
    version: int
    source: str


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


VISITS: dict[str, VisitRow] = {
    row.name: row
    for row in (
        VisitRow(
            "head_ablation",
            _ablate,
            _ablation_layout,
            lambda capture: capture.head_ablation.model_dump(),
            version=1,
            source="zero ablation of one head's output before the output projection, "
            "arXiv 1905.10650 §2",
        ),
    )
}
