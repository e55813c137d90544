"""The attribute set: solids against closed forms, scenes measured against their tiers."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from probes.attribute_scenes import (
    CANDIDATES,
    CONTROL_COLOUR,
    CONTROL_SHAPES,
    AttributePlan,
)
from probes.attribute_scenes import scene as lay_out
from probes.attribute_texts import INSTANCES, OBJECTS
from probes.cases import Cases
from probes.scenes import make_cases, render
from probes.solid_layout import LARGE, OTHERS_SEEN, SMALL, TARGET_SEEN, owners, side_of
from probes.solids import MATERIALS, PITCH, SOLIDS, cast, look, shade

scene = lru_cache(lay_out)
SUBSETS = ("shape", "material", "position")
# solids from, to, target's size from, to
TIERS = [(3, 4, *LARGE), (6, 8, *LARGE), (6, 8, *SMALL), (10, 12, *SMALL)]


@pytest.fixture(scope="module")
def made() -> tuple[Cases, tuple[AttributePlan, ...]]:
    cases, plans = make_cases(groups=4, subsets=SUBSETS, seed=7)
    assert all(isinstance(plan, AttributePlan) for plan in plans)
    return cases, plans  # type: ignore[return-value]


# Solids.

# Areas of their pictures on a plane square to the camera, in units of half their height.
AREAS = {
    "sphere": np.pi,
    "cylinder": 4 * 0.8 * np.cos(PITCH) + np.pi * 0.8**2 * np.sin(PITCH),
}


def area(solid: str, turn: int) -> float:
    """Counted on a fine grid of rays."""
    side = np.linspace(-2, 2, 801)
    hit, _ = cast(solid, np.stack(np.meshgrid(side, side), axis=-1), turn)
    return float(hit.mean() * 4.005**2)


@pytest.mark.parametrize("solid", AREAS)
def test_pictures_have_the_area_of_the_projection(solid: str) -> None:
    assert area(solid, 0) == pytest.approx(AREAS[solid], rel=5e-3)


@pytest.mark.parametrize("turn", [0, 20, 45, 70])
def test_a_cubes_picture_is_its_three_faces(turn: int) -> None:
    # Each visible face counts with its area times the cosine between its normal and the camera.
    angle, face = np.deg2rad(turn), (2 * 0.85) ** 2
    seen = np.sin(PITCH) + np.cos(PITCH) * (abs(np.cos(angle)) + abs(np.sin(angle)))
    assert area("cube", turn) == pytest.approx(face * seen, rel=1e-2)


@pytest.mark.parametrize("solid", SOLIDS)
@pytest.mark.parametrize("size", [36, 90])
def test_normals_are_unit_vectors_towards_the_camera(solid: str, size: int) -> None:
    seen = look(solid, size, 35)
    away = np.array([0, -np.sin(PITCH), np.cos(PITCH)])
    length = np.linalg.norm(seen.normal, axis=-1)
    np.testing.assert_allclose(length[seen.hit], 1, atol=1e-9)
    assert not length[~seen.hit].any()
    assert (seen.normal[seen.hit] @ away <= 1e-9).all()


@pytest.mark.parametrize("solid", SOLIDS)
@pytest.mark.parametrize("turn", [10, 45, 80])
def test_the_picture_fills_its_box(solid: str, turn: int) -> None:
    covered = look(solid, 90, turn).coverage
    assert max(covered.shape) == 90
    for edge in (covered[:2], covered[-2:], covered[:, :2], covered[:, -2:]):
        assert edge.any()


def test_metal_is_less_even_than_rubber() -> None:
    for solid in SOLIDS:
        spread = {}
        for material in MATERIALS:
            covered, colour = shade(look(solid, 80, 30), colour=(120, 120, 120), material=material)
            spread[material] = colour[covered == 1].std()
        assert spread["metal"] > 1.3 * spread["rubber"], solid


def test_unknown_solids_and_materials_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown solid 'torus'"):
        look("torus", 10, 0)
    with pytest.raises(ValueError, match="unknown material 'wood'"):
        shade(look("cube", 10, 0), colour=(0, 0, 0), material="wood")


# Scenes.


def test_scenes_are_their_tiers(made: tuple) -> None:
    for plan in made[1]:
        found = scene(plan)
        low, high, smallest, largest = TIERS[plan.tier]
        assert low <= len(found.things) <= high
        mask = found.things[0].mask
        assert smallest - 3 <= max(np.ptp(np.argwhere(mask), axis=0)) + 1 <= largest
        seen = owners(found)
        shares = [(seen == i).sum() / t.mask.sum() for i, t in enumerate(found.things)]
        assert shares[0] >= TARGET_SEEN
        assert min(shares[1:]) >= OTHERS_SEEN


def test_only_the_target_has_the_colour_that_is_named(made: tuple) -> None:
    for plan in made[1]:
        first, *others = scene(plan).things
        assert (first.shape, first.material, first.colour) == (
            plan.shape,
            plan.material,
            plan.colour,
        )
        assert plan.named not in {thing.colour for thing in others}
        assert CONTROL_COLOUR not in {thing.colour for thing in others}
        assert not {thing.shape for thing in others} & set(CONTROL_SHAPES)


def test_the_image_shows_its_answer(made: tuple) -> None:
    cases, plans = made
    for row in range(len(cases)):
        plan, subset = plans[int(cases.image[row])], str(cases.subset[row])
        assert plan.subset == subset
        assert plan.tier == cases.visual_tier[row]
        assert plan.control == (cases.kind[row] == "irrelevant_image")
        first = scene(plan).things[0] if row % 40 == 0 else None
        if subset == "position":
            assert plan.side == cases.answer_image[row]
            if first is not None:
                rows, columns = first.mask.shape
                assert side_of(first.left + columns / 2, first.top + rows / 2) == plan.side
        elif subset == "material":
            assert plan.material == cases.answer_image[row]
        else:
            assert plan.shape == cases.answer_image[row]
        there = (plan.colour, plan.shape) if subset != "shape" else (plan.colour,)
        question = cases.question[row]
        assert plan.control != all(f" {word}" in question for word in there)


def test_sides_are_where_they_are_called() -> None:
    assert side_of(20, 160) == "left"
    assert side_of(460, 150) == "right"
    assert side_of(250, 12) == "top"
    assert side_of(250, 310) == "bottom"
    assert side_of(240, 160) is None
    assert side_of(5, 5) is None


def test_images_are_the_same_for_the_same_seed(made: tuple) -> None:
    _, again = make_cases(groups=9, subsets=("material",), seed=7)
    first = next(plan for plan in made[1] if plan.subset == "material")
    assert first == again[0]
    image = render(again[0])
    assert image.shape == (320, 480, 3)
    assert image.dtype == np.uint8
    assert image.tobytes() == render(first).tobytes()


def test_texts_speak_of_their_object_and_of_no_other_answer(made: tuple) -> None:
    cases, _ = made
    for row in range(len(cases)):
        subset, tier = str(cases.subset[row]), int(cases.text_tier[row])
        words = {word.strip(".,:;?").lower() for word in cases.text[row].split()}
        allowed = set() if tier == 2 else {cases.answer_text[row]}
        answers = set(CANDIDATES[subset])
        if subset == "shape":
            assert words & answers == allowed
        else:
            assert words & answers <= allowed
            assert allowed <= words
        irrelevant = cases.kind[row] == "irrelevant_text"
        named = cases.question[row].split(" is the ")[1].split(" made of")[0].split("?")[0]
        assert (named in cases.text[row]) != irrelevant


def test_instances_and_objects_are_all_different() -> None:
    for subset, answers in CANDIDATES.items():
        assert set(INSTANCES[subset]) == set(answers)
        known = [thing for things in INSTANCES[subset].values() for thing in things]
        assert len(set(known)) == len(known)
    assert len(set(OBJECTS)) == len(OBJECTS)


def test_three_hundred_groups_have_the_published_counts() -> None:
    cases, _ = make_cases(groups=300, subsets=("shape", "material"), seed=0, visual_tiers=[0])
    published = {
        "shape": ([108, 100, 92], [100, 92, 108]),
        "material": ([160, 140], [140, 160]),
    }
    for subset, (image, text) in published.items():
        own = cases.part((cases.subset == subset) & (cases.kind == "conflict"))
        _, first = np.unique(own.group, return_index=True)
        seen, said = Counter(own.answer_image[first]), Counter(own.answer_text[first])
        assert [seen[word] for word in CANDIDATES[subset]] == image
        assert [said[word] for word in CANDIDATES[subset]] == text
        assert (own.answer_image != own.answer_text).all()
        assert 25 < np.mean([len(t.split()) for t in own.text]) < 36  # published: 30.0
