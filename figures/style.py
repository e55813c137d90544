"""The one style of every figure: colours, sizes and fonts, in a light and a dark theme."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib import style as mpl_style
from matplotlib.colors import Colormap, ListedColormap

WIDTH = 7.0
"""Width of every figure in inches: one text column of a printed page."""

_HASH_SALT = "phasescope"


@dataclass(frozen=True)
class Theme:
    """Colours of one theme.

    Attributes
    ----------
    name : "light" or "dark".
    page, ink, muted, faint : background, text, secondary text, grid lines.
    categories : colours of branches, from Okabe and Ito's colour-blind safe set.
    phases : colour of each phase name.
    phase_alpha : opacity of the shading behind a curve.
    ramp : the part of a sequential colour map (start, end in 0…1) legible on `page`.
    """

    name: str
    page: str
    ink: str
    muted: str
    faint: str
    categories: tuple[str, ...]
    phases: dict[str, str]
    phase_alpha: float
    ramp: tuple[float, float]

    def category(self, index: int) -> str:
        """Colour of the category number `index`; the cycle starts again when it is used up."""
        return self.categories[index % len(self.categories)]

    def phase(self, label: str) -> str:
        """Colour of a phase; an unknown name is drawn as `unlabelled`."""
        return self.phases.get(label, self.phases["unlabelled"])

    def line_colours(self, name: str = "viridis") -> Colormap:
        """Return a sequential map without the end that vanishes into the background."""
        start, end = self.ramp
        full = matplotlib.colormaps[name]
        count = 256
        positions = [start + (end - start) * i / (count - 1) for i in range(count)]
        return ListedColormap(
            [full(position) for position in positions], name=f"{name}_{self.name}"
        )

    def heat_colours(self, name: str = "cividis") -> Colormap:
        """Return a sequential map for filled cells; a cell without a number shows the page."""
        return matplotlib.colormaps[name].with_extremes(bad=self.page)


LIGHT = Theme(
    name="light",
    page="#ffffff",
    ink="#1c2126",
    muted="#59636e",
    faint="#dfe3e8",
    categories=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    phases={
        "warm-up": "#E69F00",
        "entropy-seeking": "#56B4E9",
        "compression-seeking": "#CC79A7",
        "unlabelled": "#9aa4ae",
    },
    phase_alpha=0.20,
    ramp=(0.0, 0.88),
)

DARK = Theme(
    name="dark",
    page="#15191e",
    ink="#e8ebee",
    muted="#a3adb8",
    faint="#333b44",
    categories=("#56B4E9", "#E69F00", "#2bc296", "#e6a3c8", "#F0E442", "#f07f3c"),
    phases={
        "warm-up": "#E69F00",
        "entropy-seeking": "#56B4E9",
        "compression-seeking": "#CC79A7",
        "unlabelled": "#9aa4ae",
    },
    phase_alpha=0.24,
    ramp=(0.18, 1.0),
)

THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def theme_named(name: str) -> Theme:
    """Return the theme called `name`.

    Raises
    ------
    ValueError
        If there is no such theme.
    """
    if name not in THEMES:
        raise ValueError(f"theme is {name!r}; give one of {', '.join(sorted(THEMES))}")
    return THEMES[name]


def _settings(theme: Theme) -> dict[str, Any]:
    return {
        "figure.facecolor": theme.page,
        "figure.edgecolor": theme.page,
        "savefig.facecolor": "auto",
        "axes.facecolor": "none",
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.linewidth": 0.7,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.family": ["DejaVu Sans"],
        "font.size": 8.5,
        "grid.color": theme.faint,
        "grid.linewidth": 0.6,
        "image.cmap": "cividis",
        "legend.fontsize": 8,
        "legend.frameon": False,
        "legend.labelcolor": theme.ink,
        "lines.linewidth": 1.5,
        "lines.markersize": 3.0,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        # The same bytes on every run: no random ids, fonts that ship with matplotlib.
        "svg.hashsalt": _HASH_SALT,
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
        "savefig.dpi": 200,
    }


@contextmanager
def styled(theme: Theme) -> Iterator[None]:
    """Hold matplotlib's settings at this style; the caller's own settings come back after.

    Starts from matplotlib's defaults, so that a user's matplotlibrc does not change a figure.
    """
    with mpl_style.context(["default", _settings(theme)]):
        yield
