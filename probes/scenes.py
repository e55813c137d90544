"""Scenes and texts that contradict each other, in the style of arXiv 2511.02243, Appendix B.

`make_cases` gives cases and plans of their images; `render` draws one plan. Nothing is drawn before.
"""

from __future__ import annotations

from collections.abc import Sequence

from probes.attribute_scenes import CANDIDATES as ATTRIBUTES
from probes.attribute_scenes import AttributePlan, attribute_groups
from probes.attribute_scenes import render as render_attribute
from probes.case_table import Row, cases_of
from probes.cases import Cases, Image
from probes.colour_scenes import COLOURS, ColourPlan, colour_groups
from probes.colour_scenes import render as render_colour

Plan = ColourPlan | AttributePlan
CANDIDATES: dict[str, tuple[str, ...]] = {"colour": COLOURS, **ATTRIBUTES}
SUBSETS = tuple(CANDIDATES)


def make_cases(
    *,
    groups: int,
    subsets: Sequence[str] = ("colour",),
    visual_tiers: Sequence[int] | None = None,
    text_tiers: Sequence[int] | None = None,
    seed: int,
) -> tuple[Cases, tuple[Plan, ...]]:
    """Cases of all kinds, and what draws their images.

    A group of the colour set has 14 images, one a visual tier, and three texts, one a tier; every image
    meets every text; the other subsets have 4 visual and 4 text tiers. Beside them are controls: see
    `probes.case_table.rows_of_group`.

    Parameters
    ----------
    groups
        Groups of each subset.
    subsets
        Of `SUBSETS`.
    visual_tiers, text_tiers
        Which tiers; None is all that each subset has.
    seed
        The same seed gives the same bytes.

    Returns
    -------
    cases : Cases
        Cases of one image lie together.
    plans : tuple
        `plans[cases.image[i]]` is what `render` draws for case i. No pixel is held.

    Raises
    ------
    ValueError
        If a subset or tier does not exist, or there is no group.
    """
    if groups < 1:
        raise ValueError(f"groups {groups}: at least one is needed")
    unknown = [name for name in subsets if name not in SUBSETS]
    if unknown or not subsets or len(set(subsets)) < len(subsets):
        raise ValueError(f"subset {list(subsets)}: name each of {', '.join(SUBSETS)} at most once")
    rows: list[Row] = []
    plans: list[Plan] = []
    for place, subset in enumerate(subsets):
        first_group, first_image = place * groups, len(plans)
        more: list[Row]
        drawn: Sequence[Plan]
        if subset == "colour":
            more, drawn = colour_groups(
                groups,
                visual_tiers=visual_tiers,
                text_tiers=text_tiers,
                seed=seed,
                first_group=first_group,
                first_image=first_image,
            )
        else:
            more, drawn = attribute_groups(
                subset,
                groups,
                visual_tiers=visual_tiers,
                text_tiers=text_tiers,
                seed=seed,
                first_group=first_group,
                first_image=first_image,
            )
        rows += more
        plans += drawn
    return cases_of(rows, {name: CANDIDATES[name] for name in subsets}), tuple(plans)


def render(plan: Plan) -> Image:
    """Pixels (height, width, 3) of one image, 8 bits a channel."""
    return render_colour(plan) if isinstance(plan, ColourPlan) else render_attribute(plan)
