"""A few hand-made scenes and the sets of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.cases import Cases, Image
from runs.inputs import InputSet, assign_folds

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("square", "circle", "star")


@dataclass(frozen=True)
class Shown:
    """Scenes held in memory."""

    cases: Cases
    images: tuple[Image, ...]

    def image(self, number: int) -> Image:
        """An image by number."""
        return self.images[number]


def hand_made(groups: int = 8, *, seed: int = 0) -> Shown:
    """Two images (tiers) × two texts (tiers) a group; every third group asks for a shape."""
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for group in range(groups):
        subset = "shape" if group % 3 == 2 else "colour"
        words = SHAPES if subset == "shape" else COLOURS
        seen, told = generator.permutation(len(words))[:2]
        for visual in range(2):
            for tier in range(2):
                said = "is" if tier == 0 else "may be"
                rows.append(
                    {
                        "image": 2 * group + visual,
                        "group": group,
                        "question": f"what {subset} is the object?",
                        "text": f"the object {said} {words[told]}.",
                        "answer_image": words[seen],
                        "answer_text": words[told],
                        "subset": subset,
                        "kind": "conflict",
                        "visual_tier": visual,
                        "text_tier": tier,
                        "typicality": 1.0 - 0.5 * tier,
                    }
                )
    kinds: dict[str, Any] = {"image": np.int32, "group": np.int32}
    kinds |= {"visual_tier": np.int16, "text_tier": np.int16, "typicality": np.float64}
    columns: dict[str, NDArray[Any]] = {
        name: np.array([row[name] for row in rows], kinds.get(name)) for name in rows[0]
    }
    cases = Cases(**columns, candidates={"colour": COLOURS, "shape": SHAPES})
    images = generator.integers(0, 256, (2 * groups, 24, 24, 3), np.uint8)
    return Shown(cases, tuple(images))


def scene_set(scenes: Shown, *, length: int = 6) -> InputSet:
    """A set of them; its tokens are no matter."""
    cases = scenes.cases
    tokens = np.tile(np.arange(1, length + 1, dtype=np.int32), (len(cases), 1))
    labels = {name: getattr(cases, name) for name in ("subset", "kind")}
    return InputSet(
        "scenes",
        tokens,
        np.full(len(cases), length, np.int32),
        assign_folds(cases.group),
        cases.group,
        labels,
        digest="hand-made",
        scenes=scenes,
    )
