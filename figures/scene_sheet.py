"""A contact sheet: a few images of every visual tier, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy import uint8
from numpy.typing import NDArray

from figures.style import Theme, styled

_INCHES = 1.15
_NAMES = 0.9


def draw_scene_sheet(rows: Mapping[str, Sequence[NDArray[uint8]]], theme: Theme) -> Figure:
    """Draw one row of images a name.

    Parameters
    ----------
    rows
        Name of a row, such as its tier, to images (height, width, 3) of any size.
    theme
        Colours of the page.

    Returns
    -------
    Figure
        Rows are as high as their tallest image.

    Raises
    ------
    ValueError
        If there is nothing to draw, or a row without images.
    """
    if not rows or not all(rows.values()):
        raise ValueError("no images to draw; give at least one row, and an image or more in each")
    columns = max(len(images) for images in rows.values())
    tall = [_INCHES * max(image.shape[0] / image.shape[1] for image in r) for r in rows.values()]
    width, height = _NAMES + columns * _INCHES, sum(tall)
    with styled(theme):
        figure = Figure(figsize=(width, height), dpi=200)
        bottom = height
        for (name, images), high in zip(rows.items(), tall, strict=True):
            bottom -= high
            figure.text(0.08 / width, (bottom + high / 2) / height, name, va="center")
            for column, image in enumerate(images):
                left = (_NAMES + column * _INCHES) / width
                box = (left, bottom / height, 0.96 * _INCHES / width, 0.96 * high / height)
                axes = figure.add_axes(box)
                axes.set_axis_off()
                axes.imshow(image, interpolation="antialiased")
                down, across = image.shape[:2]
                frame = Rectangle((-0.5, -0.5), across, down, fill=False, color=theme.faint)
                frame.set_clip_on(False)
                axes.add_patch(frame)
    return figure
