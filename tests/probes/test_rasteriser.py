"""Shapes as pixels, against areas in closed form and the crossing rule point by point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from probes.rasteriser import (
    SHAPES,
    as_image,
    outline,
    paint,
    polygon_coverage,
    shape_coverage,
    shape_mask,
)

# Area of each shape as a share of the square of its bounding box's longer side.
GOLDEN = (1 + np.sqrt(5)) / 2
WIDE = np.cos(np.pi / 10) * 2
AREAS = {
    "circle": np.pi / 4,
    "square": 1.0,
    "triangle": np.sqrt(3) / 4,
    "diamond": 0.3,
    "pentagon": 2.5 * np.sin(2 * np.pi / 5) / WIDE**2,
    "hexagon": 3 * np.sqrt(3) / 8,
    "cross": 5 / 9,
    "heart": None,
    "crescent": None,
    "star": 10 * np.tan(np.pi / 10) / (3 - np.tan(np.pi / 10) ** 2) / WIDE**2,
}


@pytest.mark.parametrize("shape", [s for s, area in AREAS.items() if area is not None])
@pytest.mark.parametrize("size", [23, 96])
def test_areas_are_those_of_the_shapes(shape: str, size: int) -> None:
    covered = shape_coverage(shape, size).sum() / size**2
    assert covered == pytest.approx(AREAS[shape], abs=2e-3 if size > 50 else 5e-3)


def test_a_crescent_is_what_two_discs_leave() -> None:
    # Radius 1 about 0, less radius 0.85 about 0.5, counted on a fine grid.
    x, y = np.meshgrid(*[np.linspace(-1, 1, 2001)] * 2)
    left = (x**2 + y**2 <= 1) & ((x - 0.5) ** 2 + y**2 > 0.85**2)
    # Its height is 2, the box's longer side, as its outer arc goes beyond the poles.
    assert shape_coverage("crescent", 100).mean() == pytest.approx(
        left.mean() * 2001**2 / 2000**2, abs=2e-3
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [12, 51, 200])
def test_the_longer_side_is_the_size(shape: str, size: int) -> None:
    covered = shape_coverage(shape, size)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == size
    assert (shape_mask(shape, size) == (covered >= 0.5)).all()


@pytest.mark.parametrize("shape", ["circle", "square", "diamond", "hexagon", "cross"])
def test_shapes_with_two_axes_look_the_same_from_behind(shape: str) -> None:
    covered = shape_coverage(shape, 64)
    np.testing.assert_allclose(covered, covered[:, ::-1], atol=1e-9)
    np.testing.assert_allclose(covered, covered[::-1], atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    corners=st.lists(
        st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=7, unique=True
    )
)
@example(corners=[(0.0, 0.0), (5.0, 2.2250738585e-308), (5.0, 9.0)])
@example(corners=[(-5.0, 1.0), (25.0, 1.0000000000000002), (3.0, 5e-324)])
def test_coverage_agrees_with_counting_crossings(corners: list[tuple[float, float]]) -> None:
    """Each point on its own, by the winding of a ray to the left."""
    points = np.array(corners)
    fine, size = 16, 20
    place = (np.arange(size * fine) + 0.5) / fine
    inside = np.zeros((size * fine, size * fine), bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        between = (min(y0, y1) <= place) & (place < max(y0, y1))
        if not between.any():
            continue
        at = x0 + (place - y0) * (x1 - x0) / (y1 - y0)
        inside ^= between[:, None] & (at[:, None] < place[None, :])
    counted = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
    found = polygon_coverage(points, width=size, height=size)
    assert abs(found.sum() - counted.sum()) < 2.5
    assert np.abs(found - counted).mean() < 0.03
    assert found.min() >= 0
    assert found.max() <= 1


def test_paint_mixes_by_coverage() -> None:
    canvas = np.full((4, 5, 3), 255.0)
    paint(canvas, np.array([[0.0, 0.5, 1.0]]), (55, 155, 255), left=1, top=2)
    image = as_image(canvas)
    assert image[2, 1:4].tolist() == [[255, 255, 255], [155, 205, 255], [55, 155, 255]]
    image[2, 1:4] = 255
    assert (image == 255).all()


def test_unknown_shapes_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown shape 'blob'; known: circle"):
        outline("blob")
    with pytest.raises(ValueError, match="at least one pixel"):
        shape_coverage("circle", 0)
