"""Conflict cases that a tiny vision-language model can read: small pictures and graded texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from probes.case_table import Row, cases_of
from probes.cases import Cases
from probes.tiny_images import OBJECTS, TIERS, TinyPlans, draw_plans, render, render_many
from probes.tiny_texts import (
    COLOURS,
    LINKS,
    ONE_FACT,
    SECOND_FACT,
    SHAPES,
    TEXT_TIERS,
    Fact,
    question,
    text_of,
    typicality,
)

__all__ = ["SUBSETS", "TEXT_TIERS", "VISUAL_TIERS", "Plans", "make_cases", "render", "render_many"]

SUBSETS = ("colour",)
VISUAL_TIERS = tuple(range(len(TIERS)))
Plans = TinyPlans
_STREAM = 0x71  # apart from other draws with the same seed


@dataclass(frozen=True)
class _Group:
    """What one group speaks of: numbers of shapes and of colours.

    `absent` is a shape that pictures of the target do not show, `beside` their second object; `third` is
    the colour the texts give to either, and is neither answer.
    """

    number: int
    target: int
    absent: int
    beside: int
    rest: tuple[int, ...]
    image: int
    text: int
    third: int


@dataclass
class _Rows:
    """Cases and what their images show, one after the other."""

    cases: list[Row] = field(default_factory=list)
    tiers: list[int] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)
    colours: list[list[int]] = field(default_factory=list)

    def add_image(self, tier: int, shapes: list[int], colours: list[int]) -> None:
        self.tiers.append(tier)
        self.shapes.append(shapes)
        self.colours.append(colours)

    def add_case(self, group: _Group, kind: str, text: str, text_tier: int) -> None:
        row = Row(
            image=len(self.tiers) - 1,
            group=group.number,
            question=question(group.target),
            text=text,
            answer_image=COLOURS[group.image],
            answer_text=COLOURS[group.image if kind == "agreement" else group.text],
            subset=SUBSETS[0],
            kind=kind,
            visual_tier=self.tiers[-1],
            text_tier=text_tier,
            typicality=typicality(text_tier),
        )
        self.cases.append(row)


def make_cases(
    *,
    groups: int,
    subsets: Sequence[str] = SUBSETS,
    visual_tiers: Sequence[int] = VISUAL_TIERS,
    text_tiers: Sequence[int] = ONE_FACT,
    seed: int,
) -> tuple[Cases, TinyPlans]:
    """Groups of cases that share target, question and the two answers.

    Each group has a picture a visual tier, and with every picture a conflict a text tier, one agreeing
    text and one irrelevant text, about a shape the picture does not show; and a picture a visual tier
    without the shape asked for, with a text about it. Text tiers of these three take turns. A text with
    two facts (tiers 10 to 16) also speaks of a shape that is not in the picture, in a colour that is
    neither answer; an irrelevant one, of the absent shape and, truly, of one beside the target. Which
    fact comes first is drawn.

    Parameters
    ----------
    groups
        How many; multiples of 6 balance each answer, multiples of 30 their pairs.
    subsets
        The attributes asked for: `colour` is the only one.
    visual_tiers, text_tiers
        Difficulties, of `VISUAL_TIERS` and `TEXT_TIERS`.
    seed
        Of everything that is drawn.

    Returns
    -------
    Cases, TinyPlans
        A plan an image of the cases. The first object is the one asked for (or what stands in its place),
        the second has a colour that is neither answer, and the others have any, answers among them.

    Raises
    ------
    ValueError
        If there is no such subset or tier, or nothing is asked for.
    """
    _check(groups, subsets, visual_tiers, text_tiers)
    rng = np.random.default_rng((seed, _STREAM))
    rows = _Rows()
    for group in _groups(rng, groups):
        for place, visual in enumerate(visual_tiers):
            turn = text_tiers[(group.number + place) % len(text_tiers)]
            rows.add_image(visual, *_objects(rng, group, group.target))
            for tier in text_tiers:
                rows.add_case(group, "conflict", _relevant(rng, group, group.text, tier), tier)
            rows.add_case(group, "agreement", _relevant(rng, group, group.image, turn), turn)
            rows.add_case(group, "irrelevant_text", _irrelevant(rng, group, turn), turn)
            rows.add_image(visual, *_objects(rng, group, group.absent))
            rows.add_case(group, "irrelevant_image", _about_unseen(rng, group, turn), turn)
    plans = draw_plans(
        rng,
        np.array(rows.tiers),
        shapes=np.array(rows.shapes),
        colours=np.array(rows.colours),
    )
    return cases_of(rows.cases, {SUBSETS[0]: COLOURS}), plans


def _groups(rng: np.random.Generator, count: int) -> Iterator[_Group]:
    """Image answers take turns; over any 30 groups in line every pair of answers comes once."""
    colours, shapes = rng.permutation(len(COLOURS)), rng.permutation(len(SHAPES))
    for number in range(count):
        turn, place = divmod(number, len(COLOURS))
        image = colours[place]
        text = colours[(place + 1 + turn % (len(COLOURS) - 1)) % len(COLOURS)]
        target = shapes[(place + turn) % len(SHAPES)]
        absent, beside, *rest = rng.permutation(shapes[shapes != target]).tolist()
        third = rng.choice(colours[(colours != image) & (colours != text)])
        answers = (int(image), int(text), int(third))
        yield _Group(number, int(target), absent, beside, tuple(rest), *answers)


def _objects(rng: np.random.Generator, group: _Group, first: int) -> tuple[list[int], list[int]]:
    """Shapes and colours of a picture whose first object has the answer's colour."""
    more = rng.integers(0, len(COLOURS), OBJECTS - 2).tolist()
    return [first, group.beside, *group.rest], [group.image, group.third, *more]


def _relevant(rng: np.random.Generator, group: _Group, colour: int, tier: int) -> str:
    return _text(rng, [(group.target, colour), (group.absent, group.third)], tier)


def _irrelevant(rng: np.random.Generator, group: _Group, tier: int) -> str:
    return _text(rng, [(group.absent, group.text), (group.beside, group.third)], tier)


def _about_unseen(rng: np.random.Generator, group: _Group, tier: int) -> str:
    """The shape asked for is not in the picture, where the absent one has its place."""
    return _text(rng, [(group.target, group.text), (group.beside, group.third)], tier)


def _text(rng: np.random.Generator, facts: list[tuple[int, int]], tier: int) -> str:
    """A text with the first fact, or with both in an order that is drawn."""
    links = rng.permutation(len(LINKS))
    told = [Fact(*fact, int(link)) for fact, link in zip(facts, links, strict=False)]
    if tier < SECOND_FACT:
        return text_of((told[0],), tier)
    return text_of(tuple(told[:: int(rng.choice((1, -1)))]), tier)


def _check(
    groups: int, subsets: Sequence[str], visual_tiers: Sequence[int], text_tiers: Sequence[int]
) -> None:
    if groups < 1:
        raise ValueError(f"groups must be at least 1, not {groups}")
    for key, asked, known in (
        ("subsets", subsets, SUBSETS),
        ("visual_tiers", visual_tiers, VISUAL_TIERS),
        ("text_tiers", text_tiers, TEXT_TIERS),
    ):
        if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(known):
            raise ValueError(f"{key} must be some of {known}, each once, not {tuple(asked)}")
