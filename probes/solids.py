"""Solids seen from above at a slant: rays, surfaces and two ways of shining, in NumPy alone.

The camera is orthographic and looks down at `PITCH`: a solid looks the same wherever it stands. Axes:
x to the right, y up, z away from the camera. A solid stands on the plane y = -1 and is 2 high.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PITCH = np.deg2rad(32.0)
SAMPLES = 3
_AWAY = np.array([0.0, -np.sin(PITCH), np.cos(PITCH)])
_UP = np.array([0.0, np.cos(PITCH), np.sin(PITCH)])
_LIGHT = np.array([-0.55, 0.75, -0.45]) / np.linalg.norm([-0.55, 0.75, -0.45])
_HALFWAY = (_LIGHT - _AWAY) / np.linalg.norm(_LIGHT - _AWAY)
# What stands on the plane as round about its axis: lower and upper radius.
_TURNED = {"cylinder": (0.8, 0.8), "cone": (1.0, 0.0), "frustum": (1.0, 0.45)}
_CUBE = 0.85
SOLIDS = ("sphere", "cube", *_TURNED)
MATERIALS = ("metal", "rubber")

Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """A solid without colour: which samples its surface fills, and which way it faces there.

    Attributes
    ----------
    hit : bool array (row, column, sample)
    normal : float array (row, column, sample, 3)
        Unit vectors; zero where nothing is hit.
    foot : (float, float)
        Row and column, in pixels, of the middle of the base.
    """

    hit: NDArray[np.bool_]
    normal: Vectors
    foot: tuple[float, float]

    @property
    def coverage(self) -> NDArray[np.float64]:
        """Share of each pixel (row, column) that is covered."""
        share: NDArray[np.float64] = self.hit.mean(axis=-1)
        return share


@lru_cache(maxsize=256)
def look(solid: str, size: int, turn: int) -> Look:
    """How a solid looks whose picture is `size` pixels on its longer side, cut to its own bounding box.

    Parameters
    ----------
    solid
        One of `SOLIDS`.
    size
        Longer side in pixels. Memory is about ``300 * size**2`` bytes.
    turn
        Degrees about the vertical axis; seen on a cube only.

    Raises
    ------
    ValueError
        If there is no such solid.
    """
    if solid not in SOLIDS:
        raise ValueError(f"unknown solid {solid!r}; known: {', '.join(SOLIDS)}")
    low, high = _extent(solid, turn)
    scale = (high - low).max() / size
    width, height = np.maximum(np.rint((high - low) / scale).astype(int), 1)
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES
    middle = (low + high) / 2
    across = (np.arange(width)[:, None] + steps - width / 2) * scale + middle[0]
    down = (height / 2 - np.arange(height)[:, None] - steps) * scale + middle[1]
    a = np.broadcast_to(across[None, :, None, :], (height, width, SAMPLES, SAMPLES))
    b = np.broadcast_to(down[:, None, :, None], a.shape)
    rays = np.stack([a.reshape(height, width, -1), b.reshape(height, width, -1)], axis=-1)
    hit, normal = cast(solid, rays, turn)
    foot = (height / 2 - (-np.cos(PITCH) - middle[1]) / scale, width / 2 - middle[0] / scale)
    for array in (hit, normal):
        array.setflags(write=False)
    return Look(hit, normal, foot)


def cast(solid: str, rays: Vectors, turn: int) -> tuple[NDArray[np.bool_], Vectors]:
    """Where parallel rays first meet a solid.

    Parameters
    ----------
    solid, turn
        As in `look`.
    rays : float array (…, 2)
        Coordinates in the picture's plane, to the right and up, whose origin is the solid's middle.

    Returns
    -------
    hit : bool array (…)
    normal : float array (…, 3)
        Zero where nothing is hit.
    """
    start = rays[..., :1] * [1.0, 0.0, 0.0] + rays[..., 1:] * _UP - 4 * _AWAY
    if solid == "sphere":
        return _sphere(start)
    if solid == "cube":
        return _cube(start, np.deg2rad(turn))
    return _turned(start, *_TURNED[solid])


def shade(
    shape: Look, *, colour: tuple[int, int, int], material: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coverage (row, column) and colour (row, column, 3) in 0…255 of a solid.

    Rubber scatters light evenly. Metal mirrors its surroundings, a bright sky over a dark floor, tinted
    with its colour, and has a small white highlight.

    Raises
    ------
    ValueError
        If the material is neither.
    """
    base = np.asarray(colour, np.float64)
    normal = shape.normal
    facing = np.clip(normal @ _LIGHT, 0, 1)[..., None]
    if material == "rubber":
        lit = base * (0.42 + 0.58 * facing)
    elif material == "metal":
        rows, columns = normal.shape[:2]
        # As if seen from near by: a flat face mirrors another place at each of its points.
        across = np.linspace(-1, 1, columns)[None, :, None, None]
        up = np.linspace(1, -1, rows)[:, None, None, None]
        mirrored = _AWAY - 2 * (normal @ _AWAY)[..., None] * normal
        height = mirrored[..., 1:2] + 0.55 * up
        streak = np.sin(6 * (mirrored[..., :1] + 0.5 * across) + 4 * height)
        level = 1 / (1 + np.exp(-np.clip(height / 0.1, -40, 40)))
        sky, floor = 0.85 + 0.3 * np.clip(height, 0, 1) + 0.3 * streak, 0.45 + 0.2 * streak
        spot = np.clip(normal @ _HALFWAY, 0, 1)[..., None] ** 90
        lit = base * (floor + (sky - floor) * level) + 45 * level + 235 * spot
    else:
        raise ValueError(f"unknown material {material!r}; known: {', '.join(MATERIALS)}")
    seen = shape.hit[..., None]
    total = np.where(seen, np.clip(lit, 0, 255), 0).sum(axis=2)
    mean = total / np.maximum(seen.sum(axis=2), 1)
    return shape.coverage, mean


