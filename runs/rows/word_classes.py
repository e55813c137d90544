"""Rows of word classes: whether states know the class of the word that follows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geometry import class_similarity, separation, separation_null, silhouette
from geometry.jackknife import Estimate
from probes import classifiers, clustering, control_tasks, description_length
from probes.balancing import balanced_subset
from probes.permutation import p_value
from runs.rows.base import ESTIMATE, Read, Reduce, Row
from runs.rows.word_cells import (
    BY_DOCUMENT,
    CELL,
    CLASS,
    PERMUTATIONS,
    SEED,
    Texts,
    answers,
    clusters,
    control,
    enough,
    gdv,
    permuted,
    samples,
    where_enough,
)

Floats = NDArray[np.float64]
_PAIRS_OF = 1000  # samples whose pairs are sorted
_NAN = float("nan")


def _balanced(x: NDArray[Any], group: NDArray[Any], names: Texts, most: int | None = None) -> Any:
    """Equally many samples of each class that is not rare."""
    # A class with less than half of an equal share would shrink all others to its size.
    fewest = max(2, len(names) // (2 * len(np.unique(names))))
    rows = balanced_subset(names, fewest=fewest, most=most, seed=SEED)
    return x[rows], group[rows], names[rows]


def _gdv(*cell: Any, tested: bool) -> tuple[Any, ...]:
    x, group, names = _balanced(*samples(*cell))
    found = (*gdv(x, names, group), float(len(np.unique(names))))
    if not tested:
        return found
    return (*found, separation_null.gdv_p_value(x, names, groups=group, count=PERMUTATIONS))


def _gdv_scaled(*cell: Any) -> tuple[Any, ...]:
    x, group, names = _balanced(*samples(*cell))
    classes = len(np.unique(names))
    bound = abs(separation.gdv_bound(classes))
    return tuple(part / bound for part in gdv(x, names, group))


def _silhouette(*cell: Any, metric: str) -> tuple[Any, ...]:
    x, group, names = _balanced(*samples(*cell))
    return tuple(silhouette.silhouette_interval(x, names, metric=metric, groups=group))


def _rsa(*cell: Any) -> tuple[Any, ...]:
    x, group, names = samples(*cell)
    most = _PAIRS_OF // max(len(np.unique(names)), 1)
    x, group, names = _balanced(x, group, names, most)
    return tuple(class_similarity.class_rsa_interval(x, names, groups=group))


def _cka(*cell: Any, debiased: bool | None) -> tuple[Any, ...]:
    x, group, names = _balanced(*samples(*cell))
    return tuple(class_similarity.class_cka_interval(x, names, debiased=debiased, groups=group))


def _probe(*cell: Any, probe: str) -> tuple[Any, ...]:
    """Balanced accuracy on unseen documents, and its permutation p-value.

    The probe's answers are taken as they are and not trained anew for permuted labels. Answers in one
    fold depend on labels in others, so with few features (4, say) 7 of 100 null cases have p ≤ 0.05.
    """
    x, group, names = samples(*cell)
    found = answers(x, names, group, probe=probe)
    if np.isnan(found.log_probability).any():
        return (_NAN,) * (len(ESTIMATE) + 1)
    estimate = classifiers.balanced_accuracy(found.predicted, found.truth, groups=group)
    drawn = permuted(names, group)
    share = 1.0 / np.bincount(found.truth)
    null = ((drawn == found.predicted) * share[drawn]).sum(axis=1) / len(share)
    return (*estimate, p_value(estimate.value, null))


def _selectivity(*cell: Any) -> tuple[Any, ...]:
    """Accuracy less that of random classes, and either of them."""
    x, group, names, words = samples(*cell)
    task = answers(x, names, group, probe="linear")
    other = control(x, group, task, names, words)
    found = control_tasks.selectivity(task, other, groups=group)
    if np.isnan(found.value):
        return (*found, _NAN)
    return (*found, classifiers.balanced_accuracy(other.predicted, other.truth).value)


def _codelength(*cell: Any) -> tuple[Any, ...]:
    """Bits a sample, and the compression with its interval."""
    x, group, names = samples(*cell)
    code = description_length.online_code(x, names, group, seed=SEED)
    each = code.per_sample
    flat = np.log2(len(np.unique(names)))
    return (*each, code.compression, flat / each.upper, flat / each.lower)


def _agreement(*cell: Any, method: str, measure: str) -> tuple[Any, ...]:
    """Agreement of clusters with classes, its permutation p-value, and the mean of the null."""
    x, group, names = _balanced(*samples(*cell))
    found = clusters(x, count=len(np.unique(names)), method=method)
    estimate = clustering.agreement_interval(found, names, measure, groups=group)
    if np.isnan(estimate.value):
        return (*estimate, _NAN, _NAN)
    drawn = permuted(names, group)
    null = clustering.agreement(clustering.contingencies(found, drawn), measure)
    return (*estimate, p_value(estimate.value, null), float(null.mean()))


def _confusion(*cell: Any) -> Floats:
    """Share of each class in the cluster matched to each class (word_class, cluster)."""
    x, group, all_names = samples(*cell)
    every = np.unique(cell[-1])
    out = np.full((len(every), len(every)), np.nan)
    if not enough(group, all_names):
        return out
    x, _, names = _balanced(x, group, all_names)
    found = clusters(x, count=len(np.unique(names)), method="kmeans")
    if found[0] >= 0:
        there = np.searchsorted(every, np.unique(names))
        counts = clustering.matched_confusion(found, names).counts[:, : len(there)]
        out[np.ix_(there, there)] = counts / counts.sum(axis=1, keepdims=True)
    return out


def _one_vs_rest(*cell: Any) -> tuple[Floats, ...]:
    """Area under the receiver's curve of each class, with its interval; (word_class,) each."""
    x, group, names = samples(*cell)
    every = np.unique(cell[-1])
    out = np.full((len(ESTIMATE), len(every)), np.nan)
    if not enough(group, names):
        return tuple(out)
    found = answers(x, names, group, probe="linear")
    estimates: list[Estimate[float]] = classifiers.one_vs_rest(found, groups=group)
    out[:, np.searchsorted(every, found.classes)] = np.array(estimates).T
    return tuple(out)


