"""A visit that carries states between text-easy and vision-easy versions of a case, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from probes.cases import Cases
from runs.errors import InputError
from runs.inputs import Scenes
from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.tables import CaptureTable
from runs.vision.asking import Answers, answers_of, open_adapter, scenes_of
from runs.vision.base import VisionAdapter
from runs.vision.editing import edited, image_positions, states_of
from runs.visits.base import VisitRow

NAME = "modality_patching"
DIRECTIONS = ("text_into_vision", "vision_into_text")
SITES = ("answer", "image", "text", "sequence")

Places = tuple[torch.Tensor, torch.Tensor]  # in the receiver, and as many in the donor


@dataclass(frozen=True)
class Version:
    """One version of a case, asked once.

    Attributes
    ----------
    words, image
        Its prompt.
    states : list of tensor (position, feature)
        Of layers 0 … L.
    seen : int tensor
        Positions of the image.
    difference : float
        Logit of the text's answer less that of the image's.
    """

    words: str
    image: NDArray[np.uint8]
    states: list[torch.Tensor]
    seen: torch.Tensor
    difference: float


def choose_pairs(cases: Cases, *, pairs: int, seed: int) -> NDArray[np.int64]:
    """The text-easy and the vision-easy version of the case of some groups (pair, 2).

    Of a group's conflicts, the easiest text with the hardest image, and the easiest image with the
    hardest text; groups are drawn without replacement. Left out are those in which both are one case, or
    differ in question or answers.
    """
    asked = list(zip(cases.question, cases.answer_text, cases.answer_image, strict=True))
    found = []
    for group in np.random.default_rng(seed).permutation(np.unique(cases.group)):
        rows = np.flatnonzero((cases.group == group) & (cases.kind == "conflict"))
        text, image = cases.text_tier[rows].astype(int), cases.visual_tier[rows].astype(int)
        if len(rows) and (np.ptp(text) or np.ptp(image)):
            easy_text = rows[np.lexsort((-image, text))[0]]
            easy_image = rows[np.lexsort((-text, image))[0]]
            if asked[easy_text] == asked[easy_image]:
                found.append((easy_text, easy_image))
    return np.array(found[:pairs], np.int64).reshape(-1, 2)


def _pairs(spec: Spec) -> NDArray[np.int64]:
    table = spec.capture.modality_patching
    chosen = choose_pairs(scenes_of(spec, NAME).cases, pairs=table.pairs, seed=table.seed)
    if len(chosen) < 2:
        raise InputError(
            f"key `inputs.{spec.inputs.name}`: `{NAME}` compares conflicts of one group that differ in "
            f"tier, and {len(chosen)} groups have any; add groups, `text_tiers` or `visual_tiers`"
        )
    return chosen


def _patch(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    scenes, layout, pairs = scenes_of(spec, NAME), _layout(spec), _pairs(spec)
    cases = scenes.cases
    answers = answers_of(spec, cases)
    adapter = open_adapter(loaded, spec, cases, answers)
    found = {name: np.full(a.shape, np.nan, a.dtype) for name, a in layout.items()}
    for number, pair in enumerate(pairs):
        both = [_version(loaded, adapter, scenes, answers, int(sample)) for sample in pair]
        tokens = _two(answers, int(pair[0]))
        for direction in range(len(DIRECTIONS)):
            donor, receiver = both[direction], both[1 - direction]
            found["donor"][direction, number] = donor.difference
            found["receiver"][direction, number] = receiver.difference
            for (site, layer), value in _run(loaded, adapter, spec, donor, receiver, tokens):
                found["patched"][direction, site, layer, number] = value
    return xr.Dataset({name: (layout[name].dims, value) for name, value in found.items()})


def _two(answers: Answers, sample: int) -> tuple[int, int]:
    """Tokens of the answers that text and image support."""
    token = answers.token[sample]
    return int(token[answers.text[sample]]), int(token[answers.image[sample]])


@torch.inference_mode()
def _version(
    loaded: LoadedModel, adapter: VisionAdapter, scenes: Scenes, answers: Answers, sample: int
) -> Version:
    cases = scenes.cases
    words = f"{cases.text[sample]} {cases.question[sample]}".strip()
    image = scenes.image(int(cases.image[sample]))
    inputs = adapter.inputs([words], [image])
    states, last = states_of(loaded, adapter, inputs)
    seen = image_positions(loaded, inputs, adapter.inputs([words], None))
    difference = _difference(adapter, last, _two(answers, sample))
    return Version(words, image, [s[0] for s in states], seen, float(difference[0]))


def _difference(
    adapter: VisionAdapter, states: torch.Tensor, tokens: tuple[int, int]
) -> torch.Tensor:
    logits = adapter.final_logits(states[-1])
    return logits[:, tokens[0]] - logits[:, tokens[1]]


def places(donor: Version, receiver: Version) -> dict[int, Places]:
    """Which positions are exchanged at each site; an image of another number of patches at none.

    Words are counted from the end, where both versions ask the same question; what a longer text has
    before is left as it is.
    """
    length, other = len(receiver.states[0]), len(donor.states[0])
    mine, theirs = (_words(version) for version in (receiver, donor))
    common = min(len(mine), len(theirs))
    answer = (torch.tensor([length - 1]), torch.tensor([other - 1]))
    text = (mine[len(mine) - common :], theirs[len(theirs) - common :])
    found = {SITES.index("answer"): answer, SITES.index("text"): text}
    if len(receiver.seen) == len(donor.seen):
        image = (receiver.seen.cpu(), donor.seen.cpu())
        whole = tuple(torch.cat(part) for part in zip(image, text, answer, strict=True))
        found |= {SITES.index("image"): image, SITES.index("sequence"): (whole[0], whole[1])}
    return found


def _words(version: Version) -> torch.Tensor:
    """Positions of words but the last, which the answer is read at."""
    there = torch.ones(len(version.states[0]), dtype=torch.bool)
    there[version.seen.cpu()] = False
    there[-1] = False
    return there.nonzero().flatten()


def _run(
    loaded: LoadedModel,
    adapter: VisionAdapter,
    spec: Spec,
    donor: Version,
    receiver: Version,
    tokens: tuple[int, int],
) -> Iterator[tuple[tuple[int, int], float]]:
    """Logit differences of the receiver with the donor's states, by (site, layer)."""
    where = places(donor, receiver)
    jobs = list(product(where, range(loaded.shape.blocks + 1)))
    size = spec.capture.micro_batch or spec.capture.block
    for start in range(0, len(jobs), size):
        part = jobs[start : start + size]
        with torch.inference_mode():
            inputs = adapter.inputs([receiver.words] * len(part), [receiver.image] * len(part))
            with edited(loaded.blocks, partial(_exchange, jobs=part, where=where, donor=donor)):
                states = adapter.final_states(inputs)
            values = _difference(adapter, states, tokens).cpu().tolist()
        yield from zip(part, values, strict=True)


