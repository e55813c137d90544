"""A visit that silences the strongest induction heads together, and as many random ones beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from runs.errors import InputError
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.tables import CaptureTable
from runs.visits.base import VisitRow
from runs.visits.repeated_heads import HeadReadings, read_heads
from runs.visits.repetition import copy_losses, layout_of

NAME = "induction_ablation"


def choose_heads(
    scores: NDArray[Any], *, heads: int, draws: int, seed: int
) -> list[list[tuple[int, int]]]:
    """No head, the strongest heads, then random ones of the others.

    Parameters
    ----------
    scores : float array (block, head)
        Induction scores.
    heads, draws, seed
        How many are silenced together, how many random groups are drawn, and from which seed.

    Returns
    -------
    list of 2 + draws lists of (block from 1, head)
        Random groups are drawn without replacement from all heads but the strongest.
    """
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf).ravel(), kind="stable")
    generator = np.random.default_rng(seed)
    groups = [order[:0], order[:heads]]
    groups += [generator.choice(order[heads:], heads, replace=False) for _ in range(draws)]
    width = scores.shape[1]
    return [[(int(i) // width + 1, int(i) % width) for i in group] for group in groups]


def _visit(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    layout, table = layout_of(spec, NAME), spec.capture.induction_ablation
    count = min(table.samples, spec.inputs.samples)
    masses, _ = read_heads(loaded, spec, layout, count)
    scores = masses[HeadReadings(layout).names.index("induction")].mean(-1)
    groups = choose_heads(scores, heads=table.heads, draws=table.draws, seed=table.seed)
    loss = [
        copy_losses(loaded, spec, layout, zero_heads=frozenset(group), samples=count)
        for group in groups
    ]
    silenced = np.array(groups[1:], dtype=np.int32)
    return xr.Dataset(
        {
            "loss": (("group", "copy", "ablated_sample"), np.stack(loss)),
            "silenced": (("silent_group", "member", "place"), silenced),
        }
    )


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    layout, table, shape = layout_of(spec, NAME), spec.capture.induction_ablation, spec.shape
    if 2 * table.heads > shape.blocks * shape.heads:
        raise InputError(
            f"key `capture.{NAME}.heads`: {table.heads} heads beside as many others are more than the "
            f"{shape.blocks * shape.heads} of the model; give fewer"
        )
    count = min(table.samples, spec.inputs.samples)
    sizes = (table.draws + 2, layout.repeats, count)
    silent = (table.draws + 1, table.heads, 2)
    return {
        "loss": ArraySpec(
            ("group", "copy", "ablated_sample"),
            sizes,
            "float64",
            float("nan"),
            sizes,
            {"units": "nats"},
        ),
        "silenced": ArraySpec(
            ("silent_group", "member", "place"), silent, "int32", 0, silent, {"units": "1"}
        ),
    }


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    names = ["none", "strongest"]
    names += [f"random {n + 1}" for n in range(spec.capture.induction_ablation.draws)]
    return {
        "group": (("group",), np.array(names)),
        "copy": (("copy",), np.arange(1, layout_of(spec, NAME).repeats + 1)),
        "place": (("place",), np.array(["block", "head"])),
    }


def _options(capture: CaptureTable) -> dict[str, object]:
    return dict(capture.induction_ablation.model_dump())


ROW = VisitRow(
    NAME,
    _visit,
    _layout,
    _options,
    version=1,
    source="zero ablation of the strongest induction heads together, against random heads; after arXiv "
    "2209.11895, argument 3",
    coordinates=_coordinates,
)
