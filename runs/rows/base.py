"""What a row of the catalogue is: a measure with one convention, and what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
        Dimensions of every output that the function adds.
    labels : mapping
        Values along the dimensions it adds, where no variable it reads has them.
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
    labels: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    version: int = 1
    default: bool = True


class Reduce(Row):
    """Captured variables of one checkpoint to numbers."""


@dataclass(frozen=True)
class Pair(Row):
    """Two checkpoints to numbers: the function gets the reads of the one, then those of the other.

    Attributes
    ----------
    others : str
        `final`: each checkpoint against the last of its branch; `all`: against every one.
    """

    others: str = "final"
