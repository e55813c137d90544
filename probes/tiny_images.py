"""Small pictures of coloured shapes on a grid, drawn by arithmetic, thousands a second.

A picture is 64 × 64 pixels, white, in 4 × 4 cells of 16 × 16; a cell holds at most one object, whose
place inside the cell is random. No two objects of a picture have one shape. From tier 2 on, grey discs
cover a share of every object. The difficulty tiers follow arXiv 2511.02243 (Appendix B) in kind, not in
number: more objects, smaller ones, and more covered.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.cases import Image
from probes.tiny_texts import COLOURS, SHAPES

SIZE, CELL = 64, 16
GRID = SIZE // CELL
OBJECTS = 5
DISCS = 3

_RGB = np.array(
    [
        (220, 40, 40),
        (235, 215, 50),
        (45, 85, 220),
        (45, 160, 70),
        (140, 60, 180),
        (245, 140, 30),
    ],
    np.float32,
)
_GREY = np.float32(128)
_WHITE = np.float32(255)


@dataclass(frozen=True)
class Tier:
    """How hard a picture is: objects, their radius in pixels, and the share of each that is covered."""

    objects: int
    radius: float
    covered: tuple[float, float]


TIERS = (
    Tier(1, 7.0, (0.0, 0.0)),
    Tier(3, 6.5, (0.0, 0.0)),
    Tier(4, 6.0, (0.0, 0.15)),
    Tier(5, 5.5, (0.1, 0.3)),
    Tier(5, 5.5, (0.5, 0.8)),
    Tier(5, 5.5, (0.8, 1.0)),
)


@dataclass(frozen=True)
class TinyPlans:
    """What is drawn in each picture, as columns; `plans[i]` is the plan of picture i.

    Attributes
    ----------
    cell : int8 array (image, object)
        Cell of the grid, row by row; −1 where there is no object.
    shape, colour : int8 array (image, object)
        Into `SHAPES` and `COLOURS`.
    centre : float32 array (image, object, 2)
        Row and column inside the cell, in pixels.
    radius, covered : float32 array (image, object)
        In pixels, and as a share of the object's pixels.
    discs : float32 array (image, object, disc, 2)
        Centres of what covers it, inside the cell.
    """

    cell: NDArray[np.int8]
    shape: NDArray[np.int8]
    colour: NDArray[np.int8]
    centre: NDArray[np.float32]
    radius: NDArray[np.float32]
    covered: NDArray[np.float32]
    discs: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.cell)

    def __getitem__(self, number: int) -> TinyPlans:
        if not -len(self) <= number < len(self):
            raise IndexError(f"there are {len(self)} plans, and no number {number}")
        return self.part([number])

    def part(self, rows: Any) -> TinyPlans:
        """Some of the plans, in the order given."""
        return TinyPlans(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @property
    def present(self) -> NDArray[np.bool_]:
        """Where there is an object (image, object)."""
        return self.cell >= 0


def draw_plans(
    rng: np.random.Generator,
    tiers: NDArray[np.int64],
    *,
    shapes: NDArray[np.int64] | None = None,
    colours: NDArray[np.int64] | None = None,
) -> TinyPlans:
    """Plan pictures of given tiers.

    Parameters
    ----------
    rng
        Where chance comes from.
    tiers
        Tier of each picture (image,), into `TIERS`.
    shapes, colours
        What the objects are (image, object), as many as `OBJECTS`; a tier uses the first few. By default
        different shapes, and colours that do not depend on one another.

    Returns
    -------
    TinyPlans

    Raises
    ------
    ValueError
        If there is no such tier.
    """
    count = len(tiers)
    if count and not (tiers.min() >= 0 and tiers.max() < len(TIERS)):
        raise ValueError(f"visual tiers must be 0 to {len(TIERS) - 1}, not {tiers.tolist()}")
    if shapes is None:
        shapes = _orders(rng, count, len(SHAPES))[:, :OBJECTS]
    if colours is None:
        colours = rng.integers(0, len(COLOURS), (count, OBJECTS))
    number = np.array([tier.objects for tier in TIERS])[tiers]
    cells = _orders(rng, count, GRID**2)[:, :OBJECTS]
    cells = np.where(np.arange(OBJECTS) < number[:, None], cells, -1)
    radius = np.repeat(np.array([tier.radius for tier in TIERS])[tiers][:, None], OBJECTS, axis=1)
    slack = CELL / 2 - radius[..., None]
    centre = CELL / 2 + slack * rng.uniform(-1, 1, (count, OBJECTS, 2))
    bounds = np.array([tier.covered for tier in TIERS])[tiers]
    covered = rng.uniform(bounds[:, :1], bounds[:, 1:], (count, OBJECTS))
    away = rng.uniform(-1, 1, (count, OBJECTS, DISCS, 2)) * radius[..., None, None]
    return TinyPlans(
        cells.astype(np.int8),
        shapes.astype(np.int8),
        colours.astype(np.int8),
        centre.astype(np.float32),
        radius.astype(np.float32),
        covered.astype(np.float32),
        (centre[:, :, None] + away).astype(np.float32),
    )


def render(plan: TinyPlans) -> Image:
    """The picture of one plan, uint8 (64, 64, 3).

    Raises
    ------
    ValueError
        If it is not one plan.
    """
    if len(plan) != 1:
        raise ValueError(f"one plan makes one picture, and there are {len(plan)}")
    picture: Image = render_many(plan)[0]
    return picture


def render_many(plans: TinyPlans) -> NDArray[np.uint8]:
    """Pictures uint8 (image, 64, 64, 3).

    Objects are sampled at 2 × 2 points a pixel. What covers one is the union of equal discs, as large as
    covers the planned share of it, to a pixel. Memory: 15 kB an object on top of the pictures.
    """
    image, slot = np.nonzero(plans.present)
    inside = object_masks(plans, image, slot)
    hidden = disc_masks(plans, image, slot, inside)[..., None]
    colour = _RGB[plans.colour[image, slot]][:, None, None, :]
    painted = _WHITE + inside[..., None] * (colour - _WHITE)
    painted = np.where(hidden, _GREY, painted)
    canvas = np.full((len(plans), GRID, GRID, CELL, CELL, 3), 255, np.uint8)
    row, column = np.divmod(plans.cell[image, slot], GRID)
    canvas[image, row, column] = np.rint(painted).astype(np.uint8)
    return canvas.transpose(0, 1, 3, 2, 4, 5).reshape(len(plans), SIZE, SIZE, 3)


def object_masks(
    plans: TinyPlans, image: NDArray[np.intp], slot: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Share of each pixel of its cell that an object fills, before it is covered (object, 16, 16)."""
    half = (np.arange(2 * CELL, dtype=np.float32) + 0.5) / 2
    centre, radius = plans.centre[image, slot], plans.radius[image, slot][:, None, None]
    v = (half[:, None] - centre[:, 0, None, None]) / radius
    u = (half[None, :] - centre[:, 1, None, None]) / radius
    kinds = plans.shape[image, slot]
    inside = np.empty((len(v), 2 * CELL, 2 * CELL), np.bool_)
    for number, name in enumerate(SHAPES):
        which = kinds == number
        inside[which] = _INSIDE[name](u[which], v[which])
    cells = inside.reshape(-1, CELL, 2, CELL, 2)
    shares: NDArray[np.float32] = cells.mean(axis=(2, 4), dtype=np.float32)
    return shares


