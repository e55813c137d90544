"""A visit that pushes cases near the balance point along the direction from image to text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from probes.answer_statistics import answer_statistics
from probes.cases import Cases
from probes.modality import balance_point, relative_uncertainty
from probes.steering import difference_of_means, random_directions
from runs.errors import InputError
from runs.inputs import FOLDS, Scenes
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.tables import CaptureTable
from runs.vision.asking import Answers, answers_of, batches, open_adapter, questions, scenes_of
from runs.vision.base import Conditions, VisionAdapter
from runs.vision.editing import edited
from runs.visits.base import VisitRow

NAME = "modality_steering"
FITTED = "fitted"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What one condition gives for some cases.

    Attributes
    ----------
    chosen : int array (case,)
        The strongest candidate; −1 where the strongest word of all is none.
    entropy : float array (case,)
        Of the answer, over the whole vocabulary.
    states : float32 array (case, layer, feature)
        At the last position, of the layers to steer; none where one modality is asked alone.
    """

    chosen: NDArray[np.int64]
    entropy: Floats
    states: NDArray[np.float32]


def pools(cases: Cases, fold: NDArray[np.uint8], *, pool: int, seed: int) -> tuple[Any, Any]:
    """Conflicts the direction is fitted on, and others to steer: no group is in both (case,) each.

    At most `pool` of each are drawn, from the first and the last half of the folds.
    """
    generator, found = np.random.default_rng(seed), []
    for half in (fold <= FOLDS // 2, fold > FOLDS // 2):
        rows = np.flatnonzero((cases.kind == "conflict") & half)
        found.append(np.sort(generator.permutation(rows)[:pool]))
    return found[0], found[1]


def _pools(spec: Spec) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    table = spec.capture.modality_steering
    cases = scenes_of(spec, NAME).cases
    fitted, held_out = pools(cases, spec.inputs.fold, pool=table.pool, seed=table.seed)
    if min(len(fitted), len(held_out)) < 2:
        raise InputError(
            f"key `inputs.{spec.inputs.name}`: `{NAME}` fits a direction on some conflicts and tries it "
            "on others, and there are too few; add groups"
        )
    return fitted, held_out


def _steer(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    scenes, layout, table = scenes_of(spec, NAME), _layout(spec), spec.capture.modality_steering
    answers = answers_of(spec, scenes.cases)
    adapter = open_adapter(loaded, spec, scenes.cases, answers)
    found = {name: np.full(a.shape, a.fill, a.dtype) for name, a in layout.items()}
    fitted, held_out = _pools(spec)
    rows = np.concatenate([fitted, held_out])
    alone = {c: _read(adapter, spec, scenes, answers, rows, c) for c in ("image", "text")}
    both = _read(adapter, spec, scenes, answers, rows, "both")
    delta = relative_uncertainty(alone["text"].entropy, alone["image"].entropy)
    follows = _follows(answers, rows, alone, both.chosen)
    first = np.arange(len(rows)) < len(fitted)
    known = first & ~np.isnan(follows)
    group = spec.inputs.group[rows]
    balance = balance_point(delta[known], follows[known], groups=group[known], resamples=0)
    # Without a crossing there is no point to be near; cases of equal uncertainty stand in.
    centre = balance.value if balance.crossed else 0.0
    found["balance_point"][...] = balance.value
    found["fitted_on"][...] = known.sum()
    near = np.flatnonzero(~first & ~np.isnan(follows) & ~np.isnan(delta))
    near = near[np.argsort(np.abs(delta[near] - centre), kind="stable")][: _count(spec)]
    found["steered_sample"][: len(near)] = rows[near]
    found["steered_group"][: len(near)] = group[near]
    found["delta"][: len(near)] = delta[near]
    layers = _layers(spec)
    directions = difference_of_means(both.states[known], follows[known] > 0.5)
    if len(near) and np.isfinite(directions).all():
        for number, (layer, direction) in enumerate(zip(layers, directions, strict=True)):
            controls = random_directions(direction, table.controls, table.seed + layer)
            pushed = np.concatenate([direction[None], controls])
            difference, other = _push(
                adapter, loaded, spec, scenes, answers, rows[near], layer, pushed
            )
            found["difference"][number, ..., : len(near)] = difference
            found["other"][number, ..., : len(near)] = other
    return xr.Dataset({name: (layout[name].dims, value) for name, value in found.items()})


def _follows(
    answers: Answers, rows: NDArray[np.int64], alone: dict[Any, Reading], chosen: NDArray[np.int64]
) -> Floats:
    """1 for the text, 0 for the image, NaN for neither, or if a modality alone is answered wrongly."""
    text, image = answers.text[rows], answers.image[rows]
    solved = (alone["text"].chosen == text) & (alone["image"].chosen == image)
    return np.where(
        solved & (chosen == text), 1.0, np.where(solved & (chosen == image), 0.0, np.nan)
    )


def _read(
    adapter: VisionAdapter,
    spec: Spec,
    scenes: Scenes,
    answers: Answers,
    rows: NDArray[np.int64],
    condition: Conditions,
) -> Reading:
    asked = questions(scenes.cases.part(rows), condition)
    token = np.empty((len(asked.texts), answers.token.shape[1]), np.int64)
    token[asked.row] = answers.token[rows]
    chosen, entropy, kept = [], [], []
    for part, texts, images in batches(spec, scenes, asked):
        with torch.inference_mode():
            states = adapter.final_states(adapter.inputs(texts, images))
            found = answer_statistics(adapter.final_logits(states[-1]), vocabulary=spec.vocabulary)
        top = found["top1"].cpu().numpy()
        same = token[part] == top[:, None]
        chosen.append(np.where(same.any(1), same.argmax(1), -1))
        entropy.append(found["entropy"].cpu().numpy())
        if condition == "both":
            kept.append(states[_layers(spec)].transpose(0, 1).float().cpu().numpy())
    states_of = np.concatenate(kept)[asked.row] if kept else np.empty((len(rows), 0, 0), np.float32)
    return Reading(np.concatenate(chosen)[asked.row], np.concatenate(entropy)[asked.row], states_of)


def _push(
    adapter: VisionAdapter,
    loaded: LoadedModel,
    spec: Spec,
    scenes: Scenes,
    answers: Answers,
    rows: NDArray[np.int64],
    layer: int,
    directions: Floats,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logit difference, and whether neither answer wins, by (direction, strength, case)."""
    cases, strengths = scenes.cases.part(rows), spec.capture.modality_steering.strengths
    token = answers.token[rows]
    each = np.arange(len(rows))
    two = np.stack([token[each, answers.text[rows]], token[each, answers.image[rows]]], axis=1)
    shape = (len(directions), len(strengths), len(rows))
    difference, other = np.empty(shape, np.float32), np.empty(shape, np.float32)
    size = spec.capture.micro_batch or spec.capture.block
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        words = [
            f"{t} {q}".strip() for t, q in zip(cases.text[part], cases.question[part], strict=True)
        ]
        images = [scenes.image(int(number)) for number in cases.image[part]]
        chosen = torch.as_tensor(two[part], dtype=torch.long, device=loaded.device)
        with torch.inference_mode():
            inputs = adapter.inputs(words, images)
            for place in np.ndindex(shape[:2]):
                vector = torch.as_tensor(directions[place[0]] * strengths[place[1]])
                logits = _pushed(adapter, loaded, inputs, layer, vector)[:, : spec.vocabulary]
                pair = logits.gather(1, chosen.to(logits.device))
                top = logits.argmax(1, keepdim=True)
                difference[place][part] = (pair[:, 0] - pair[:, 1]).cpu().numpy()
                other[place][part] = (top != chosen.to(top.device)).all(1).cpu().numpy()
    return difference, other


def _pushed(
    adapter: VisionAdapter, loaded: LoadedModel, inputs: Any, layer: int, vector: torch.Tensor
) -> torch.Tensor:
    """Final logits with a vector added at the answer's position of one layer."""

    def push(at: int, state: torch.Tensor) -> torch.Tensor:
        if at != layer:
            return state
        changed = state.clone()
        changed[:, -1] += vector.to(state.device, state.dtype)
        return changed

    with edited(loaded.blocks, push):
        states = adapter.final_states(inputs)
    return adapter.final_logits(states[-1])


def _layers(spec: Spec) -> list[int]:
    wanted = spec.capture.modality_steering.layers
    layers = list(wanted or range(1, spec.shape.blocks + 1))
    if layers[-1] > spec.shape.blocks:
        raise InputError(
            f"key `capture.{NAME}.layers`: there is no layer {layers[-1]}; the model has "
            f"{spec.shape.blocks} blocks"
        )
    return layers


def _count(spec: Spec) -> int:
    return min(spec.capture.modality_steering.cases, len(_pools(spec)[1]))


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    table, cases = spec.capture.modality_steering, _count(spec)
    answers_of(spec, scenes_of(spec, NAME).cases)  # what cannot be told apart is refused here
    shape = (len(_layers(spec)), table.controls + 1, len(table.strengths), cases)
    dims, nan = ("layer", "direction", "strength", "near_case"), float("nan")
    one, one_shape = ("near_case",), (cases,)
    return {
        "difference": ArraySpec(dims, shape, "float32", nan, shape, {"units": "logit"}),
        "other": ArraySpec(dims, shape, "float32", nan, shape, {"units": "1"}),
        "delta": ArraySpec(one, one_shape, "float64", nan, one_shape, {"units": "1"}),
        "steered_sample": ArraySpec(one, one_shape, "int32", -1, one_shape, {"units": "1"}),
        "steered_group": ArraySpec(one, one_shape, "int32", -1, one_shape, {"units": "1"}),
        "balance_point": ArraySpec((), (), "float64", nan, (), {"units": "1"}),
        "fitted_on": ArraySpec((), (), "int32", 0, (), {"units": "cases"}),
    }


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    table = spec.capture.modality_steering
    names = [FITTED, *(f"random {number + 1}" for number in range(table.controls))]
    return {
        "layer": (("layer",), np.array(_layers(spec))),
        "direction": (("direction",), np.array(names)),
        "strength": (("strength",), np.array(table.strengths)),
    }


def _options(capture: CaptureTable) -> dict[str, object]:
    return capture.modality_steering.model_dump() | {"answers": capture.answers.model_dump()}


ROW = VisitRow(
    NAME,
    _steer,
    _layout,
    _options,
    version=1,
    source="difference-in-means direction from following the image to following the text, added near the "
    "balance point of arXiv 2511.02243; steering after 2310.06824",
    coordinates=_coordinates,
)