def _extent(solid: str, turn: int) -> tuple[Vectors, Vectors]:
    """Corners of a solid's picture, in the units of `cast`."""
    if solid == "sphere":
        return np.array([-1.0, -1.0]), np.array([1.0, 1.0])
    if solid == "cube":
        angle = np.deg2rad(turn)
        wide = _CUBE * (abs(np.cos(angle)) + abs(np.sin(angle)))
        tall = _CUBE * np.cos(PITCH) + wide * np.sin(PITCH)
        # It stands on the plane: its middle is lower than the sphere's.
        drop = (_CUBE - 1) * np.cos(PITCH)
        return np.array([-wide, drop - tall]), np.array([wide, drop + tall])
    lower, upper = _TURNED[solid]
    rise, slant = np.cos(PITCH), np.sin(PITCH)
    wide = max(lower, upper)
    bottom, top = -rise - lower * slant, max(rise + upper * slant, -rise + lower * slant)
    return np.array([-wide, bottom]), np.array([wide, top])


def _sphere(start: Vectors) -> tuple[NDArray[np.bool_], Vectors]:
    along = start @ _AWAY
    inner = along**2 - (start**2).sum(axis=-1) + 1
    hit = inner >= 0
    point = start + (-along - np.sqrt(np.clip(inner, 0, None)))[..., None] * _AWAY
    return hit, np.where(hit[..., None], point, 0)


def _cube(start: Vectors, angle: float) -> tuple[NDArray[np.bool_], Vectors]:
    """Slabs, in the cube's own axes."""
    c, s = np.cos(angle), np.sin(angle)
    own = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    origin = (start - [0, _CUBE - 1, 0]) @ own.T
    ray = own @ _AWAY
    # A face parallel to the rays is never entered nor left.
    safe = np.where(np.abs(ray) < 1e-12, 1e-12, ray)
    near, far = (-_CUBE * np.sign(safe) - origin) / safe, (_CUBE * np.sign(safe) - origin) / safe
    axis = near.argmax(axis=-1)
    hit = near.max(axis=-1) <= far.min(axis=-1)
    faces = -np.sign(safe)[:, None] * own
    return hit, np.where(hit[..., None], faces[axis], 0)


def _turned(start: Vectors, lower: float, upper: float) -> tuple[NDArray[np.bool_], Vectors]:
    """A straight side between two radii, and its two ends."""
    slope = (upper - lower) / 2
    middle = (upper + lower) / 2
    radius = middle + slope * start[..., 1]
    change = slope * _AWAY[1]
    a = _AWAY[0] ** 2 + _AWAY[2] ** 2 - change**2
    b = start[..., 0] * _AWAY[0] + start[..., 2] * _AWAY[2] - radius * change
    c = start[..., 0] ** 2 + start[..., 2] ** 2 - radius**2
    inner = b**2 - a * c
    at = np.where(inner >= 0, (-b - np.sqrt(np.clip(inner, 0, None))) / a, np.inf)
    finite = np.where(np.isfinite(at), at, 0)
    point = start + finite[..., None] * _AWAY
    on_side = np.isfinite(at) & (np.abs(point[..., 1]) <= 1)
    side = np.stack([point[..., 0], -slope * (middle + slope * point[..., 1]), point[..., 2]], -1)
    length = np.linalg.norm(side, axis=-1, keepdims=True)
    side = np.divide(side, length, out=np.zeros_like(side), where=length > 0)
    # The camera looks down, so of the ends only the upper one is ever seen.
    over = start + ((1 - start[..., 1]) / _AWAY[1])[..., None] * _AWAY
    on_top = over[..., 0] ** 2 + over[..., 2] ** 2 <= upper**2
    normal = np.where(on_top[..., None], [0.0, 1.0, 0.0], np.where(on_side[..., None], side, 0))
    return on_top | on_side, normal
