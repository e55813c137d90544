"""Where solids stand in a scene: four visual tiers in the manner of arXiv 2511.02243, Appendix B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.cases import Image
from probes.rasteriser import as_image, paint
from probes.solids import MATERIALS, look, shade

WIDTH, HEIGHT = 480, 320
LARGE, SMALL = (72, 92), (34, 44)
TARGET_SEEN, OTHERS_SEEN = 0.8, 0.6
PLAIN = ("sphere", "cube", "cylinder")
SIDES = ("left", "right", "top", "bottom")
_TRIES, _RESTARTS = 300, 60


@dataclass(frozen=True)
class SolidTier:
    """One row of the table.

    Attributes
    ----------
    solids : (int, int)
        How many at least and at most, target included.
    target : (int, int)
        Smallest and largest longer side of the target's picture, in pixels; not in the table, which says
        large and small.
    """

    solids: tuple[int, int]
    target: tuple[int, int]


SOLID_TIERS = (
    SolidTier((3, 4), LARGE),
    SolidTier((6, 8), LARGE),
    SolidTier((6, 8), SMALL),
    SolidTier((10, 12), SMALL),
)


@dataclass(frozen=True)
class Solid:
    """One solid of a scene, and the pixel box of its picture: upper left corner and longer side."""

    shape: str
    material: str
    colour: str
    left: int
    top: int
    size: int
    turn: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels (row, column) of its box of which it covers at least half."""
        return look(self.shape, self.size, self.turn).coverage >= 0.5

    @property
    def nearness(self) -> float:
        """Row of the middle of its base: what stands lower in the picture stands nearer."""
        return self.top + look(self.shape, self.size, self.turn).foot[0]


@dataclass(frozen=True)
class SolidScene:
    """What stands where; the first is the target. Nearer solids hide farther ones."""

    things: tuple[Solid, ...]


def owners(scene: SolidScene) -> NDArray[np.int16]:
    """The solid seen at each pixel (height, width), -1 where there is none."""
    seen = np.full((HEIGHT, WIDTH), -1, np.int16)
    for number in _far_to_near(scene):
        thing = scene.things[number]
        mask = thing.mask
        seen[_box(thing.left, thing.top, mask.shape)][mask] = number
    return seen


def draw(scene: SolidScene, palette: Mapping[str, tuple[int, int, int]]) -> Image:
    """Pixels (height, width, 3): solids and their soft shadows on an even floor."""
    light = np.linspace(205.0, 228.0, HEIGHT)[:, None] * _shadows(scene)
    canvas = np.repeat(light[:, :, None], 3, axis=2)
    for number in _far_to_near(scene):
        thing = scene.things[number]
        shape = look(thing.shape, thing.size, thing.turn)
        coverage, colour = shade(shape, colour=palette[thing.colour], material=thing.material)
        paint(canvas, coverage, colour, left=thing.left, top=thing.top)
    return as_image(canvas)


def lay_out(
    tier: SolidTier,
    *,
    target: tuple[str, str, str],
    side: str | None,
    colours: tuple[str, ...],
    rng: np.random.Generator,
) -> SolidScene:
    """Place a target and other solids so that `TARGET_SEEN` of it and `OTHERS_SEEN` of each are seen.

    Parameters
    ----------
    tier
        A row of `SOLID_TIERS`.
    target
        Its shape, material and colour.
    side
        The side of the picture on which its middle lies, clear of the diagonals; anywhere if None.
    colours
        What the others' colours are drawn from.
    rng
        Where chance comes from.

    Raises
    ------
    RuntimeError
        If no placement was found.
    """
    count = int(rng.integers(*tier.solids, endpoint=True))
    for _ in range(_RESTARTS):
        things = _stood([], target, tier.target, side, rng)
        while things is not None and len(things) < count:
            things = _stood(things, _any(colours, rng), (LARGE, SMALL)[rng.integers(2)], None, rng)
        if things is not None:
            return SolidScene(tuple(things))
    raise RuntimeError(f"no placement found for {tier}")


def _any(colours: tuple[str, ...], rng: np.random.Generator) -> tuple[str, str, str]:
    """Shape, material and colour by chance."""
    shape, material = PLAIN[rng.integers(len(PLAIN))], MATERIALS[rng.integers(len(MATERIALS))]
    return shape, material, colours[rng.integers(len(colours))]


def _stood(
    things: list[Solid],
    what: tuple[str, str, str],
    sizes: tuple[int, int],
    side: str | None,
    rng: np.random.Generator,
) -> list[Solid] | None:
    """The things and one more, where all are seen well enough; None if no such place was found."""
    size, turn = int(rng.integers(*sizes, endpoint=True)), int(rng.integers(10, 81))
    rows, columns = look(what[0], size, turn).coverage.shape
    for _ in range(_TRIES):
        left = int(rng.integers(WIDTH - columns, endpoint=True))
        top = int(rng.integers(HEIGHT - rows, endpoint=True))
        if side and side_of(left + columns / 2, top + rows / 2) != side:
            continue
        more = [*things, Solid(*what, left, top, size, turn)]
        if _all_seen(more):
            return more
    return None


def side_of(x: float, y: float) -> str | None:
    """The side of the picture a point lies on: beyond 0.4 of the half-way there, and clearly no other."""
    right, down = 2 * x / WIDTH - 1, 2 * y / HEIGHT - 1
    if max(abs(right), abs(down)) < 0.4 or abs(abs(right) - abs(down)) < 0.25:
        return None
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "bottom" if down > 0 else "top"


def _all_seen(things: list[Solid]) -> bool:
    areas = np.array([int(thing.mask.sum()) for thing in things])
    seen = np.bincount(owners(SolidScene(tuple(things))).ravel() + 1, minlength=len(things) + 1)[1:]
    least = np.where(np.arange(len(things)) == 0, TARGET_SEEN, OTHERS_SEEN)
    return bool((seen >= least * areas).all())


def _far_to_near(scene: SolidScene) -> list[int]:
    return sorted(range(len(scene.things)), key=lambda i: scene.things[i].nearness)


def _box(left: int, top: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    return slice(top, top + shape[0]), slice(left, left + shape[1])


def _shadows(scene: SolidScene) -> NDArray[np.float64]:
    """Share of the light (height, width) that reaches the floor; light comes from the left and front."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    light = np.ones((HEIGHT, WIDTH))
    for thing in scene.things:
        shape = look(thing.shape, thing.size, thing.turn)
        wide = shape.coverage.shape[1]
        x = (columns - thing.left - shape.foot[1] - 0.18 * wide) / (0.42 * wide)
        y = (rows - thing.top - shape.foot[0] + 0.04 * wide) / (0.24 * wide)
        light *= 1 - 0.45 * np.exp(-(x**2) - y**2)
    return light
