"""Filled shapes as anti-aliased pixels: polygons by exact spans of many sub-rows, in NumPy alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from probes.cases import Image

SUBROWS = 8
_ROUND = 256


def _regular(corners: int, *, turn: float = 0.0) -> NDArray[np.float64]:
    angle = 2 * np.pi * (np.arange(corners) + turn) / corners
    return np.stack([np.sin(angle), -np.cos(angle)], axis=1)


def _star() -> NDArray[np.float64]:
    # The inner corners of the pentagram lie at (3 − √5)/2 of the outer ones' radius.
    corners = _regular(10)
    corners[1::2] *= (3 - np.sqrt(5)) / 2
    return corners


def _cross() -> NDArray[np.float64]:
    near, far = 1 / 6, 1 / 2
    quarter = np.array([(-near, -far), (near, -far), (near, -near)])
    turns = [quarter, quarter[:, ::-1] * [-1, 1], -quarter, quarter[:, ::-1] * [1, -1]]
    return np.concatenate(turns)


def _heart() -> NDArray[np.float64]:
    t = 2 * np.pi * np.arange(_ROUND) / _ROUND
    height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -height], axis=1)


def _crescent() -> NDArray[np.float64]:
    """A disc of radius 1 less a disc of radius 0.85 that lies 0.5 to the right."""
    radius, shift = 0.85, 0.5
    crossing = (1 + shift**2 - radius**2) / (2 * shift)
    outer_end = np.arccos(crossing)
    inner_end = np.arctan2(np.sin(outer_end), crossing - shift)
    outer = np.linspace(outer_end, 2 * np.pi - outer_end, _ROUND)
    inner = np.linspace(2 * np.pi - inner_end, inner_end, _ROUND)
    return np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([shift + radius * np.cos(inner), radius * np.sin(inner)], axis=1),
        ]
    )


_OUTLINES: dict[str, Callable[[], NDArray[np.float64]]] = {
    "circle": lambda: _regular(_ROUND),
    "square": lambda: _regular(4, turn=0.5),
    "triangle": lambda: _regular(3),
    "diamond": lambda: _regular(4) * [0.6, 1.0],
    "pentagon": lambda: _regular(5),
    "hexagon": lambda: _regular(6, turn=0.5),
    "cross": _cross,
    "heart": _heart,
    "crescent": _crescent,
    "star": _star,
}
SHAPES = tuple(_OUTLINES)


def outline(shape: str) -> NDArray[np.float64]:
    """Corners (corner, 2) of a shape, x to the right and y downwards.

    The longer side of its bounding box is exactly 1, and the box is centred in the unit square.

    Raises
    ------
    ValueError
        If no shape has that name.
    """
    if shape not in _OUTLINES:
        raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")
    corners = _OUTLINES[shape]()
    low, high = corners.min(axis=0), corners.max(axis=0)
    unit: NDArray[np.float64] = (corners - (low + high) / 2) / (high - low).max() + 0.5
    return unit


def polygon_coverage(
    corners: NDArray[np.float64], *, width: int, height: int
) -> NDArray[np.float64]:
    """Share of each pixel that a closed polygon covers, by the even-odd rule.

    Each pixel row is cut into `SUBROWS` rows; the spans inside are exact along each.

    Parameters
    ----------
    corners : float array (corner, 2)
        x and y in pixels; the last corner joins the first.
    width, height
        Size of the raster. Memory is about ``3 * SUBROWS * height * width * 8`` bytes.

    Returns
    -------
    float array (height, width)
        In [0, 1].
    """
    rows = (np.arange(height * SUBROWS) + 0.5) / SUBROWS
    x, y = corners.T
    x_next, y_next = np.roll(x, -1), np.roll(y, -1)
    crossed = (y <= rows[:, None]) != (y_next <= rows[:, None])
    # Only of sides that a row crosses: one that is all but level, as high as 1e-308, has no finite slope.
    slope = np.divide(x_next - x, y_next - y, out=np.zeros_like(x), where=crossed.any(axis=0))
    at = np.where(crossed, x + (rows[:, None] - y) * slope, np.inf)
    most = int(crossed.sum(axis=1).max(initial=0))
    at = np.sort(at, axis=1)[:, :most]
    coverage = np.zeros((len(rows), width))
    pixels = np.arange(width)
    for start in range(0, most, 2):
        left, right = at[:, start, None], at[:, start + 1, None]
        # Rows with fewer crossings have both at infinity, and so nothing between.
        span = np.minimum(right, pixels + 1) - np.maximum(np.minimum(left, width), pixels)
        coverage += np.clip(span, 0, 1)
    shares: NDArray[np.float64] = coverage.reshape(height, SUBROWS, width).mean(axis=1)
    return np.clip(shares, 0, 1)


@lru_cache(maxsize=1024)
def shape_coverage(shape: str, size: int) -> NDArray[np.float64]:
    """Share of each pixel (size, size) covered by a shape whose longer side is `size` pixels; read-only.

    Raises
    ------
    ValueError
        If the shape is unknown or the size not positive.
    """
    if size < 1:
        raise ValueError(f"size {size}: at least one pixel is needed")
    coverage = polygon_coverage(outline(shape) * size, width=size, height=size)
    coverage.setflags(write=False)
    return coverage


@lru_cache(maxsize=1024)
def shape_mask(shape: str, size: int) -> NDArray[np.bool_]:
    """Pixels (size, size) of which a shape covers at least half; read-only."""
    mask = shape_coverage(shape, size) >= 0.5
    mask.setflags(write=False)
    return mask


def paint(
    canvas: NDArray[np.float64],
    coverage: NDArray[np.float64],
    colour: NDArray[np.float64] | tuple[int, int, int],
    *,
    left: int,
    top: int,
) -> None:
    """Lay one colour over a canvas (height, width, 3) in place, as much of it as each pixel is covered.

    Parameters
    ----------
    canvas : float array (height, width, 3)
        In 0…255.
    coverage : float array (rows, columns)
        Lies wholly inside the canvas.
    colour
        One colour, or one a pixel (rows, columns, 3), in 0…255.
    left, top
        Where the coverage's first pixel lies.
    """
    rows, columns = coverage.shape
    part = canvas[top : top + rows, left : left + columns]
    part += coverage[..., None] * (np.asarray(colour, np.float64) - part)


def as_image(canvas: NDArray[np.float64]) -> Image:
    """Round a canvas to 8 bits."""
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