def _exchange(
    layer: int,
    state: torch.Tensor,
    *,
    jobs: list[tuple[int, int]],
    where: dict[int, Places],
    donor: Version,
) -> torch.Tensor:
    rows = [row for row, (_, at) in enumerate(jobs) if at == layer]
    if not rows:
        return state
    changed = state.clone()
    for row in rows:
        mine, theirs = where[jobs[row][0]]
        changed[row, mine] = donor.states[layer][theirs].to(state.device)
    return changed


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    pairs = len(_pairs(spec))
    answers_of(spec, scenes_of(spec, NAME).cases)  # what cannot be told apart is refused here
    two, units, nan = (len(DIRECTIONS), pairs), {"units": "logit"}, float("nan")
    whole = (len(DIRECTIONS), len(SITES), spec.shape.blocks + 1, pairs)
    plain = ArraySpec(("direction", "pair"), two, "float32", nan, two, units)
    dims = ("direction", "site", "layer", "pair")
    return {
        "patched": ArraySpec(dims, whole, "float32", nan, whole, units),
        "receiver": plain,
        "donor": plain,
    }


def _coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    return {
        "direction": (("direction",), np.array(DIRECTIONS)),
        "site": (("site",), np.array(SITES)),
        "layer": (("layer",), np.arange(spec.shape.blocks + 1)),
        "pair_group": (("pair",), spec.inputs.group[_pairs(spec)[:, 0]]),
    }


def _options(capture: CaptureTable) -> dict[str, object]:
    return capture.modality_patching.model_dump() | {"answers": capture.answers.model_dump()}


ROW = VisitRow(
    NAME,
    _patch,
    _layout,
    _options,
    version=1,
    source="activation patching between text-easy and vision-easy versions of a conflict; question of "
    "arXiv 2511.02243, method of 2309.16042",
    coordinates=_coordinates,
)
