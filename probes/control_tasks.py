"""Control tasks: labels that have nothing to do with classes, to see what a probe can memorise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geometry.jackknife import Estimate
from probes.classifiers import Unseen, accuracy_gain


def control_labels(types: ArrayLike, labels: ArrayLike, *, seed: int = 0) -> NDArray[np.intp]:
    """A random class for every type of word, the same wherever the type stands.

    Parameters
    ----------
    types
        Word of each sample, shape (sample,).
    labels
        Class of each sample, shape (sample,).
    seed
        Of the draw; types draw in sorted order, so the same words get the same classes.

    Returns
    -------
    int array (sample,)
        Numbers of the sorted classes, drawn once a type with the frequencies of `labels`.

    Raises
    ------
    ValueError
        If shapes do not match.

    Notes
    -----
    Hewitt & Liang 2019, 1909.03368. For the class of a word that is not seen yet, the type may be that of
    the word itself, or of the last word that was seen: what a probe gains by knowing its input by heart.
    """
    words, names = np.asarray(types), np.asarray(labels)
    if words.shape != names.shape or words.ndim != 1:
        raise ValueError(
            f"types has shape {words.shape} and labels {names.shape}; give (n,) for both"
        )
    counts = np.unique(names, return_counts=True)[1]
    kinds, inverse = np.unique(words, return_inverse=True)
    generator = np.random.default_rng(seed)
    drawn = generator.choice(len(counts), size=len(kinds), p=counts / counts.sum())
    out: NDArray[np.intp] = drawn[inverse].astype(np.intp)
    return out


def selectivity(
    task: Unseen, control: Unseen, *, groups: ArrayLike | None = None, level: float = 0.95
) -> Estimate[float]:
    """Balanced accuracy of the task less that of its control, paired by sample.

    Parameters
    ----------
    task, control
        From `unseen`, of the same points with the classes and with `control_labels`.
    groups, level
        As in `probes.classifiers.balanced_accuracy`.

    Returns
    -------
    Estimate
        All NaN if the points held NaN or Inf.

    Notes
    -----
    Hewitt & Liang 2019, 1909.03368, with accuracies balanced over classes.
    """
    if np.isnan(task.log_probability).any() or np.isnan(control.log_probability).any():
        return Estimate(*(float("nan"),) * 4)
    return accuracy_gain(
        task.predicted, task.truth, control.predicted, control.truth, groups=groups, level=level
    )
