"""A visit that removes, or only retains, the top eigen-directions of the final state and scores again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from probes.directions import Directions, principal_directions
from probes.tokens import token_statistics
from runs.errors import CheckpointError, InputError
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.tables import CaptureTable
from runs.tasks import score_tasks, task_coordinates, task_layout, task_options
from runs.visits.base import VisitRow

Change = Callable[[torch.Tensor], torch.Tensor]
WHOLE = "original"


def conditions(directions: tuple[int, ...]) -> list[str]:
    """Names of what is scored: the whole state, then each number of directions removed and retained."""
    parts = [f"top{k}_{what}" for k in directions for what in ("removed", "retained")]
    return [WHOLE, *parts]


def _changes(found: Directions, directions: tuple[int, ...]) -> list[Change | None]:
    changes: list[Change | None] = [None]
    for k in directions:
        changes += [partial(found.removed, k=k), partial(found.retained, k=k)]
    return changes


def _ablate(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    table = spec.capture.eigen_ablation
    clouds = np.concatenate([_last(loaded, spec, rows) for rows in _batches(spec)])
    if not np.isfinite(clouds).all():
        raise CheckpointError("the final hidden state holds NaN or Inf")
    found = principal_directions(clouds, keep_mean=table.mean == "kept")
    if max(table.directions) > found.basis.shape[1]:
        raise CheckpointError(
            f"capture.eigen_ablation.directions: {max(table.directions)} directions are wanted and "
            f"the states span {found.basis.shape[1]}"
        )
    changes = _changes(found, table.directions)
    loss, hit = _predictions(loaded, spec, changes)
    data: dict[str, Any] = {
        "loss": (("condition", "scored_sample"), loss),
        "accuracy": (("condition", "scored_sample"), hit),
    }
    if table.tasks:
        scores = []
        for change in changes:
            with edited(loaded, table.place, change):
                scores.append(score_tasks(loaded, spec))
        dims = ("condition", "task", "metric")
        data["value"] = (dims, np.stack([s.value for s in scores]))
        data["standard_error"] = (dims, np.stack([s.standard_error for s in scores]))
        data["questions"] = ("task", scores[0].samples)
    return xr.Dataset(data)


@contextmanager
def edited(loaded: LoadedModel, place: str, change: Change | None) -> Iterator[None]:
    """Put a change of every state in place, before or after the final norm, for as long as this holds.

    Parameters
    ----------
    loaded
        A model; every forward pass of it is changed.
    place
        `after_norm` or `before_norm`.
    change
        From states (…, feature) to states; None changes nothing.
    """
    if change is None:
        yield
        return
    made = change
    if place == "after_norm":
        handle = loaded.final_norm.register_forward_hook(lambda _m, _x, out: made(out))
    else:
        handle = loaded.final_norm.register_forward_pre_hook(lambda _m, x: (made(x[0]), *x[1:]))
    try:
        yield
    finally:
        handle.remove()


def _batches(spec: Spec) -> Iterator[slice]:
    size = spec.capture.micro_batch or spec.capture.block
    for start in range(0, spec.inputs.samples, size):
        yield slice(start, start + size)


def _states(loaded: LoadedModel, spec: Spec, rows: slice) -> torch.Tensor:
    """States of some samples where the change is made (sample, position, feature)."""
    kept: list[torch.Tensor] = []
    ids = torch.as_tensor(spec.inputs.tokens[rows], dtype=torch.long, device=loaded.device)

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept.append(x)
        return x

    with torch.inference_mode(), edited(loaded, spec.capture.eigen_ablation.place, keep):
        loaded.forward(ids)
    return kept[0]


def _last(loaded: LoadedModel, spec: Spec, rows: slice) -> NDArray[np.float64]:
    """States of last tokens."""
    states = _states(loaded, spec, rows)
    last = torch.as_tensor(spec.inputs.length[rows] - 1, dtype=torch.long, device=states.device)
    chosen = states[torch.arange(len(states), device=states.device), last]
    cloud: NDArray[np.float64] = chosen.float().cpu().double().numpy()
    return cloud


def _predictions(
    loaded: LoadedModel, spec: Spec, changes: list[Change | None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean surprisal and accuracy of each scored sample under each change (condition, sample)."""
    table = spec.capture.eigen_ablation
    count = _scored(spec)
    loss, hit = (np.empty((len(changes), count)) for _ in range(2))
    size = spec.capture.micro_batch or spec.capture.block
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        states = _states(loaded, spec, rows)
        head = loaded.unembedding.on(states.device)
        targets = _targets(spec, rows).to(states.device)
        for row, change in enumerate(changes):
            with torch.inference_mode():
                final = states if change is None else change(states)
                if table.place == "before_norm":
                    final = loaded.final_norm(final)
                found = token_statistics(
                    final[:, :-1],
                    head.weight,
                    targets,
                    bias=head.bias,
                    vocab_size=spec.vocabulary,
                    softcap=head.softcap,
                )
            there = (targets >= 0).cpu().numpy()
            rank = found["target_rank"].cpu().numpy()
            loss[row, rows] = np.nanmean(found["surprisal"].cpu().double().numpy(), axis=1)
            hit[row, rows] = ((rank == 0) & there).sum(axis=1) / there.sum(axis=1)
    return loss, hit


def _targets(spec: Spec, rows: slice) -> torch.Tensor:
    ids = torch.as_tensor(spec.inputs.tokens[rows], dtype=torch.long)
    length = torch.as_tensor(spec.inputs.length[rows], dtype=torch.long)
    valid = torch.arange(ids.shape[1]) < length[:, None]
    return torch.where(valid[:, 1:], ids[:, 1:], -1)


def _scored(spec: Spec) -> int:
    return min(spec.capture.eigen_ablation.samples, spec.inputs.samples)


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    table = spec.capture.eigen_ablation
    most = min(spec.shape.width, spec.inputs.samples - 1)
    if max(table.directions) > most:
        raise InputError(
            f"key `capture.eigen_ablation.directions`: {max(table.directions)} directions of set "
            f"`{spec.inputs.name}`, whose {spec.inputs.samples} states of width {spec.shape.width} "
            f"span at most {most}; give fewer"
        )
    if len(set(table.directions)) < len(table.directions):
        raise InputError("key `capture.eigen_ablation.directions`: a number is there twice")
    shape = (len(conditions(table.directions)), _scored(spec))
    dims, nan = ("condition", "scored_sample"), float("nan")
    layout = {
        "loss": ArraySpec(dims, shape, "float64", nan, shape, {"units": "nats"}),
        "accuracy": ArraySpec(dims, shape, "float64", nan, shape),
    }
    return layout | task_layout(spec, ("condition", shape[0])) if table.tasks else layout


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    table = spec.capture.eigen_ablation
    own: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {
        "condition": (("condition",), np.array(conditions(table.directions)))
    }
    return own | task_coordinates(spec) if table.tasks else own


def _options(capture: CaptureTable) -> dict[str, object]:
    table = capture.eigen_ablation
    own: dict[str, object] = table.model_dump()
    return own | {"lm_eval": task_options(capture)} if table.tasks else own


ROW = VisitRow(
    "eigen_ablation",
    _ablate,
    _layout,
    _options,
    version=1,
    source="eigen-directions of last-token states removed or retained, arXiv 2509.23024 Table 8",
    coordinates=_coordinates,
)
