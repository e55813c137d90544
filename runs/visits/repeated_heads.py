"""A visit that asks every head what it does with repeated random tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from attention.offsets import offset_mass
from probes.repetition import Reading, Repetition, later_rows, readings
from runs.attention_tap import AttentionTap
from runs.errors import CheckpointError
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.visits.base import VisitRow, block_and_head
from runs.visits.repetition import copy_means, layout_of, parts

NAME = "repeated_heads"


class HeadReadings:
    """Reads each block's attention as it is made; an `Inspector`.

    Attributes
    ----------
    names : list of str
        Of what is read, in order: `probes.repetition.readings`, then `first_key` and `uniformity`.
    blocks : dict of int to float64 array (reading, head, sample)
    """

    def __init__(self, layout: Repetition) -> None:
        self._readings = readings(layout)
        self._offsets = sorted({o for r in self._readings.values() for o in r.entries})
        self._later = torch.as_tensor(later_rows(layout))
        self.names = [*self._readings, "first_key", "uniformity"]
        self.blocks: dict[int, NDArray[np.float64]] = {}

    def __call__(
        self,
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rule: Mapping[str, Any],
        statistics: Mapping[str, torch.Tensor],
        output: torch.Tensor,
    ) -> None:
        """Read one block."""
        mass = offset_mass(query, key, statistics["log_normaliser"], self._offsets, **rule)
        # What a window hides has no attention; padding there is none.
        mass = mass.nan_to_num(0.0) if rule["window"] is not None else mass
        columns = {o: mass[..., i].cpu().double() for i, o in enumerate(self._offsets)}
        found = [self._read(columns, reading) for reading in self._readings.values()]
        for name in ("first_key", "normalised_entropy"):
            found.append(statistics[name].cpu().double()[..., self._later].mean(-1))
        self.blocks[block] = torch.stack(found).transpose(1, 2).numpy()

    @staticmethod
    def _read(columns: Mapping[int, torch.Tensor], reading: Reading) -> torch.Tensor:
        """One reading of every sample and head (sample, head)."""
        rows = {offset: torch.as_tensor(queries) for offset, queries in reading.entries.items()}
        total = sum(columns[offset][..., queries].sum(-1) for offset, queries in rows.items())
        return torch.as_tensor(total) / reading.divisor


def read_heads(
    loaded: LoadedModel, spec: Spec, layout: Repetition, samples: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Readings of every head, and the loss of each copy.

    Parameters
    ----------
    loaded, spec, layout
        A model and a set of repeated tokens.
    samples
        So many of the set; all by default.

    Returns
    -------
    readings : float64 array (reading, block, head, sample)
        As `HeadReadings.names`.
    loss : float64 array (copy, sample)
        Nats.

    Raises
    ------
    CheckpointError
        If a block's attention was not seen.
    """
    masses, losses = [], []
    for rows in parts(spec, samples):
        reader = HeadReadings(layout)
        with AttentionTap(inspect=reader):
            surprisal = loaded.predicted(
                spec.inputs.tokens[rows], spec.inputs.length[rows], vocabulary=spec.vocabulary
            )
        if sorted(reader.blocks) != list(range(1, spec.shape.blocks + 1)):
            raise CheckpointError(
                f"{spec.shape.architecture}: the attention of {len(reader.blocks)} of "
                f"{spec.shape.blocks} blocks was seen; `{NAME}` needs all"
            )
        masses.append(np.stack([reader.blocks[b + 1] for b in range(spec.shape.blocks)], axis=1))
        losses.append(copy_means(surprisal, layout))
    return np.concatenate(masses, axis=-1), np.concatenate(losses, axis=-1)


def _visit(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    layout = layout_of(spec, NAME)
    mass, loss = read_heads(loaded, spec, layout)
    return xr.Dataset(
        {
            "mass": (("reading", "block", "head", "sample"), mass.astype(np.float32)),
            "loss": (("copy", "sample"), loss),
        }
    )


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    layout, shape, samples = layout_of(spec, NAME), spec.shape, spec.inputs.samples
    count = len(HeadReadings(layout).names)
    sizes = (count, shape.blocks, shape.heads, samples)
    copies, nan = (layout.repeats, samples), float("nan")
    return {
        "mass": ArraySpec(
            ("reading", "block", "head", "sample"), sizes, "float32", nan, sizes, {"units": "1"}
        ),
        "loss": ArraySpec(("copy", "sample"), copies, "float64", nan, copies, {"units": "nats"}),
    }


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    layout = layout_of(spec, NAME)
    return {
        **block_and_head(spec),
        "reading": (("reading",), np.array(HeadReadings(layout).names)),
        "copy": (("copy",), np.arange(1, layout.repeats + 1)),
    }


ROW = VisitRow(
    NAME,
    _visit,
    _layout,
    lambda _: {},
    version=1,
    source="previous-token, duplicate-token and induction heads on repeated random tokens, "
    "arXiv 2209.11895; valid rows only",
    coordinates=_coordinates,
)