def disc_masks(
    plans: TinyPlans,
    image: NDArray[np.intp],
    slot: NDArray[np.intp],
    inside: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Pixels of its cell where discs lie over an object (object, 16, 16)."""
    covered = plans.covered[image, slot]
    hidden = np.zeros(inside.shape, np.bool_)
    which = np.flatnonzero(covered > 0)
    middle = np.arange(CELL, dtype=np.float32) + 0.5
    discs = plans.discs[image[which], slot[which]]
    away = (middle[:, None] - discs[:, :, 0, None, None]) ** 2
    away = away + (middle[None, :] - discs[:, :, 1, None, None]) ** 2
    distance = away.min(axis=1).reshape(len(which), CELL**2)
    order = np.argsort(distance, axis=1, kind="stable")
    filled = np.take_along_axis(inside[which].reshape(len(which), CELL**2), order, axis=1)
    total = filled.sum(axis=1, keepdims=True)
    under = np.cumsum(filled, axis=1) <= covered[which, None] * total + 1e-3
    # Beyond the object's last pixel every sum is the whole: such pixels are not reached.
    under &= np.cumsum(filled[:, ::-1], axis=1)[:, ::-1] > 0
    flat = np.zeros(distance.shape, np.bool_)
    np.put_along_axis(flat, order, under, axis=1)
    hidden[which] = flat.reshape(len(which), CELL, CELL)
    return hidden


def _orders(rng: np.random.Generator, count: int, size: int) -> NDArray[np.int64]:
    """A permutation of `size` numbers a row."""
    return np.argsort(rng.random((count, size)), axis=1)


def _cross(u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.bool_]:
    near, far = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    found: NDArray[np.bool_] = (near <= 0.34) & (far <= 1)
    return found


# Points inside each shape; u to the right and v down, in radii.
_INSIDE: dict[str, Any] = {
    "circle": lambda u, v: u**2 + v**2 <= 0.95,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 0.82,
    "triangle": lambda u, v: (v <= 0.85) & (abs(u) <= 0.54 * (v + 1)),
    "diamond": lambda u, v: abs(u) + abs(v) <= 1,
    "cross": _cross,
    "ring": lambda u, v: abs(np.sqrt(u**2 + v**2) - 0.78) <= 0.22,
}
