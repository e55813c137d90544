"""Where coloured shapes lie in a scene: the 14 visual tiers of arXiv 2511.02243, Table 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.cases import Image
from probes.rasteriser import as_image, paint, shape_coverage, shape_mask

TARGET_SEEN, RIM_SEEN, DISTRACTOR_SEEN, OVERLAP = 0.4, 0.3, 0.25, 0.05
_GAP = 3
_TRIES, _RESTARTS = 400, 60


@dataclass(frozen=True)
class VisualTier:
    """One row of the table.

    A size is the longer side of a shape's bounding box. Where the table gives a share of the image, it
    is read as the share of the area that the square of that side has: a side of 4–6 % would be 9 to 13
    pixels, which 70 distractors cannot overlap and leave visible.

    Attributes
    ----------
    width, height : int
        The image, in pixels.
    target : (int, int)
        Smallest and largest target, in pixels.
    distractors : int
        How many other shapes.
    overlapping : float
        Share of them that lies over the target.
    distractor : (int, int)
        Smallest and largest distractor, in pixels; not in the table.
    """

    width: int
    height: int
    target: tuple[int, int]
    distractors: int
    overlapping: float
    distractor: tuple[int, int]


def _small(
    area: tuple[float, float], count: int, overlapping: float, distractor: tuple[int, int]
) -> VisualTier:
    side = 224
    low, high = (side * np.sqrt(share) for share in area)
    return VisualTier(
        side, side, (int(np.ceil(low)), int(np.floor(high))), count, overlapping, distractor
    )


VISUAL_TIERS: tuple[VisualTier, ...] = (
    *(VisualTier(800, 600, (80, 200), count, 0.0, (80, 200)) for count in range(5)),
    _small((0.20, 0.40), 7, 0.5, (30, 64)),
    _small((0.20, 0.40), 10, 0.8, (30, 64)),
    _small((0.05, 0.10), 7, 0.5, (20, 40)),
    _small((0.05, 0.10), 11, 0.8, (20, 40)),
    _small((0.04, 0.06), 20, 0.3, (14, 32)),
    _small((0.04, 0.06), 30, 0.6, (12, 28)),
    _small((0.04, 0.06), 40, 0.5, (12, 26)),
    _small((0.04, 0.06), 55, 0.6, (9, 20)),
    _small((0.04, 0.06), 70, 0.7, (8, 16)),
)


@dataclass(frozen=True)
class Thing:
    """One shape of a scene: its colour by name, and the pixel square it fills."""

    shape: str
    colour: str
    left: int
    top: int
    size: int


@dataclass(frozen=True)
class Scene:
    """A canvas and what lies on it, later things over earlier ones; the first is the target."""

    width: int
    height: int
    things: tuple[Thing, ...]


def masks(scene: Scene) -> NDArray[np.bool_]:
    """Pixels (thing, height, width) of which each thing covers at least half, if nothing hid it."""
    found = np.zeros((len(scene.things), scene.height, scene.width), bool)
    for mask, thing in zip(found, scene.things, strict=True):
        mask[_square(thing.left, thing.top, thing.size)] = shape_mask(thing.shape, thing.size)
    return found


def owners(scene: Scene) -> NDArray[np.int16]:
    """The topmost thing of each pixel (height, width), -1 where there is none."""
    top = np.full((scene.height, scene.width), -1, np.int16)
    for number, thing in enumerate(scene.things):
        part = top[_square(thing.left, thing.top, thing.size)]
        part[shape_mask(thing.shape, thing.size)] = number
    return top


def draw(scene: Scene, palette: dict[str, tuple[int, int, int]]) -> Image:
    """Pixels (height, width, 3) of a scene on white."""
    canvas = np.full((scene.height, scene.width, 3), 255.0)
    for thing in scene.things:
        coverage = shape_coverage(thing.shape, thing.size)
        paint(canvas, coverage, palette[thing.colour], left=thing.left, top=thing.top)
    return as_image(canvas)


def lay_out(
    tier: VisualTier,
    *,
    shape: str,
    colour: str,
    shapes: Sequence[str],
    colours: Sequence[str],
    rng: np.random.Generator,
) -> Scene:
    """Place a target and its distractors.

    The target lies undermost. A distractor that overlaps it has at least `OVERLAP` of its own pixels over
    it. Of the target at least `TARGET_SEEN` of the pixels and `RIM_SEEN` of the outline stay visible, of
    every distractor at least `DISTRACTOR_SEEN` of the pixels. The others touch neither the target nor, in
    tiers without overlap, one another. The number that overlaps is rounded up or down by chance, so
    that its mean share is the table's.

    Parameters
    ----------
    tier
        A row of `VISUAL_TIERS`.
    shape, colour
        The target's.
    shapes, colours
        What distractors are drawn from.
    rng
        Where chance comes from.

    Raises
    ------
    RuntimeError
        If no placement was found, which the tiers of the table leave no room for.
    """
    over = int(tier.overlapping * tier.distractors + rng.random())
    overlaps = rng.permutation(tier.distractors) < over
    for _ in range(_RESTARTS):
        placing = _Placing(tier, rng)
        placing.target(shape, colour)
        low, high = tier.distractor
        # The largest first: small ones still find room where it is crowded.
        sizes = np.sort(rng.integers(low, high, tier.distractors, endpoint=True))[::-1]
        wanted = zip(sizes.tolist(), overlaps.tolist(), strict=True)
        if all(placing.distractor(shapes, colours, size, over) for size, over in wanted):
            return Scene(tier.width, tier.height, tuple(placing.things))
    raise RuntimeError(f"no placement found for {tier}")


def _square(left: int, top: int, size: int) -> tuple[slice, slice]:
    return slice(top, top + size), slice(left, left + size)


def rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask that have a neighbour outside it, above, below, left or right."""
    wide = np.pad(mask, 1)
    inside = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask & ~inside


