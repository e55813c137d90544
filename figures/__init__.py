"""From a store to a page: one module a figure family, one style, the report."""

from figures.catalogue import FIGURES, draw, figures_of
from figures.row import FigureRow
from figures.save import save
from figures.select import MissingMeasure

__all__ = ["FIGURES", "FigureRow", "MissingMeasure", "draw", "figures_of", "save"]
