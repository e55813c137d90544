"""What a visit is: something done to a checkpoint while its weights are loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr

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
