"""Small pictures, graded texts and the cases made of them, measured on what is drawn and said."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes import tiny_images as images
from probes.tiny_images import CELL, GRID, TIERS, TinyPlans, draw_plans, object_masks
from probes.tiny_scenes import make_cases, render, render_many
from probes.tiny_texts import (
    COLOURS,
    ONE_FACT,
    SHAPES,
    THINGS,
    TYPICALITIES,
    WORDS,
    Fact,
    supported_colours,
    text_of,
    typicality,
)

GREY = 128


def plans_of(tier: int, count: int = 300) -> TinyPlans:
    return draw_plans(np.random.default_rng(3), np.full(count, tier))


def cells_of(plans: TinyPlans) -> np.ndarray:
    """Pixels of the cell of every object (object, 16, 16, 3)."""
    pictures = render_many(plans).reshape(len(plans), GRID, CELL, GRID, CELL, 3)
    image, slot = np.nonzero(plans.present)
    row, column = np.divmod(plans.cell[image, slot], GRID)
    return pictures.transpose(0, 1, 3, 2, 4, 5)[image, row, column]


@pytest.mark.parametrize("tier", range(len(TIERS)))
def test_pictures_show_what_the_tier_says(tier: int) -> None:
    plans = plans_of(tier)
    pictures = render_many(plans).reshape(len(plans), GRID, CELL, GRID, CELL, 3)
    used = (pictures != 255).any(axis=(2, 4, 5)).sum(axis=(1, 2))
    assert set(used) == {TIERS[tier].objects}
    for shapes, there in zip(plans.shape, plans.present, strict=True):
        assert len(set(shapes[there])) == there.sum()


@pytest.mark.parametrize("tier", range(len(TIERS)))
def test_measured_cover_lies_within_the_tier(tier: int) -> None:
    plans = plans_of(tier)
    image, slot = np.nonzero(plans.present)
    inside = object_masks(plans, image, slot)
    grey = (cells_of(plans) == GREY).all(axis=-1)
    share = (inside * grey).sum(axis=(1, 2)) / inside.sum(axis=(1, 2))
    low, high = TIERS[tier].covered
    pixel = 1 / inside.sum(axis=(1, 2))
    assert (share >= low - pixel - 1e-3).all()
    assert (share <= high + 1e-3).all()
    np.testing.assert_allclose(share, plans.covered[image, slot], atol=1.01 * pixel.max())
    assert share.std() > 0.02 or low == high


def test_an_object_has_its_colour_and_stays_in_its_cell() -> None:
    plans = plans_of(0)
    middle = cells_of(plans)
    image, slot = np.nonzero(plans.present)
    inside = object_masks(plans, image, slot)
    for cell, mask, colour in zip(middle, inside, plans.colour[image, slot], strict=True):
        full = cell[mask == 1]
        assert len(full) > 20
        assert (full == images._RGB[colour]).all()
        assert (cell[mask == 0] == 255).all()


def test_areas_are_those_of_plane_geometry() -> None:
    radius = 7.0
    known = {
        "circle": math.pi * 0.95,
        "square": (2 * 0.82) ** 2,
        "triangle": 0.54 * 1.85**2,
        "diamond": 2.0,
        "cross": 4 * 0.34 * 2 - (2 * 0.34) ** 2,
        "ring": math.pi * (1 - 0.56**2),
    }
    plans = plans_of(0, 600)
    image, slot = np.nonzero(plans.present)
    areas = object_masks(plans, image, slot).sum(axis=(1, 2))
    for number, name in enumerate(SHAPES):
        mean = areas[plans.shape[image, slot] == number].mean()
        assert mean == pytest.approx(known[name] * radius**2, rel=0.03), name


def test_one_picture_is_that_of_many() -> None:
    plans = draw_plans(np.random.default_rng(0), np.arange(6))
    many = render_many(plans)
    for number in range(6):
        np.testing.assert_array_equal(render(plans[number]), many[number])
    with pytest.raises(ValueError, match="one plan makes one picture, and there are 6"):
        render(plans)
    with pytest.raises(IndexError, match="no number 6"):
        plans[6]


def test_things_mean_their_colour_as_often_as_their_typicality_says() -> None:
    rng = np.random.default_rng(5)
    true = rng.integers(0, len(COLOURS), 60_000)
    tiers = rng.choice(ONE_FACT, true.size)
    said = supported_colours(rng, true, tiers)
    assert (said == true)[tiers < 3].all()
    for level, p in enumerate(TYPICALITIES):
        for colour in range(len(COLOURS)):
            named = (tiers == 2 + level) & (said == colour)
            means = np.bincount(true[named], minlength=len(COLOURS)) / named.sum()
            assert means[colour] == pytest.approx(p, abs=0.05)
            np.testing.assert_allclose(np.delete(means, colour), (1 - p) / 5, atol=0.04)


def test_texts_say_what_they_support() -> None:
    fact = Fact(0, 1, 2)
    assert text_of((fact,), 0) == "The circle is yellow."
    assert text_of((fact,), 1) == "The circle matches the flag. The flag is yellow."
    assert text_of((fact,), 2) == "The circle has the colour of a lemon."
    assert text_of((Fact(5, 0),), 6) == "The ring has the colour of an apple."
    both = text_of((fact, Fact(1, 0, 0)), 10)
    assert both == "The circle is yellow. The square is red."
    assert math.isnan(typicality(11))
    assert typicality(16) == TYPICALITIES[-1]
    with pytest.raises(ValueError, match="text tier must be one of"):
        text_of((fact,), 7)


def test_no_word_has_two_meanings() -> None:
    assert len(set(WORDS)) == len(WORDS)
    assert len(THINGS) == len(COLOURS)
    assert all(len(row) == len(TYPICALITIES) for row in THINGS)


@given(groups=st.integers(1, 40), seed=st.integers(0, 2**31), tiers=st.sampled_from([(0, 3), (5,)]))
def test_cases_are_what_their_columns_say(groups: int, seed: int, tiers: tuple[int, ...]) -> None:
    cases, plans = make_cases(groups=groups, visual_tiers=tiers, text_tiers=(0, 10), seed=seed)
    assert len(cases) == groups * len(tiers) * 5
    assert len(plans) == groups * len(tiers) * 2 == cases.image.max() + 1
    assert (np.diff(cases.image) >= 0).all()
    for row in range(0, len(cases), 3):
        shown = {
            SHAPES[s]: COLOURS[c]
            for s, c, there in zip(
                plans.shape[cases.image[row]],
                plans.colour[cases.image[row]],
                plans.present[cases.image[row]],
                strict=True,
            )
            if there
        }
        asked = str(cases.question[row]).removeprefix("What colour is the ").removesuffix("?")
        said = dict(re.findall(r"The (\w+) is (\w+)", str(cases.text[row])))
        kind, seen, text = cases.kind[row], cases.answer_image[row], cases.answer_text[row]
        assert (seen == text) == (kind == "agreement")
        assert (asked in shown) == (kind != "irrelevant_image")
        assert shown.get(asked, seen) == seen
        assert (asked in said) == (kind != "irrelevant_text")
        assert text in said.values()
        assert said.get(asked, text) == text
        assert len(said) == (2 if cases.text_tier[row] == 10 else 1)
        for shape, colour in said.items():
            if shape != asked:
                assert shown.get(shape, colour) == colour  # a text errs about nothing else
                assert colour not in {seen, text} or kind == "irrelevant_text"


def test_answers_pairs_and_order_of_facts_are_balanced() -> None:
    cases, _ = make_cases(groups=60, text_tiers=(10,), seed=1)
    first = np.unique(cases.group, return_index=True)[1]
    pairs = list(zip(cases.answer_image[first], cases.answer_text[first], strict=True))
    assert sorted(pairs) == sorted(2 * [(a, b) for a in COLOURS for b in COLOURS if a != b])
    conflict = cases.kind == "conflict"
    leads = [
        q.removesuffix("?").split()[-1] == t.split()[1]
        for q, t in zip(cases.question[conflict], cases.text[conflict], strict=True)
    ]
    assert abs(np.mean(leads) - 0.5) < 4 * math.sqrt(0.25 / len(leads))


def test_same_seed_same_cases_and_pictures() -> None:
    one, other = (make_cases(groups=6, seed=7) for _ in range(2))
    for name, column in one[0].columns().items():
        np.testing.assert_array_equal(column, other[0].columns()[name])
    np.testing.assert_array_equal(render_many(one[1]), render_many(other[1]))
    different = make_cases(groups=6, seed=8)
    assert (render_many(different[1]) != render_many(one[1])).any()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"groups": 0}, "groups must be at least 1"),
        ({"subsets": ("shape",)}, r"subsets must be some of \('colour',\)"),
        ({"visual_tiers": (6,)}, "visual_tiers must be some of"),
        ({"text_tiers": ()}, "text_tiers must be some of"),
        ({"text_tiers": (0, 0)}, "each once"),
    ],
)
def test_bad_arguments_are_told(options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        make_cases(**{"groups": 6, "seed": 0, **options})  # type: ignore[arg-type]
