"""Sets of mode `scenes`: conflict cases, their prompts as tokens, and images drawn when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.cases import Cases, Image
from runs.errors import InputError
from runs.inputs import FOLDS, InputSet, Tokenizer, assign_folds, set_digest
from runs.recipe import InputTable
from runs.repeated_inputs import check_memory
from runs.scene_files import StoredScenes, read_scenes

_STYLES = {"paper": "probes.scenes", "tiny": "probes.tiny_scenes"}
_LABELS = (
    "subset",
    "kind",
    "answer_image",
    "answer_text",
    "visual_tier",
    "text_tier",
    "typicality",
)
_IMAGES_IN_DIGEST = 16


@dataclass(frozen=True)
class DrawnScenes:
    """Cases whose images are drawn from plans, one at a time.

    Attributes
    ----------
    cases : Cases
    plans : sequence
        What draws image `number` is `plans[number]`.
    render : callable
        From a plan to pixels.
    """

    cases: Cases
    plans: Sequence[Any] = field(repr=False)
    render: Callable[[Any], Image]

    def image(self, number: int) -> Image:
        """Image `number` of `Cases.image` (height, width, 3)."""
        return self.render(self.plans[number])

    def digest(self) -> str:
        """SHA-256 of up to 16 images, evenly spread: a drawing that changed is another set."""
        numbers = np.unique(self.cases.image)
        spread = np.linspace(0, len(numbers) - 1, min(_IMAGES_IN_DIGEST, len(numbers))).astype(int)
        state = hashlib.sha256()
        for number in numbers[spread]:
            image = self.image(int(number))
            state.update(f"{number}{image.shape}".encode() + image.tobytes())
        return state.hexdigest()


def make_scenes(
    style: str,
    *,
    groups: int,
    seed: int,
    subsets: Sequence[str] | None = None,
    visual_tiers: Sequence[int] | None = None,
    text_tiers: Sequence[int] | None = None,
) -> DrawnScenes:
    """Cases of all kinds in one of the styles; what is None is as the style has it.

    Raises
    ------
    ValueError
        If the style has no such subset or tier.
    """
    module = import_module(_STYLES[style])
    given = {"subsets": subsets, "visual_tiers": visual_tiers, "text_tiers": text_tiers}
    chosen = {key: tuple(value) for key, value in given.items() if value is not None}
    cases, plans = module.make_cases(groups=groups, seed=seed, **chosen)
    return DrawnScenes(cases, plans, module.render)


def build_scenes(name: str, table: InputTable, tokenizer: Tokenizer) -> InputSet:
    """Make or read the cases of an `[inputs.NAME]` table and tokenise their prompts.

    A sample is a case; its tokens are the text and the question, without image or special tokens, for
    the digest and for captions: adapters build what a model reads.

    Parameters
    ----------
    name
        Name of the set.
    table
        The checked table, of mode `scenes`.
    tokenizer
        A Hugging Face tokenizer.

    Returns
    -------
    InputSet
        With `scenes`, and labels of `_LABELS` as text; a group is the cases' group.

    Raises
    ------
    InputError
        If the style or file has no such subset, kind or tier, or fewer than 8 groups are left.
    """
    scenes = _scenes(name, table)
    cases = scenes.cases
    prompts = [
        f"{text} {question}".strip()
        for text, question in zip(cases.text.tolist(), cases.question.tolist(), strict=True)
    ]
    rows = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    length = np.array([len(row) for row in rows], np.int32)
    check_memory(name, len(rows), int(length.max()))
    pad = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    tokens = np.full((len(rows), max(int(length.max()), 2)), pad, np.int32)
    for target, row in zip(tokens, rows, strict=True):
        target[: len(row)] = row
    group = cases.group.astype(np.int32)
    fold = assign_folds(group, key=f"inputs.{name}.groups")
    labels: dict[str, NDArray[np.str_]] = {
        key: np.array([str(value) for value in getattr(cases, key).tolist()]) for key in _LABELS
    }
    decisive: list[NDArray[Any]] = [tokens, length, fold, group, cases.image]
    digest = set_digest(decisive, labels, table.mode, scenes.digest(), dict(cases.candidates))
    described = _described(table, cases)
    return InputSet(
        name, tokens, length, fold, group, labels, int(pad), described, digest, scenes=scenes
    )


def _scenes(name: str, table: InputTable) -> DrawnScenes | StoredScenes:
    key = f"inputs.{name}"
    scenes: DrawnScenes | StoredScenes
    if table.style is None:
        scenes = read_scenes(table.path)
        _check_there(key, table, scenes.cases)
    else:
        assert table.groups is not None
        assert table.shuffle_seed is not None
        try:
            scenes = make_scenes(
                table.style,
                groups=table.groups,
                seed=table.shuffle_seed,
                subsets=table.subset,
                visual_tiers=table.visual_tiers,
                text_tiers=table.text_tiers,
            )
        except ValueError as error:
            raise InputError(f'key `{key}`: style = "{table.style}": {error}') from None
    chosen = _chosen(table, scenes.cases)
    groups = len(np.unique(scenes.cases.group[chosen]))
    if groups < FOLDS:
        raise InputError(
            f"key `{key}`: {groups} groups of cases are left, and at least {FOLDS} are needed; give "
            "more groups, kinds or tiers, or a larger limit"
        )
    return replace(scenes, cases=scenes.cases.part(chosen))


def _chosen(table: InputTable, cases: Cases) -> NDArray[np.intp]:
    """Rows of the kinds, subsets and tiers asked for; of a limit, whole groups from the first on."""
    keep = np.isin(cases.kind, table.kinds)
    for column, wanted in (
        (cases.subset, table.subset),
        (cases.visual_tier, table.visual_tiers),
        (cases.text_tier, table.text_tiers),
    ):
        if wanted is not None:
            keep &= np.isin(column, wanted)
    rows = np.flatnonzero(keep)
    if table.limit is None or len(rows) <= table.limit:
        return rows
    groups, counts = np.unique(cases.group[rows], return_counts=True)
    whole = groups[np.cumsum(counts) <= table.limit]
    return rows[np.isin(cases.group[rows], whole)]


def _check_there(key: str, table: InputTable, cases: Cases) -> None:
    """Refuse to look for what a file has none of."""
    for name, wanted, column in (
        ("subset", table.subset, cases.subset),
        ("visual_tiers", table.visual_tiers, cases.visual_tier),
        ("text_tiers", table.text_tiers, cases.text_tier),
    ):
        there = np.unique(column).tolist()
        missing = [value for value in wanted or () if value not in there]
        if missing:
            raise InputError(
                f"{table.path}: key `{key}.{name}`: has none of {missing[0]}; it has "
                f"{', '.join(map(str, there))}"
            )


def _described(table: InputTable, cases: Cases) -> str:
    """A set in one line."""
    groups, images = len(np.unique(cases.group)), len(np.unique(cases.image))
    subsets = " and ".join(dict.fromkeys(cases.subset.tolist()))
    made = (
        f"from {table.path.name}"
        if table.style is None
        else f"style {table.style}, seed {table.shuffle_seed}"
    )
    return f"{len(cases):,} cases of {subsets} in {groups:,} groups over {images:,} images, {made}"