class _Placing:
    """One attempt at a scene: what lies where, and how much of each thing is still seen."""

    def __init__(self, tier: VisualTier, rng: np.random.Generator) -> None:
        self.tier, self.rng = tier, rng
        self.things: list[Thing] = []
        self.owner = np.full((tier.height, tier.width), -1, np.int16)
        self.rim = np.zeros((tier.height, tier.width), bool)
        self.seen: list[int] = []
        self.floor: list[float] = []
        self.rim_floor = 0.0

    def target(self, shape: str, colour: str) -> None:
        tier, rng = self.tier, self.rng
        size = int(rng.integers(tier.target[0], tier.target[1], endpoint=True))
        # What overlaps it needs room on all sides.
        room = tier.distractor[1] if tier.overlapping else 0
        room = min(room, (tier.width - size) // 2, (tier.height - size) // 2)
        left = int(rng.integers(room, tier.width - size - room, endpoint=True))
        top = int(rng.integers(room, tier.height - size - room, endpoint=True))
        mask = shape_mask(shape, size)
        self.rim[_square(left, top, size)] = rim(mask)
        self.rim_floor = RIM_SEEN * int(self.rim.sum())
        self._put(Thing(shape, colour, left, top, size), mask, TARGET_SEEN)

    def distractor(
        self, shapes: Sequence[str], colours: Sequence[str], size: int, overlaps: bool
    ) -> bool:
        """Try to place one; whether there was room."""
        for _ in range(_TRIES):
            shape = shapes[int(self.rng.integers(len(shapes)))]
            left, top = self._corner(size, overlaps)
            mask = shape_mask(shape, size)
            if self._fits(left, top, size, mask, overlaps):
                colour = self._colour(left, top, size, colours)
                self._put(Thing(shape, colour, left, top, size), mask, DISTRACTOR_SEEN)
                return True
        return False

    def _corner(self, size: int, overlaps: bool) -> tuple[int, int]:
        """A random place: anywhere, or where the two squares meet."""
        tier, aim = self.tier, self.things[0]
        right, bottom = tier.width - size, tier.height - size
        first_x, first_y, last_x, last_y = 0, 0, right, bottom
        if overlaps:
            first_x, first_y = max(0, aim.left - size + 1), max(0, aim.top - size + 1)
            last_x, last_y = (
                min(right, aim.left + aim.size - 1),
                min(bottom, aim.top + aim.size - 1),
            )
        left = self.rng.integers(first_x, last_x, endpoint=True)
        return int(left), int(self.rng.integers(first_y, last_y, endpoint=True))

    def _fits(
        self, left: int, top: int, size: int, mask: NDArray[np.bool_], overlaps: bool
    ) -> bool:
        aim, place = self.things[0], _square(left, top, size)
        if not self.tier.overlapping:
            edge = slice(max(0, top - _GAP), top + size + _GAP)
            side = slice(max(0, left - _GAP), left + size + _GAP)
            return bool((self.owner[edge, side] < 0).all())
        shared = self._shared(left, top, size, mask, aim)
        if shared < OVERLAP * mask.sum() if overlaps else shared:
            return False
        hidden = np.bincount(self.owner[place][mask] + 1, minlength=len(self.things) + 1)[1:]
        kept = np.array(self.seen) - hidden >= np.array(self.floor)
        rim_left = int(self.rim.sum()) - int((self.rim[place] & mask).sum())
        return bool(kept.all()) and rim_left >= self.rim_floor

    @staticmethod
    def _shared(left: int, top: int, size: int, mask: NDArray[np.bool_], aim: Thing) -> int:
        """Pixels shared with the whole target, hidden ones too."""
        x0, x1 = max(left, aim.left), min(left + size, aim.left + aim.size)
        y0, y1 = max(top, aim.top), min(top + size, aim.top + aim.size)
        if x0 >= x1 or y0 >= y1:
            return 0
        own = mask[y0 - top : y1 - top, x0 - left : x1 - left]
        other = shape_mask(aim.shape, aim.size)
        other = other[y0 - aim.top : y1 - aim.top, x0 - aim.left : x1 - aim.left]
        return int((own & other).sum())

    def _colour(self, left: int, top: int, size: int, colours: Sequence[str]) -> str:
        """A colour that as few as possible of the things it lies on have."""
        edge = slice(max(0, top - 1), top + size + 1)
        side = slice(max(0, left - 1), left + size + 1)
        beneath = [self.things[i].colour for i in np.unique(self.owner[edge, side]) if i >= 0]
        counts = np.array([beneath.count(colour) for colour in colours])
        rarest = np.flatnonzero(counts == counts.min())
        return colours[int(rarest[self.rng.integers(len(rarest))])]

    def _put(self, thing: Thing, mask: NDArray[np.bool_], share: float) -> None:
        part = self.owner[_square(thing.left, thing.top, thing.size)]
        hidden = np.bincount(part[mask] + 1, minlength=len(self.things) + 1)[1:]
        self.seen = [seen - int(less) for seen, less in zip(self.seen, hidden, strict=True)]
        if self.things:
            self.rim[_square(thing.left, thing.top, thing.size)] &= ~mask
        part[mask] = len(self.things)
        self.things.append(thing)
        self.seen.append(int(mask.sum()))
        self.floor.append(share * int(mask.sum()))
