"""What rows of word classes share: samples with labels of one (checkpoint, layer), and kept results."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from geometry.jackknife import Estimate
from geometry.separation import gdv_interval
from probes import clustering
from probes.classifiers import FOLDS, Unseen, unseen
from probes.control_tasks import control_labels
from probes.permutation import permuted_labels
from runs.rows.base import Read
from runs.rows.points import POINTS, last_tokens

T = TypeVar("T")
Texts = NDArray[np.str_]

CLASS = Read("points/word_class", ("point",))
CELL = (*POINTS, CLASS)
"""What nearly every row reads: states, their groups, and the class of the word that follows."""
BY_DOCUMENT = "infinitesimal jackknife by document, 95 %"
SEED = 0
PERMUTATIONS = 99


def samples(
    x: NDArray[Any], kept: Any, last: NDArray[np.bool_], group: NDArray[Any], *labels: Texts
) -> tuple[Any, ...]:
    """Last tokens of one (checkpoint, layer), their documents and their labels."""
    x, group = last_tokens(x, kept, last, group)
    return (x, group, *(column[: len(x)] for column in labels))


def enough(group: NDArray[Any], names: Texts) -> bool:
    """Whether there are documents for every fold and two classes to tell apart."""
    return len(np.unique(group)) >= FOLDS and len(np.unique(names)) >= 2


def where_enough(function: Callable[..., tuple[Any, ...]], outputs: int) -> Callable[..., Any]:
    """The function of a cell, NaN in all its outputs where a layer keeps too little to say anything."""

    def of_cell(*cell: Any) -> tuple[Any, ...]:
        _, group, names, *_ = samples(*cell)
        return function(*cell) if enough(group, names) else (float("nan"),) * outputs

    return of_cell


class Kept(Generic[T]):
    """Results of a function of arrays that several rows ask for, the latest few hundred of them."""

    def __init__(self, function: Callable[..., T], most: int) -> None:
        self._function, self._most = function, most
        self._found: OrderedDict[bytes, T] = OrderedDict()
        self._lock = Lock()

    def __call__(self, *arrays: NDArray[Any], **options: Any) -> T:
        """The function's result, computed unless it is there."""
        state = hashlib.blake2b(repr(sorted(options.items())).encode())
        for array in arrays:
            state.update(f"{array.dtype}{array.shape}".encode())
            state.update(array.tobytes())
        key = state.digest()
        with self._lock:
            if key in self._found:
                return self._found[key]
        result = self._function(*arrays, **options)
        with self._lock:
            self._found[key] = result
            while len(self._found) > self._most:
                self._found.popitem(last=False)
        return result


def _clusters(x: NDArray[Any], *, count: int, method: str) -> NDArray[np.intp]:
    return clustering.clusters(x, count, method=method, seed=SEED)


def _gdv(x: NDArray[Any], names: Texts, group: NDArray[Any]) -> Estimate[float]:
    return gdv_interval(x, names, groups=group)


def _permuted(names: NDArray[Any], group: NDArray[Any]) -> NDArray[np.intp]:
    return permuted_labels(names, groups=group, count=PERMUTATIONS, seed=SEED)


# A probe's answers are about 0.1 MB, a clustering 15 kB: a recipe has some hundred cells.
answers: Kept[Unseen] = Kept(unseen, 512)
clusters: Kept[NDArray[np.intp]] = Kept(_clusters, 2048)
gdv: Kept[Estimate[float]] = Kept(_gdv, 2048)
permuted: Kept[NDArray[np.intp]] = Kept(_permuted, 8)  # one set's labels are those of all its cells


def control(
    x: NDArray[Any], group: NDArray[Any], task: Unseen, names: Texts, word: Texts
) -> Unseen:
    """What a linear probe, with the task's own penalties, says of random classes of word types."""
    labels = control_labels(word, names, seed=SEED)
    return unseen(x, labels, group, strengths=task.strengths)
