"""What counting alone says of the next word's class: the most frequent one, of all or in its context."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Index = NDArray[np.intp]


def by_counting(labels: ArrayLike, fold: ArrayLike, *contexts: ArrayLike) -> Index:
    """Predict each sample's class by the most frequent one of its context in the other folds.

    Parameters
    ----------
    labels
        Class of each sample, shape (sample,).
    fold
        Fold of each sample's document, shape (sample,): samples of other folds are counted.
    *contexts
        What is known, each of shape (sample,): the word before, or the classes of the two words before.
        None: the most frequent class of all.

    Returns
    -------
    int array (sample,)
        Numbers of the sorted classes. A context that was not counted falls back on the most frequent
        class of all, and so are ties within a context broken: by frequency, then by order.

    Raises
    ------
    ValueError
        If shapes do not match.
    """
    names, part = np.asarray(labels), np.asarray(fold)
    columns = [np.asarray(c) for c in contexts]
    if any(a.shape != names.shape for a in (part, *columns)) or names.ndim != 1:
        raise ValueError("labels, fold and contexts differ in shape; give (sample,) for each")
    classes, truth = np.unique(names, return_inverse=True)
    context = np.zeros(len(names), np.intp)
    for column in columns:
        inverse = np.unique(column, return_inverse=True)[1]
        context = np.unique(context * (int(inverse.max()) + 1) + inverse, return_inverse=True)[1]
    table = np.zeros((int(part.max()) + 1, int(context.max()) + 1, len(classes)))
    np.add.at(table, (part, context, truth), 1.0)
    known = table.sum(axis=0) - table  # (fold, context, class): everything but the fold
    overall = known.sum(axis=1)
    # Less than one count in all, and larger for classes that are more frequent or come first.
    order = np.argsort(np.argsort(-overall, axis=1, kind="stable"), axis=1)
    known += (0.5 * (1.0 - order / len(classes)))[:, None, :]
    found: Index = known.argmax(axis=2)[part, context]
    return found