def _labelled_by(name: str) -> tuple[Read, ...]:
    return (*CELL[:-1], Read(f"points/{name}", ("point",)))


_SCHILLING = (
    "Schilling et al. 2021, 1811.01753: [mean within − mean between] / √D of half z-scores, classes "
    "made equally large"
)
_WORDS = {"word_10": "word_class", "word_9": "word_class_9", "word_8": "word_class_8"}
_LINEAR = (
    f"multinomial logistic regression, C of {', '.join(f'{c:g}' for c in classifiers.STRENGTHS)} by "
    "held-out documents, five folds of documents"
)
_MEASURES = {
    "nmi": "mutual information over the mean entropy",
    "ari": "adjusted Rand index, Hubert & Arabie 1985",
    "v": "V-measure, Rosenberg & Hirschberg 2007; equals `nmi`",
}
_LEFT_OUT = "jackknife by document of the table, clusters as they are, 95 %"


def _row(name: str, convention: str, function: Any, unit: str, source: str, **more: Any) -> Row:
    more = {"reads": CELL, "interval": BY_DOCUMENT, "outputs": ESTIMATE, **more}
    if "core" not in more:
        function = where_enough(function, len(more["outputs"]))
    return Reduce(name, convention, function=function, unit=unit, source=source, **more)


ROWS: list[Row] = [
    *(
        _row("gdv", word, partial(_gdv, tested=word == "word_10"), "1",
             f"{_SCHILLING}; classes of {word.replace('_', ' ')}", reads=_labelled_by(label),
             outputs=(*ESTIMATE, "classes", *(["p_value"] if word == "word_10" else [])))
        for word, label in _WORDS.items()
    ),
    _row("gdv_scaled", "word_10", _gdv_scaled, "1",
         f"{_SCHILLING}; over √(L / (2(L − 1))), the bound of L classes"),
    *(
        _row("word_class_silhouette", metric, partial(_silhouette, metric=metric), "1",
             "Rousseeuw 1987, " + ("1 − cos of centred states" if metric == "cosine"
                                   else "distances of half z-scores"))
        for metric in separation.METRICS
    ),
    *(
        _row("word_class_probe", probe, partial(_probe, probe=probe), "balanced accuracy",
             _LINEAR if probe == "linear" else f"{classifiers.PROBES[probe]}, five folds of documents",
             outputs=(*ESTIMATE, "p_value"))
        for probe in classifiers.PROBES
    ),
    *(
        _row("word_class_selectivity", word, _selectivity, "balanced accuracy",
             f"Hewitt & Liang 2019, 1909.03368: less that of a random class for every type of "
             f"{word.replace('_', ' ')}, C as for the classes; {_LINEAR}",
             reads=(*CELL, Read(f"points/{label}", ("point",))), outputs=(*ESTIMATE, "control"))
        for word, label in (("word_10", "word"), ("word_9", "word_9"))
    ),
    _row("word_class_codelength", "online", _codelength, "bits",
         "Voita & Titov 2020, 2003.12298, online code of a linear probe, documents in a seeded order",
         outputs=(*ESTIMATE, "compression", "compression_lower", "compression_upper")),
    *(
        _row("word_class_clusters", f"{method}_{measure}",
             partial(_agreement, method=method, measure=measure), "1",
             f"{clustering.CLUSTERINGS[method]}, of half z-scores, as many as classes; {source}",
             interval=_LEFT_OUT, outputs=(*ESTIMATE, "p_value", "chance"))
        for method in clustering.CLUSTERINGS
        for measure, source in _MEASURES.items()
    ),
    _row("word_class_rsa", "spearman", _rsa, "1",
         "Kriegeskorte et al. 2008: 1 − cos of centred states against same or different class, "
         f"at most {_PAIRS_OF} samples"),
    *(
        _row("word_class_cka", name, partial(_cka, debiased=debiased), "1",
             f"linear CKA with one-hot classes, 1905.00414 §3; debiased HSIC, 2010.15327{when}")
        for name, debiased, when in (("linear", None, ", with fewer samples than features"),
                                     ("debiased", True, ""))
    ),
    _row("word_class_separation", "one_vs_rest", _one_vs_rest, "area under the curve",
         f"chance that a word of the class has the larger log-odds of it; {_LINEAR}",
         core=("word_class",), levels={"word_class": CLASS.variable}),
    _row("word_class_confusion", "kmeans", _confusion, "share of a class",
         f"{clustering.CLUSTERINGS['kmeans']}, clusters matched to classes by the Hungarian algorithm",
         interval="", outputs=("value",), core=("word_class", "cluster"),
         levels={"word_class": CLASS.variable, "cluster": CLASS.variable}),
]  # fmt: skip
