"""The colour set: coloured shapes on white, and texts that give the target another colour.

Rebuilt from arXiv 2511.02243, Appendix B (its tables; wording, shapes and colours' shades are our own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probes.answer_balance import cyclic_pairs
from probes.case_table import Row, Wording, chosen_tiers, rows_of_group, worded
from probes.cases import Image
from probes.colour_texts import TEMPLATES, colour_text
from probes.rasteriser import SHAPES
from probes.scene_layout import VISUAL_TIERS, Scene, draw, lay_out

# Apart in lightness too: 20 ΔE*ab or more between any two and white, for three kinds of colour-blindness.
PALETTE = {
    "red": (200, 0, 25),
    "yellow": (255, 230, 30),
    "blue": (40, 110, 255),
    "green": (0, 160, 110),
    "purple": (100, 0, 130),
    "orange": (255, 130, 0),
}
COLOURS = tuple(PALETTE)
# 400 groups leave an unfinished round of four: the published 67, 67, 67, 66, 66, 67 for the image's
# answers and 67, 66, 67, 67, 66, 67 for the text's.
_REST_IMAGE, _REST_TEXT = (0, 1, 2, 5, 3, 4), (2, 0, 3, 5, 1, 4)
CONTROL = "star"
TARGETS = tuple(shape for shape in SHAPES if shape != CONTROL)
# What may be taken for the target where it is small or half hidden does not lie beside it.
_ALIKE = (
    {"square", "diamond"},
    {"circle", "hexagon"},
    {"pentagon", "hexagon"},
    {"circle", "pentagon"},
)
_CODE = 1


@dataclass(frozen=True)
class ColourPlan:
    """What decides one image of the colour set; `scene` lays it out.

    Attributes
    ----------
    seed, group, tier : int
        Chance's seed, the group within the subset and the visual tier.
    asked : str
        The shape asked for.
    shown : str
        The target's shape: the one asked for, or the control's.
    colour, other : str
        The target's colour, and the one the text gives it.
    """

    seed: int
    group: int
    tier: int
    asked: str
    shown: str
    colour: str
    other: str


def scene(plan: ColourPlan) -> Scene:
    """Lay a plan out: every thing's shape, colour, place and size; the first is the target."""
    alike = {shape for pair in _ALIKE if plan.asked in pair for shape in pair}
    shapes = [s for s in TARGETS if s != plan.asked and s not in alike]
    colours = [c for c in COLOURS if c not in (plan.colour, plan.other)]
    control = int(plan.shown != plan.asked)
    return lay_out(
        VISUAL_TIERS[plan.tier],
        shape=plan.shown,
        colour=plan.colour,
        shapes=shapes,
        colours=colours,
        rng=np.random.default_rng([plan.seed, _CODE, plan.group, 2 + plan.tier, control]),
    )


def render(plan: ColourPlan) -> Image:
    """Pixels (height, width, 3) of one image."""
    return draw(scene(plan), PALETTE)


def colour_groups(
    groups: int,
    *,
    visual_tiers: Sequence[int] | None,
    text_tiers: Sequence[int] | None,
    seed: int,
    first_group: int,
    first_image: int,
) -> tuple[list[Row], list[ColourPlan]]:
    """Cases and plans of so many groups.

    Parameters
    ----------
    groups
        How many; each has one target shape and one pair of answers.
    visual_tiers, text_tiers
        Which of 0…13 and of 0…2; all if None.
    seed
        Where chance begins. A group depends on it and on its own number; the last ``groups % 6`` also on
        how many there are, so that answers stay balanced.
    first_group, first_image
        Numbers the first of each gets.

    Raises
    ------
    ValueError
        If a tier does not exist.
    """
    visual = chosen_tiers(visual_tiers, len(VISUAL_TIERS), what="visual_tiers", subset="colour")
    texts = chosen_tiers(text_tiers, len(TEMPLATES), what="text_tiers", subset="colour")
    pairs = cyclic_pairs(
        groups,
        answers=len(COLOURS),
        rest_image=_REST_IMAGE,
        rest_text=_REST_TEXT,
        seed=[seed, _CODE],
    )
    rows: list[Row] = []
    plans: list[ColourPlan] = []
    for group, (image, text) in enumerate(pairs):
        answers = COLOURS[image], COLOURS[text]
        shape = _shape(seed, group)
        wording = _wording(seed, group, shape, answers, texts)
        rows += rows_of_group(
            wording,
            subset="colour",
            group=first_group + group,
            first_image=first_image + len(plans),
            answers=answers,
            visual_tiers=visual,
        )
        for tier in visual:
            for shown in (shape, CONTROL):
                plans.append(ColourPlan(seed, group, tier, shape, shown, *answers))
    return rows, plans


def _shape(seed: int, group: int) -> str:
    """All shapes in turn, in an order that changes from round to round."""
    turn, place = divmod(group, len(TARGETS))
    order = np.random.default_rng([seed, _CODE, turn, 0]).permutation(len(TARGETS))
    return TARGETS[int(order[place])]


def _wording(
    seed: int, group: int, shape: str, answers: tuple[str, str], tiers: Sequence[int]
) -> Wording:
    return worded(
        f"What colour is the {shape}?",
        lambda of, answer, tier, rng: colour_text(tier, shape=of, answer=answer, rng=rng),
        named=shape,
        other=CONTROL,
        answers=answers,
        tiers=tiers,
        seed=[seed, _CODE, group],
    )
