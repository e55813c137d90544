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
        As many inches high as there are rows.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    columns = max((len(images) for images in rows.values()), default=0)
    if not columns:
        raise ValueError("no images to draw; give at least one row of them")
    width, height = _NAMES + columns * _INCHES, len(rows) * _INCHES
    with styled(theme):
        figure = Figure(figsize=(width, height), dpi=200)
        for place, (name, images) in enumerate(rows.items()):
            bottom = 1 - (place + 1) * _INCHES / height
            figure.text(0.08 / width, bottom + 0.5 * _INCHES / height, name, va="center")
            for column, image in enumerate(images):
                left = (_NAMES + column * _INCHES) / width
                box = (left, bottom, 0.96 * _INCHES / width, 0.96 * _INCHES / height)
                axes = figure.add_axes(box)
                axes.set_axis_off()
                axes.imshow(image, interpolation="antialiased")
                rows_, columns_ = image.shape[:2]
                frame = Rectangle((-0.5, -0.5), columns_, rows_, fill=False, color=theme.faint)
                frame.set_clip_on(False)
                axes.add_patch(frame)
    return figure
