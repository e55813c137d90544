"""The attribute set: solids on a floor, asked for their shape, material or place in the picture.

In the manner of arXiv 2511.02243, Appendix B, whose images come from CLEVR; these are our own rendering
of the same tiers, with the published balance of answers. Position is a subset of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probes.answer_balance import Pair, cyclic_pairs, proportional_pairs
from probes.attribute_texts import TEXT_TIERS, attribute_text
from probes.case_table import Row, Wording, chosen_tiers, rows_of_group, worded
from probes.cases import Image
from probes.solid_layout import PLAIN, SIDES, SOLID_TIERS, SolidScene, draw, lay_out
from probes.solids import MATERIALS

PALETTE = {
    "grey": (120, 120, 120),
    "red": (195, 35, 35),
    "blue": (50, 85, 220),
    "green": (35, 145, 60),
    "purple": (135, 50, 185),
    "cyan": (45, 200, 205),
    "yellow": (250, 225, 55),
}
# Stands in no scene but where the image speaks of another object.
CONTROL_COLOUR = "orange"
_PAINTS = {**PALETTE, CONTROL_COLOUR: (240, 125, 20)}
CONTROL_SHAPES = ("cone", "frustum")
CANDIDATES: dict[str, tuple[str, ...]] = {
    "shape": PLAIN,
    "material": MATERIALS,
    "position": SIDES,
}
# How often each pair of answers comes in 300 groups. The margins are published: shapes 108/100/92 in
# images and 100/92/108 in texts, materials 160/140 and 140/160. The pairs of shapes are ours.
_PAIRS: dict[str, dict[Pair, int]] = {
    "shape": {(0, 1): 46, (0, 2): 62, (1, 0): 54, (1, 2): 46, (2, 0): 46, (2, 1): 46},
    "material": {(0, 1): 160, (1, 0): 140},
}
_CODES = {"shape": 2, "material": 3, "position": 4}


@dataclass(frozen=True)
class AttributePlan:
    """What decides one image of the attribute set; `scene` lays it out.

    Attributes
    ----------
    subset, seed, group, tier
        The attribute asked for, chance's seed, the group within the subset and the visual tier.
    shape, material, colour : str
        The target's, as the image shows it.
    side : str or None
        The side of the picture it stands on, where that is asked for.
    named : str
        The colour the question names, which no other solid has.
    control : bool
        Whether another object stands in the target's place.
    """

    subset: str
    seed: int
    group: int
    tier: int
    shape: str
    material: str
    colour: str
    side: str | None
    named: str
    control: bool


def scene(plan: AttributePlan) -> SolidScene:
    """Lay a plan out: shape, material, colour, place and size of every solid; the first is the target."""
    return lay_out(
        SOLID_TIERS[plan.tier],
        target=(plan.shape, plan.material, plan.colour),
        side=plan.side,
        colours=tuple(colour for colour in PALETTE if colour != plan.named),
        rng=np.random.default_rng(
            [plan.seed, _CODES[plan.subset], plan.group, 2 + plan.tier, int(plan.control)]
        ),
    )


def render(plan: AttributePlan) -> Image:
    """Pixels (height, width, 3) of one image."""
    return draw(scene(plan), _PAINTS)


def attribute_groups(
    subset: str,
    groups: int,
    *,
    visual_tiers: Sequence[int] | None,
    text_tiers: Sequence[int] | None,
    seed: int,
    first_group: int,
    first_image: int,
) -> tuple[list[Row], list[AttributePlan]]:
    """Cases and plans of so many groups of one subset; see `probes.colour_scenes.colour_groups`.

    A group has one target and a pair of answers. Shapes and materials go by the published proportions,
    and a group does not depend on how many there are; positions are balanced as colours are.

    Raises
    ------
    ValueError
        If a tier does not exist.
    """
    visual = chosen_tiers(visual_tiers, len(SOLID_TIERS), what="visual_tiers", subset=subset)
    texts = chosen_tiers(text_tiers, TEXT_TIERS, what="text_tiers", subset=subset)
    words = CANDIDATES[subset]
    rows: list[Row] = []
    plans: list[AttributePlan] = []
    for group, (image, text) in enumerate(_pairs(subset, groups, seed)):
        answers = words[image], words[text]
        target = _target(subset, seed, group, answers[0])
        rows += rows_of_group(
            _wording(subset, seed, group, target, answers, texts),
            subset=subset,
            group=first_group + group,
            first_image=first_image + len(plans),
            answers=answers,
            visual_tiers=visual,
        )
        plans += [
            _plan(subset, seed, group, tier, target, answers[0], control)
            for tier in visual
            for control in (False, True)
        ]
    return rows, plans


@dataclass(frozen=True)
class _Target:
    """A group's target, and the shape that stands for another object where its colour does not."""

    shape: str
    material: str
    colour: str
    other: str


def _target(subset: str, seed: int, group: int, answer: str) -> _Target:
    rng = np.random.default_rng([seed, _CODES[subset], group, 0])
    shape, material = PLAIN[int(rng.integers(len(PLAIN)))], MATERIALS[int(rng.integers(2))]
    colour = tuple(PALETTE)[int(rng.integers(len(PALETTE)))]
    other = CONTROL_SHAPES[int(rng.integers(2))]
    return _Target(
        answer if subset == "shape" else shape,
        answer if subset == "material" else material,
        colour,
        other,
    )


def _pairs(subset: str, groups: int, seed: int) -> list[tuple[int, int]]:
    if subset in _PAIRS:
        found = proportional_pairs(groups, _PAIRS[subset])
    else:
        found = cyclic_pairs(
            groups,
            answers=len(SIDES),
            rest_image=(0, 1, 2, 3),
            rest_text=(1, 0, 3, 2),
            seed=[seed, _CODES[subset]],
        )
    return [(int(image), int(text)) for image, text in found]


def _plan(
    subset: str, seed: int, group: int, tier: int, target: _Target, answer: str, control: bool
) -> AttributePlan:
    recoloured = control and subset == "shape"
    return AttributePlan(
        subset=subset,
        seed=seed,
        group=group,
        tier=tier,
        shape=target.other if control and subset != "shape" else target.shape,
        material=target.material,
        colour=CONTROL_COLOUR if recoloured else target.colour,
        side=answer if subset == "position" else None,
        named=target.colour,
        control=control,
    )


def _wording(
    subset: str,
    seed: int,
    group: int,
    target: _Target,
    answers: tuple[str, str],
    tiers: Sequence[int],
) -> Wording:
    if subset == "shape":
        named, other = f"{target.colour} object", f"{CONTROL_COLOUR} object"
        question = f"What shape is the {named}?"
    else:
        named, other = f"{target.colour} {target.shape}", f"{target.colour} {target.other}"
        question = {
            "material": f"What material is the {named} made of?",
            "position": f"On which side of the picture is the {named}?",
        }[subset]

    return worded(
        question,
        lambda of, answer, tier, rng: attribute_text(
            subset, tier, target=of, answer=answer, rng=rng
        ),
        named=named,
        other=other,
        answers=answers,
        tiers=tiers,
        seed=[seed, _CODES[subset], group],
    )
