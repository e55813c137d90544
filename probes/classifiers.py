"""Probing classifiers: what can be read off points of documents that the classifier has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geometry.jackknife import Estimate, interval_from_influence

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

FOLDS = 5
PROBES = {
    "linear": "multinomial logistic regression, L2 penalty chosen on documents held out of training",
    "mlp": "one hidden layer of 64 ReLU, L2 1, 10 epochs of Adam at 5e-3 in batches of 200",
}
STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Weights C of the loss against the L2 penalty that a linear probe chooses from."""
_HIDDEN, _EPOCHS, _BATCH = 64, 10, 200
_NOTHING: Estimate[float] = Estimate(*(float("nan"),) * 4)


class Unseen(NamedTuple):
    """What a probe says of samples of documents it was not trained on.

    Attributes
    ----------
    classes : array (class,)
        Sorted labels.
    truth : int array (sample,)
        Number of each sample's class.
    log_probability : float64 array (sample, class)
        By the probe that has not seen the sample's document; NaN if the points hold NaN or Inf.
    fold : int array (sample,)
        Which of the probes that is.
    strengths : tuple of float
        C of each fold's linear probe; empty for others, and if the points hold NaN or Inf.
    """

    classes: NDArray[Any]
    truth: Index
    log_probability: Floats
    fold: Index
    strengths: tuple[float, ...] = ()

    @property
    def predicted(self) -> Index:
        """Number of the likeliest class (sample,)."""
        found: Index = np.argmax(self.log_probability, axis=1)
        return found


def document_folds(groups: ArrayLike, *, folds: int = FOLDS) -> Index:
    """Deal whole documents out to folds of nearly equal size.

    Parameters
    ----------
    groups
        Document of each sample, shape (sample,).
    folds
        How many.

    Returns
    -------
    int array (sample,)
        0…folds − 1; the largest documents are dealt first, each to the smallest fold.

    Raises
    ------
    ValueError
        If there are fewer documents than folds.
    """
    from sklearn.model_selection import GroupKFold  # slow to load

    names = np.asarray(groups)
    if len(np.unique(names)) < folds:
        raise ValueError(f"{len(np.unique(names))} documents, and at least {folds} are needed")
    out = np.empty(len(names), np.intp)
    for number, (_, test) in enumerate(GroupKFold(folds).split(names, groups=names)):
        out[test] = number
    return out


def unseen(
    x: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    probe: str = "linear",
    folds: int = FOLDS,
    seed: int = 0,
    strengths: tuple[float, ...] = (),
) -> Unseen:
    """Train a probe on all documents but a fifth, five times, and ask it about the rest.

    Parameters
    ----------
    x
        Points, shape (sample, feature), any real dtype; standardised by the training documents.
    labels
        Class of each, shape (sample,).
    groups
        Document of each, shape (sample,).
    probe
        A key of `PROBES`.
    folds
        How many parts the documents are dealt to.
    seed
        Of the MLP's weights and batches; the linear probe has no chance in it.
    strengths
        C of each fold's linear probe, where another task has chosen it.

    Returns
    -------
    Unseen

    Raises
    ------
    ValueError
        If the probe is unknown, shapes do not match, or there are fewer documents than folds.

    Notes
    -----
    The linear probe's C is the one of `STRENGTHS` with the least loss on the next fold's documents when
    trained without them; then it is trained with them again. Memory: some float64 copies of the points.
    """
    if probe not in PROBES:
        raise ValueError(f"probe is {probe!r}; give one of {', '.join(PROBES)}")
    points, names = np.asarray(x), np.asarray(labels)
    if points.ndim != 2 or names.shape != (len(points),):
        raise ValueError(
            f"x has shape {points.shape} and labels {names.shape}; give (n, d) and (n,)"
        )
    classes, truth = np.unique(names, return_inverse=True)
    fold = document_folds(groups, folds=folds)
    out = np.full((len(points), len(classes)), np.nan)
    chosen: list[float] = []
    for number in range(folds if np.isfinite(points).all() else 0):
        test = fold == number
        a, b = standardised(points[~test], points[test])
        if probe == "mlp":
            out[test] = mlp(a, truth[~test], b, len(classes), seed=seed)
            continue
        if strengths:
            chosen.append(strengths[number])
        else:
            held = fold == (number + 1) % folds
            inner, tried = a[~held[~test]], a[held[~test]]
            known = truth[~test & ~held], truth[held]
            chosen.append(best_strength(inner, known[0], tried, known[1], len(classes)))
        out[test] = linear(a, truth[~test], b, len(classes), strength=chosen[-1])
    return Unseen(classes, truth, out, fold, tuple(chosen))


