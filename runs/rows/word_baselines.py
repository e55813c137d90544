"""Rows of what counting says of the class of the next word, and what states say beyond it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry.jackknife import Estimate
from probes.classifiers import accuracy_gain, balanced_accuracy, document_folds
from probes.word_baselines import by_counting
from runs.rows.base import ESTIMATE, Read, Reduce, Row
from runs.rows.word_cells import BY_DOCUMENT, CELL, Texts, answers, samples, where_enough

_NAN = float("nan")

BASELINES: dict[str, tuple[str, ...]] = {
    "majority": (),
    "class_given_word_9": ("word_9",),
    "class_given_classes_8_9": ("word_class_8", "word_class_9"),
}
"""What each baseline knows, by the labels of the set."""
_CONTEXT = ("word_9", "word_class_8", "word_class_9")


def _reads(labels: tuple[str, ...]) -> tuple[Read, ...]:
    # States are read for the samples that a layer keeps, and so that numbers stand beside a probe's.
    return (*CELL, *(Read(f"points/{label}", ("point",)) for label in labels))


def _baseline(*cell: Any) -> tuple[Any, ...]:
    _, group, names, *contexts = samples(*cell)
    predicted = by_counting(names, document_folds(group), *contexts)
    truth = np.unique(names, return_inverse=True)[1]
    return tuple(balanced_accuracy(predicted, truth, groups=group))


def best_baseline(
    names: Texts, fold: NDArray[np.intp], labels: dict[str, Texts]
) -> tuple[NDArray[np.intp], float]:
    """Predictions of the baseline with the highest balanced accuracy on the same samples, and that."""
    truth = np.unique(names, return_inverse=True)[1]
    tried = [by_counting(names, fold, *(labels[k] for k in known)) for known in BASELINES.values()]
    scores = [balanced_accuracy(predicted, truth).value for predicted in tried]
    best = int(np.argmax(scores))
    return tried[best], scores[best]


def _gain(*cell: Any, probe: str) -> tuple[Any, ...]:
    """Accuracy of a probe less that of the best baseline, sample by sample; and the baseline's."""
    x, group, names, *contexts = samples(*cell)
    found = answers(x, names, group, probe=probe)
    if np.isnan(found.log_probability).any():
        return (_NAN,) * (len(ESTIMATE) + 1)
    labels = dict(zip(_CONTEXT, contexts, strict=True))
    counted, score = best_baseline(names, found.fold, labels)
    estimate: Estimate[float] = accuracy_gain(
        found.predicted, found.truth, counted, found.truth, groups=group
    )
    return (*estimate, score)


_KNOWN = {
    "majority": "the most frequent class",
    "class_given_word_9": "the most frequent class after this word",
    "class_given_classes_8_9": "the most frequent class after these two classes",
}

ROWS: list[Row] = [
    *(
        Reduce(
            "word_class_baseline",
            name,
            _reads(labels),
            where_enough(_baseline, len(ESTIMATE)),
            unit="balanced accuracy",
            source=f"{_KNOWN[name]}, counted in the other four folds of documents",
            interval=BY_DOCUMENT,
        )
        for name, labels in BASELINES.items()
    ),
    Reduce(
        "word_class_gain",
        "best_baseline",
        _reads(_CONTEXT),
        where_enough(partial(_gain, probe="linear"), len(ESTIMATE) + 1),
        unit="balanced accuracy",
        source="linear probe less the best of the counting baselines on the same samples, paired",
        interval=BY_DOCUMENT,
        outputs=(*ESTIMATE, "baseline"),
    ),
]
