"""Silhouette, RSA and CKA of classes: scikit-learn and scipy, closed forms, leaving samples out."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.metrics import silhouette_score

from geometry.class_similarity import (
    class_cka,
    class_cka_interval,
    class_rsa,
    class_rsa_interval,
)
from geometry.silhouette import silhouette, silhouette_interval
from geometry.similarity import linear_cka

RNG = np.random.default_rng
METRICS = ["cosine", "euclidean"]


def material(seed=0, n=80, features=6, strength=1.0):
    rng = RNG(seed)
    labels = rng.choice(["N", "V", "D"], n, p=[0.5, 0.3, 0.2])
    x = rng.normal(size=(n, features)) * np.linspace(1, 4, features) + 3
    x[:, 0] += strength * np.unique(labels, return_inverse=True)[1]
    return x, labels, np.arange(n) // 2


def prepared(x, metric):
    return x - x.mean(0) if metric == "cosine" else (x - x.mean(0)) / (2 * x.std(0))


@pytest.mark.parametrize("metric", METRICS)
def test_silhouette_is_scikit_learn_s(metric):
    for n in (80, 300):  # one block of rows, and two
        x, labels, _ = material(n=n)
        wanted = silhouette_score(prepared(x, metric), labels, metric=metric)
        assert silhouette(x, labels, metric=metric) == pytest.approx(wanted, rel=1e-9)


def test_silhouette_of_collapsed_and_of_swapped_classes():
    x = np.repeat(np.eye(3), 4, axis=0)
    labels = np.repeat([0, 1, 2], 4)
    for metric in METRICS:
        assert silhouette(x, labels, metric=metric) == pytest.approx(1, abs=1e-12)
        assert silhouette(x, np.tile([0, 1, 2], 4), metric=metric) < 0


@pytest.mark.parametrize("metric", METRICS)
def test_rsa_is_spearman_over_pairs(metric):
    x, labels, _ = material(1)
    x[:6] = x[6:12]  # copies: ties among the dissimilarities
    i, j = np.triu_indices(len(x), 1)
    wanted = spearmanr(pdist(prepared(x, metric), metric).round(10), labels[i] != labels[j])[0]
    assert class_rsa(x, labels, metric=metric) == pytest.approx(wanted, abs=1e-6)


def test_rsa_ends_at_its_most():
    """All pairs of one class nearer than any of two: √(3 s (1 − s)) without ties."""
    labels = np.repeat([0, 1], 20)
    x = np.hstack([100.0 * labels[:, None], RNG(2).normal(size=(40, 1)) * 1e-3])
    i, j = np.triu_indices(40, 1)
    s = np.mean(labels[i] != labels[j])
    x = np.hstack([x[:, :1] + x[:, 1:]])
    assert class_rsa(x, labels, metric="euclidean") == pytest.approx(
        np.sqrt(3 * s * (1 - s)), rel=1e-3
    )


def test_cka_is_that_of_one_hot_classes():
    x, labels, _ = material(3)
    hot = (labels[:, None] == np.unique(labels)).astype(float)
    for debiased in (False, True):
        wanted = linear_cka(x, hot, debiased=debiased)
        assert class_cka(x, labels, debiased=debiased) == pytest.approx(wanted, rel=1e-12)
    assert class_cka(hot, labels) == pytest.approx(1)
    assert class_cka(x, labels) == class_cka(x, labels, debiased=False)
    wide, names, _ = material(4, n=40, features=200, strength=0)
    assert class_cka(wide, names) == class_cka(wide, names, debiased=True)
    assert class_cka(wide, names, debiased=False) > 0.2 > abs(class_cka(wide, names))


@pytest.mark.parametrize(
    ("whole", "interval", "room"),
    [
        (lambda *a: silhouette(*a), silhouette_interval, 0.15),
        (
            lambda *a: silhouette(*a, metric="euclidean"),
            lambda *a, **k: silhouette_interval(*a, metric="euclidean", **k),
            0.15,
        ),
        (lambda *a: class_rsa(*a), class_rsa_interval, 0.2),
        (lambda *a: class_cka(*a), class_cka_interval, 0.15),
        (
            lambda *a: class_cka(*a, debiased=True),
            lambda *a, **k: class_cka_interval(*a, debiased=True, **k),
            0.25,
        ),
    ],
    ids=["silhouette-cosine", "silhouette-euclidean", "rsa", "cka", "cka-debiased"],
)
def test_errors_are_those_of_leaving_documents_out(whole, interval, room):
    x, labels, groups = material(5, n=160, strength=2.0)
    found = interval(x, labels, groups=groups)
    assert found.value == pytest.approx(whole(x, labels), rel=1e-12)
    count = groups.max() + 1
    without = np.array([whole(x[groups != g], labels[groups != g]) for g in range(count)])
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    assert found.standard_error == pytest.approx(error, rel=room)
    assert found.lower < found.value < found.upper


def test_wide_and_tall_give_one_error():
    x, labels, groups = material(6, n=30, features=12)
    wide = np.hstack([x, np.zeros((30, 40))])
    one = class_cka_interval(x, labels, groups=groups, debiased=False)
    two = class_cka_interval(wide, labels, groups=groups, debiased=False)
    assert one == pytest.approx(two, rel=1e-9)


@pytest.mark.parametrize(
    "function", [silhouette, class_rsa, class_cka], ids=["silhouette", "rsa", "cka"]
)
def test_invariances_and_nothing_to_say(function):
    x, labels, _ = material(7)
    order = RNG(0).permutation(len(x))
    assert function(x[order], labels[order]) == pytest.approx(function(x, labels), rel=1e-9)
    assert function(3 * x + 10, labels) == pytest.approx(function(x, labels), rel=1e-9)
    broken = x.copy()
    broken[0, 0] = np.nan
    assert np.isnan(function(broken, labels))
    assert np.isnan(function(x, np.zeros(len(x))))
    assert np.isnan(function(np.ones_like(x), labels))
    with pytest.raises(ValueError, match="labels has shape"):
        function(x, labels[:3])


@pytest.mark.parametrize("function", [silhouette, class_rsa])
def test_unknown_metrics(function):
    with pytest.raises(ValueError, match="cosine, euclidean"):
        function(np.ones((4, 2)), [0, 0, 1, 1], metric="manhattan")
