"""What every capture product is made of: a layout in the store and a collector for one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from runs.architectures import ModelShape
from runs.inputs import InputSet
from runs.loaded import Unembedding
from runs.ngrams.source import NgramSource
from runs.points import Points
from runs.tables import CaptureTable

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ArraySpec:
    """One array of the store; a leading `checkpoint` dimension with chunk 1 is added by the store.

    Attributes
    ----------
    dims, shape
        Without `checkpoint`.
    dtype : str
        NumPy dtype.
    fill : float or int
        Value of cells that were never written.
    chunks : tuple of int
        Each chunk is written whole, by one writer.
    attrs : dict
        Units and meaning.
    written : int or None
        Bytes of the chunks that are ever written, if some keep the fill value.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    fill: float
    chunks: tuple[int, ...]
    attrs: Mapping[str, str] = field(default_factory=dict)
    written: int | None = None

    @property
    def bytes(self) -> int:
        """Bytes of one checkpoint on disk, before compression."""
        if self.written is not None:
            return self.written
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Spec:
    """Everything that decides what a product of one set looks like.

    Attributes
    ----------
    inputs, points, shape, capture
        The set, its points, the model's sizes and the recipe's table.
    vocabulary : int
        Entries of the unembedding that are tokens; what is beyond them is padding.
    ngrams : NgramSource or None
        The text the model was trained on, if the recipe names it.
    tokenizer : Path or None
        Where the tokenizer is, for visits that read text of their own.
    """

    inputs: InputSet
    points: Points
    shape: ModelShape
    capture: CaptureTable
    vocabulary: int
    ngrams: NgramSource | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True)
class Batch:
    """A block of samples, or a part of one, on its way through the model.

    Attributes
    ----------
    samples : int array
        Their rows in the set.
    fold : int
        1…8; a block never crosses folds.
    tokens : int64 tensor (sample, position)
        Cut to the longest sample of the block.
    mask : bool tensor (sample, position)
        True at real tokens.
    """

    samples: NDArray[np.int64]
    fold: int
    tokens: torch.Tensor
    mask: torch.Tensor

    def part(self, rows: slice) -> Batch:
        """Some of its samples."""
        return Batch(self.samples[rows], self.fold, self.tokens[rows], self.mask[rows])

    def on(self, device: torch.device) -> Batch:
        """The same batch with tensors where a state is: layers may lie on several devices."""
        if self.mask.device == device:
            return self
        return Batch(self.samples, self.fold, self.tokens.to(device), self.mask.to(device))


class Collector(Protocol):
    """Takes what one checkpoint shows of one set and turns it into arrays.

    Attributes
    ----------
    sums : bool
        Whether its numbers depend on how samples are grouped, so that it must see whole blocks.
    """

    sums: bool

    def layers(self) -> frozenset[int]:
        """Layers it wants to see."""
        ...

    def wants_attention(self) -> bool:
        """Whether it wants row statistics."""
        ...

    def hidden(self, layer: int, state: torch.Tensor, batch: Batch) -> None:
        """Take one layer of one block (sample, position, feature)."""
        ...

    def attention(self, block: int, rows: Mapping[str, torch.Tensor], batch: Batch) -> None:
        """Take the row statistics (sample, head, position) of one block."""
        ...

    def finish(self) -> Arrays:
        """Give the arrays of `Product.layout`."""
        ...


class Product(Protocol):
    """One thing captured for a set."""

    name: str

    def options(self, capture: CaptureTable) -> Mapping[str, object]:
        """What of the recipe decides its arrays; part of the store's identity."""
        ...

    def layout(self, spec: Spec) -> dict[str, ArraySpec]:
        """Its arrays."""
        ...

    def coordinates(self, spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
        """Its coordinates, written once."""
        ...

    def collector(self, spec: Spec, unembedding: Unembedding) -> Collector:
        """A fresh collector for one checkpoint."""
        ...


def layer_coordinates(shape: ModelShape) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """`layer` 0 … L+1 and its names."""
    return {
        "layer": (("layer",), np.arange(shape.layers)),
        "layer_name": (("layer",), np.array(shape.layer_names)),
    }


class HiddenOnly:
    """Mixin for collectors that take no attention."""

    sums = False

    def wants_attention(self) -> bool:
        """False."""
        return False

    def attention(self, block: int, rows: Mapping[str, torch.Tensor], batch: Batch) -> None:
        """Take nothing."""