def standardised(train: NDArray[Any], *others: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """Points with mean 0 and deviation 1 over those of training; constant features become 0."""
    mean = train.mean(axis=0, dtype=np.float64)
    spread = train.std(axis=0, dtype=np.float64)
    varying = spread > 1e-6 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    factor = np.where(varying, 1.0 / np.where(varying, spread, 1.0), 0.0)
    for points in (train, *others):
        yield ((points - mean) * factor).astype(np.float32)


def linear(
    train: NDArray[Any], truth: Index, test: NDArray[Any], classes: int, *, strength: float
) -> Floats:
    """Log-probabilities (test sample, class) by multinomial logistic regression.

    With t training samples the probabilities are mixed with equal ones of weight K / (t + K), so that a
    class without a sample in training costs much, but not everything.
    """
    from sklearn.linear_model import LogisticRegression

    present = np.unique(truth)
    probability = np.zeros((len(test), classes))
    if len(present) == 1:
        probability[:, present] = 1.0
    elif len(present):
        fitted = LogisticRegression(C=strength, tol=1e-3, max_iter=2000).fit(train, truth)
        probability[:, present] = fitted.predict_proba(test)
    return _mixed(probability, len(truth))


def best_strength(
    train: NDArray[Any], truth: Index, test: NDArray[Any], test_truth: Index, classes: int
) -> float:
    """The member of `STRENGTHS` with the least loss on samples held out."""
    losses = [
        -linear(train, truth, test, classes, strength=c)[np.arange(len(test)), test_truth].sum()
        for c in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


def mlp(
    train: NDArray[Any], truth: Index, test: NDArray[Any], classes: int, *, seed: int = 0
) -> Floats:
    """Log-probabilities (test sample, class) by a small multilayer perceptron; mixed as `linear`'s."""
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(
        (_HIDDEN,), alpha=1.0, batch_size=min(_BATCH, len(train)), learning_rate_init=5e-3,
        random_state=np.random.RandomState(seed),  # an integer would repeat the batches
    )  # fmt: skip
    known = np.arange(classes)
    for _ in range(_EPOCHS):
        network.partial_fit(train, truth, classes=known)
    return _mixed(
        np.asarray(network.predict_proba(test), np.float64).reshape(-1, classes), len(truth)
    )


def _mixed(probability: Floats, trained: int) -> Floats:
    classes = probability.shape[1]
    mixed: Floats = np.log((trained * probability + 1.0) / (trained + classes))
    return mixed


def balanced_accuracy(
    predicted: ArrayLike,
    truth: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """Mean over classes of the share of it that is recognised, with an interval by document.

    Parameters
    ----------
    predicted, truth
        Numbers of classes, shape (sample,).
    groups, level
        As in `geometry.separation.gdv_interval`.

    Returns
    -------
    Estimate
        By the infinitesimal jackknife: of other documents asked, not of other documents trained on. NaN
        without samples.
    """
    right, codes = correctness(predicted, truth)
    if not len(codes):
        return _NOTHING
    value, influence = _recall(right, codes)
    return interval_from_influence(value, influence, groups=groups, level=level)


def accuracy_gain(
    predicted: ArrayLike,
    truth: ArrayLike,
    other_predicted: ArrayLike,
    other_truth: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate[float]:
    """Balanced accuracy of one task less that of another on the same samples, paired.

    Parameters
    ----------
    predicted, truth
        Of the one task, shape (sample,).
    other_predicted, other_truth
        Of the other, whose classes may be others; same samples.
    groups, level
        As in `balanced_accuracy`.

    Returns
    -------
    Estimate
        Influences are subtracted sample by sample, so what both tasks find hard is not counted twice.
    """
    one, two = correctness(predicted, truth), correctness(other_predicted, other_truth)
    if not len(one[0]):
        return _NOTHING
    (value, influence), (less, pulled) = _recall(*one), _recall(*two)
    return interval_from_influence(value - less, influence - pulled, groups=groups, level=level)


def correctness(predicted: ArrayLike, truth: ArrayLike) -> tuple[Floats, Index]:
    """Whether each sample is recognised, 1 or 0, and the number of its class among those there are."""
    names = np.asarray(truth)
    return (
        (np.asarray(predicted) == names).astype(np.float64),
        np.unique(names, return_inverse=True)[1],
    )


def _recall(right: Floats, codes: Index) -> tuple[float, Floats]:
    counts = np.bincount(codes)
    recall = np.bincount(codes, right) / counts
    influence = len(codes) / (len(counts) * counts[codes]) * (right - recall[codes])
    return float(recall.mean()), influence


def one_vs_rest(
    found: Unseen, *, groups: ArrayLike | None = None, level: float = 0.95
) -> list[Estimate[float]]:
    """How well each class stands apart from all others, by the probe's log-odds of it.

    Parameters
    ----------
    found
        From `unseen`.
    groups, level
        As in `balanced_accuracy`.

    Returns
    -------
    list of Estimate
        One a class, the area under the receiver's curve: the chance that a sample of the class has larger
        log-odds of it than one of another class; ½ for no separation. Samples of one fold are compared
        with one another, as probes differ between folds, and folds are weighted by the class's samples
        in them; NaN if no fold has the class and another.

    Notes
    -----
    Influences are the placements of DeLong et al. 1988.
    """
    return [
        _area(found, number, groups=groups, level=level) for number in range(len(found.classes))
    ]


def _area(found: Unseen, number: int, *, groups: ArrayLike | None, level: float) -> Estimate[float]:
    log_p = found.log_probability[:, number]
    if np.isnan(log_p).any():
        return _NOTHING
    # Rounding keeps the odds of a certain class finite; their order is all that counts.
    odds = log_p - np.log(np.maximum(-np.expm1(log_p), np.finfo(np.float64).tiny))
    mine = found.truth == number
    influence, total, weights = np.zeros(len(odds)), 0.0, 0.0
    for fold in np.unique(found.fold):
        rows = np.flatnonzero(found.fold == fold)
        yes, no = rows[mine[rows]], rows[~mine[rows]]
        if not (len(yes) and len(no)):
            continue
        right, wrong = placements(odds[yes], odds[no])
        area = float(right.mean())
        influence[yes] = right - area
        influence[no] = (wrong - area) * len(yes) / len(no)
        total, weights = total + area * len(yes), weights + len(yes)
    if not weights:
        return _NOTHING
    return interval_from_influence(
        total / weights, influence * len(odds) / weights, groups=groups, level=level
    )


def placements(upper: Floats, lower: Floats) -> tuple[Floats, Floats]:
    """Share of `lower` below each of `upper`, and of `upper` above each of `lower`; ties count half."""
    return _below(upper, lower), 1.0 - _below(lower, upper)


def _below(values: Floats, others: Floats) -> Floats:
    ordered = np.sort(others)
    both = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return both / (2.0 * len(others))
