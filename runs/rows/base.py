"""What a row of the catalogue is: a measure with one convention, and what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.intp]

ESTIMATE = ("value", "standard_error", "lower", "upper")
LEVEL = 0.95


@dataclass(frozen=True)
class Read:
    """One captured variable a row reads.

    Attributes
    ----------
    variable : str
        `PRODUCT/VARIABLE` of the set.
    core : tuple of str
        Dimensions the function consumes; every other one broadcasts.
    select : mapping
        Coordinates picked beforehand.
    """

    variable: str
    core: tuple[str, ...] = ()
    select: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One measure with one convention.

    Attributes
    ----------
    name, convention : str
        What `measure(tree, name, convention=…)` takes.
    reads : tuple of Read
        In the order of the function's arguments.
    function
        Arrays in, one array or a tuple of arrays out, in the order of `outputs`.
    outputs : tuple of str
        Names of the results; the first is `value`.
    unit, source, interval : str
        Unit, where the definition is from, and how its interval is made.
    core : tuple of str
        Dimensions of every output that the function adds. `other_X` is as long as `X`, and both may be
        consumed and added again.
    labels : mapping
        Coordinate of each of these dimensions that no variable read has.
    levels : mapping
        Of each of these dimensions, which variable read has its cells: the distinct values, sorted.
    version : int
        Raised when numbers change; stale results are then computed again.
    default : bool
        Whether `run` computes it unasked.
    """

    name: str
    convention: str
    reads: tuple[Read, ...]
    function: Callable[..., Any]
    unit: str
    source: str
    interval: str = ""
    outputs: tuple[str, ...] = ESTIMATE
    core: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str | float, ...]] = field(default_factory=dict)
    levels: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    default: bool = True


class Reduce(Row):
    """Captured variables of one checkpoint to numbers."""


# Rows of one branch, in order, to the row each is compared with; -1 where there is none.
PARTNERS: Mapping[str, Callable[[Index], Index]] = {
    "final": lambda rows: np.full_like(rows, rows[-1]),
    "first": lambda rows: np.full_like(rows, rows[0]),
    "previous": lambda rows: np.append(np.intp(-1), rows[:-1]),
}


@dataclass(frozen=True)
class Pair(Row):
    """Two checkpoints to numbers: the function gets the reads of the one, then those of the other.

    Attributes
    ----------
    others : str
        A key of `PARTNERS`, each checkpoint against one of its branch (NaN where there is none), or
        `all`: against every one.
    """

    others: str = "final"
