"""What a visit is: something done to a checkpoint while its weights are loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.tables import CaptureTable

VisitFunction = Callable[[LoadedModel, Spec], xr.Dataset]


def block_and_head(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """Numbers of blocks and heads."""
    return {
        "block": (("block",), np.arange(1, spec.shape.blocks + 1)),
        "head": (("head",), np.arange(spec.shape.heads)),
    }


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
    coordinates
        From a product spec to its coordinates, written once.
    """

    name: str
    function: VisitFunction
    layout: Callable[[Spec], dict[str, ArraySpec]]
    options: Callable[[CaptureTable], dict[str, object]]
    version: int
    source: str
    coordinates: Callable[[Spec], dict[str, tuple[tuple[str, ...], NDArray[Any]]]] = block_and_head
