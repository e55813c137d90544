"""Clusters against classes: scikit-learn's numbers, matching, leaving documents out, invariances."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics

from probes.clustering import (
    CLUSTERINGS,
    agreement,
    agreement_interval,
    clusters,
    contingencies,
    contingency,
    matched_confusion,
)
from probes.permutation import permutation_p_value

RNG = np.random.default_rng
OWN = {
    "nmi": metrics.normalized_mutual_info_score,
    "ari": metrics.adjusted_rand_score,
    "v": metrics.v_measure_score,
    "homogeneity": metrics.homogeneity_score,
    "completeness": metrics.completeness_score,
}


@pytest.mark.parametrize("measure", list(OWN))
@settings(max_examples=40, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=60),
)
def test_agreements_are_scikit_learn_s(measure, pairs):
    labels, found = np.array(pairs).T
    wanted = OWN[measure](labels, found)
    assert agreement(contingency(found, labels), measure) == pytest.approx(wanted, abs=1e-9)


def test_many_labels_at_once_are_each_alone():
    rng = RNG(5)
    drawn, found = rng.integers(0, 3, (7, 50)), rng.integers(2, 6, 50)
    for one, row in zip(contingencies(found, drawn), drawn, strict=True):
        np.testing.assert_array_equal(one, contingency(found, row))


def test_tables_broadcast():
    tables = RNG(0).integers(1, 9, (2, 3, 4, 5))
    for measure in OWN:
        found = agreement(tables, measure)
        assert found.shape == (2, 3)
        assert found[1, 2] == pytest.approx(float(agreement(tables[1, 2], measure)))
    with pytest.raises(ValueError, match="nmi, ari, v"):
        agreement(tables, "rand")


@pytest.mark.parametrize("method", list(CLUSTERINGS))
def test_clusters_that_stand_apart_are_found_on_any_scale(method):
    rng = RNG(1)
    labels = rng.integers(0, 4, 200)
    x = 6 * np.eye(6)[labels] + rng.normal(size=(200, 6))
    x *= [1e3, 1, 1e-3, 1, 1, 1e4]  # one loud neuron without a class
    found = clusters(x, 4, method=method)
    assert metrics.adjusted_rand_score(labels, found) > 0.9
    np.testing.assert_array_equal(found, clusters(x, 4, method=method))
    assert matched_confusion(found, labels).matched > 0.95


@pytest.mark.parametrize("method", list(CLUSTERINGS))
def test_fewer_points_than_clusters(method):
    x = np.repeat(RNG(2).normal(size=(2, 3)), 10, axis=0)
    found = clusters(x, 5, method=method)
    assert len(np.unique(found)) == 2
    confusion = matched_confusion(found, np.arange(20) % 4)
    assert confusion.counts.shape == (4, 4)
    assert confusion.counts.sum() == 20
    assert confusion.matched == pytest.approx((confusion.counts.diagonal().sum()) / 20)
    broken = x.copy()
    broken[0, 0] = np.nan
    assert (clusters(broken, 2, method=method) == -1).all()
    assert np.isnan(agreement_interval(clusters(broken, 2, method=method), np.arange(20), "nmi")[0])


def test_matching_is_the_best_of_all():
    labels = np.array([0] * 5 + [1] * 5 + [2] * 5)
    found = np.array([2] * 5 + [0] * 4 + [1] + [1] * 3 + [0] * 2)
    confusion = matched_confusion(found, labels)
    np.testing.assert_array_equal(confusion.counts, [[5, 0, 0], [0, 4, 1], [0, 2, 3]])
    assert confusion.matched == pytest.approx(12 / 15)
    more = matched_confusion(np.array([0, 0, 1, 2, 3]), np.array([0, 0, 0, 1, 1]))
    assert more.counts.shape == (2, 4)
    assert more.counts[:, :2].trace() == 3


@pytest.mark.parametrize("measure", ["nmi", "ari"])
def test_errors_are_those_of_leaving_documents_out(measure):
    rng = RNG(3)
    labels = rng.integers(0, 3, 120)
    found = np.where(rng.random(120) < 0.7, labels, rng.integers(0, 3, 120))
    groups = np.arange(120) // 3
    estimate = agreement_interval(found, labels, measure, groups=groups)
    without = np.array([OWN[measure](labels[groups != g], found[groups != g]) for g in range(40)])
    error = np.sqrt(39 / 40 * ((without - without.mean()) ** 2).sum())
    assert estimate.value == pytest.approx(OWN[measure](labels, found))
    assert estimate.standard_error == pytest.approx(error, rel=1e-9)


def test_permutation_p_value():
    rng = RNG(4)
    labels = rng.integers(0, 3, 90)
    other = rng.integers(0, 3, 90)

    def nmi_with(found):
        return lambda codes: float(agreement(contingency(found, codes), "nmi"))

    assert permutation_p_value(nmi_with(labels), labels, count=49) == pytest.approx(0.02)
    values = [
        permutation_p_value(nmi_with(other), rng.permutation(labels), count=19, seed=s)
        for s in range(80)
    ]
    assert 0.4 < np.mean(values) < 0.62
    assert np.isnan(permutation_p_value(lambda codes: np.nan, labels))


def test_unknown_method():
    with pytest.raises(ValueError, match="kmeans, agglomerative"):
        clusters(np.ones((4, 2)), 2, method="spectral")
    with pytest.raises(ValueError, match="give"):
        clusters(np.ones(4), 2)
