"""The discrimination value: published anchors, closed forms, invariances, others' mistakes, errors."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.spatial.distance import cdist, pdist

from geometry.separation import (
    gdv,
    gdv_bound,
    gdv_interval,
    gdv_parts,
    scaled_gdv,
)
from geometry.separation_null import gdv_null, gdv_p_value, p_value, permuted_labels

RNG = np.random.default_rng


def by_definition(x, labels, *, z_axis=0, halve_means=False):
    """The four lines of the definition; or one of the two mistakes found in public code."""
    x = np.asarray(x, float)
    with np.errstate(all="ignore"):
        s = (x - x.mean(z_axis, keepdims=True)) / (2 * x.std(z_axis, keepdims=True))
    s[~np.isfinite(s)] = 0
    names = np.unique(labels)
    count = len(names)
    intra = [pdist(s[labels == a]).mean() for a in names]
    inter = [
        cdist(s[labels == a], s[labels == b]).mean()
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    if halve_means:  # means are divided once more by 1/L and 2/(L(L−1))
        both = np.mean(intra) / count - np.mean(inter) * 2 / (count * (count - 1))
    else:
        both = np.mean(intra) - np.mean(inter)
    return both / np.sqrt(x.shape[1])


def collapsed(classes, size=5, features=None):
    """Classes that are one point each, all equally far apart after z-scoring."""
    return np.repeat(np.eye(features or classes)[:classes], size, axis=0), np.repeat(
        np.arange(classes), size
    )


# Random anchors of the reference: −0.716 and −0.127 of one draw each; here a mean over draws.
@pytest.mark.parametrize(
    ("deviation", "anchor", "room"), [(0.2, -0.716, 0.004), (1.0, -0.127, 0.012)]
)
def test_two_gaussians(deviation, anchor, room):
    labels = np.repeat([0, 1], 1000)
    values = []
    for seed in range(8):
        noise = RNG(seed).normal(0, deviation, (2000, 2))
        values.append(gdv(labels[:, None] + noise, labels))
    assert np.mean(values) == pytest.approx(anchor, abs=room)
    assert abs(np.array(values) - anchor).max() < 0.025


@pytest.mark.parametrize(
    ("classes", "bound"),
    [(2, -1.0), (3, -0.8660), (4, -0.8165), (6, -0.7746), (10, -0.7454), (10**9, -0.7071)],
)
def test_bound_of_the_reference(classes, bound):
    assert gdv_bound(classes) == pytest.approx(bound, abs=5e-5)


@pytest.mark.parametrize("classes", [2, 3, 4, 6, 10])
def test_collapsed_equidistant_classes_reach_the_bound(classes):
    x, labels = collapsed(classes)
    assert gdv(x, labels) == pytest.approx(gdv_bound(classes), rel=1e-12)
    assert scaled_gdv(x, labels) == pytest.approx(-1, rel=1e-12)
    # Constant features are 0 but count in D.
    padded = np.hstack([x, np.full((len(x), 3 * classes), 7.3)])
    assert gdv(padded, labels) == pytest.approx(gdv_bound(classes) / 2, rel=1e-12)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5])
def test_unbalanced_clusters_pass_the_bound(share):
    few = int(1000 * share)
    labels = np.repeat([0, 1], [few, 1000 - few])
    wanted = -0.5 / np.sqrt(share * (1 - share))
    x = RNG(0).normal(size=(2, 1)) + np.outer([0.0, 1.0], RNG(1).uniform(1, 3, 7))
    assert gdv(x[labels], labels) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("features", [1, 3, 40])
def test_is_the_definition(features):
    rng = RNG(2)
    labels = rng.choice(["a", "b", "c", "dd"], 90, p=[0.1, 0.2, 0.3, 0.4])
    x = rng.normal(size=(90, features)) * 10.0 ** rng.integers(-3, 3, features) + 50
    x[labels == "b"] += 1
    assert gdv(x, labels) == pytest.approx(by_definition(x, labels), rel=1e-9)
    parts = gdv_parts(x, labels)
    assert parts.gdv == pytest.approx(parts.intra - parts.inter)
    assert gdv(x.astype(np.float32), labels) == pytest.approx(parts.gdv, rel=1e-4)


def test_means_divided_twice_are_another_number():
    # Classes apart come out at a third, and no classes at all do not come out at 0.
    x, labels = collapsed(3, 20)
    x = x + RNG(3).normal(0, 1e-3, x.shape)
    assert gdv(x, labels) == pytest.approx(gdv_bound(3), abs=0.01)
    assert by_definition(x, labels, halve_means=True) > gdv_bound(3) / 2
    x, labels = RNG(4).normal(size=(400, 30)), np.arange(400) % 8
    assert abs(gdv(x, labels)) < 0.003
    assert by_definition(x, labels, halve_means=True) > 0.05


def test_z_scores_along_samples_are_another_number():
    # One neuron a thousand times louder than those that carry the classes: what a z-score is for.
    x, labels = collapsed(2, 200, 6)
    x = x + RNG(5).normal(0, 0.05, x.shape)
    x[:, -1] = 1000 * RNG(6).normal(size=len(x))
    value = gdv(x, labels)
    assert value < -0.2
    assert by_definition(x, labels, z_axis=1) > value / 4
    assert gdv(x * [1, 1, 1, 1, 1, 1e-3], labels) == pytest.approx(value, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=hnp.arrays(float, 5, elements=st.floats(0.01, 100)),
    shift=hnp.arrays(float, 5, elements=st.floats(-100, 100)),
)
def test_invariances(seed, scale, shift):
    rng = RNG(seed)
    x, labels = rng.normal(size=(40, 5)), np.arange(40) % 4
    x[labels == 1] += 0.7
    value = gdv(x, labels)
    rows, columns = rng.permutation(40), rng.permutation(5)
    assert gdv(x * scale * [-1, 1, 1, 1, 1] + shift, labels) == pytest.approx(value, abs=1e-7)
    assert gdv(x[rows][:, columns], labels[rows]) == pytest.approx(value, abs=1e-10)
    assert gdv(np.hstack([x, x, x]), labels) == pytest.approx(value, abs=1e-10)
    assert gdv(x, np.array(["d", "a", "c", "b"])[labels]) == pytest.approx(value, abs=1e-10)
    assert scaled_gdv(x, labels) == pytest.approx(value / -gdv_bound(4))


def test_rotation_hides_what_two_features_know():
    rng = RNG(7)
    labels = np.repeat([0, 1], 300)
    x = rng.normal(size=(600, 64))
    x[:, :2] += 1.5 * labels[:, None]
    assert gdv(x[:, :2], labels) < 20 * gdv(x, labels) < 0


def test_influence_is_what_leaving_a_sample_out_does():
    rng = RNG(8)
    labels = rng.integers(0, 3, 60)
    x = rng.normal(size=(60, 4)) * [1, 5, 0.1, 1]
    x[:, 0] += labels
    x[:, 3] = 2.0  # constant
    groups = np.arange(60) // 2
    found = gdv_interval(x, labels, groups=groups)
    assert found.value == pytest.approx(gdv(x, labels), rel=1e-12)
    without = np.array([gdv(x[groups != g], labels[groups != g]) for g in range(30)])
    error = np.sqrt(29 / 30 * ((without - without.mean()) ** 2).sum())
    assert found.standard_error == pytest.approx(error, rel=0.1)
    assert found.lower < found.value < found.upper
    alone = gdv_interval(x, labels)
    assert alone.value == found.value
    assert alone.standard_error != found.standard_error


def test_interval_covers_documents_drawn_anew():
    """Documents shift their words together: 100 draws of 40 documents."""

    def draw(seed, documents=40, each=6):
        rng = RNG(seed)
        labels = np.tile(np.arange(3), documents * each // 3)
        document = np.arange(documents * each) // each
        x = rng.normal(size=(len(labels), 8)) + 0.7 * np.eye(8)[labels]
        return x + 0.5 * rng.normal(size=(documents, 8))[document], labels, document

    truth = np.mean([gdv(*draw(10_000 + s)[:2]) for s in range(400)])
    hits = []
    for seed in range(100):
        x, labels, document = draw(seed)
        found = gdv_interval(x, labels, groups=document)
        hits.append(found.lower <= truth <= found.upper)
    assert 88 <= np.sum(hits) <= 100


def test_null_is_zero_and_is_the_value_of_permuted_labels():
    rng = RNG(9)
    x, labels = rng.normal(size=(1000, 64)), rng.integers(0, 6, 1000)
    assert abs(gdv(x, labels)) < 0.001
    null = gdv_null(x, labels, count=49, seed=3)
    assert abs(null.mean()) < 4 * null.std() / 7
    drawn = permuted_labels(labels, count=49, seed=3)
    wanted = [gdv(x, row) for row in drawn[:5]]
    np.testing.assert_allclose(null[:5], wanted, atol=1e-6)
    assert [np.bincount(row).tolist() for row in drawn] == [np.bincount(labels).tolist()] * 49


def test_p_values_are_uniform_under_the_null_and_small_beside_it():
    found = []
    for seed in range(60):
        rng = RNG(seed)
        x, labels = rng.normal(size=(48, 6)), np.arange(48) % 3
        found.append(gdv_p_value(x, labels, count=39, seed=seed))
    assert 0.4 < np.mean(found) < 0.6
    assert np.mean(np.array(found) <= 0.1) < 0.22
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.2)
    x[:, 0] += labels
    assert gdv_p_value(x, labels, count=39) == pytest.approx(1 / 40)


def test_documents_alike_within_do_not_make_a_small_p_value():
    """Every document has a place of its own and favours one class: labels say nothing beyond it."""
    small = 0
    for seed in range(30):
        rng = RNG(seed)
        document = np.repeat(np.arange(12), 6)
        x = 3 * rng.normal(size=(12, 4))[document] + 0.1 * rng.normal(size=(72, 4))
        labels = np.where(rng.random(72) < 0.8, document % 2, rng.integers(0, 2, 72))
        within = gdv_p_value(x, labels, groups=document, count=19, seed=seed)
        free = gdv_p_value(x, labels, count=19, seed=seed)
        small += (within <= 0.05) - (free <= 0.05)
    assert small < -8  # free permutations call it significant far more often


def test_permuted_labels_stay_in_their_documents():
    labels = RNG(0).choice(["x", "y", "z"], 50)
    codes = np.unique(labels, return_inverse=True)[1]
    groups = np.concatenate([np.repeat(np.arange(10), 4), np.arange(100, 110)])
    drawn = permuted_labels(labels, groups=groups, count=20, seed=1)
    for row in drawn:
        for g in range(10):
            assert sorted(row[groups == g]) == sorted(codes[groups == g])
        assert sorted(row[40:]) == sorted(codes[40:])  # alone in their documents
    assert (drawn[:, 40:] != codes[40:]).any()
    assert len(np.unique(drawn, axis=0)) == 20
    np.testing.assert_array_equal(drawn, permuted_labels(labels, groups=groups, count=20, seed=1))


def test_p_value_counts_the_observed_one():
    assert p_value(3.0, [1.0, 2.0, 3.0]) == 0.5
    assert p_value(0.0, [1.0, 2.0, 3.0], larger=False) == 0.25
    assert p_value(3.0, [1.0, 2.0, 2.5]) == 0.25
    assert np.isnan(p_value(np.nan, [1.0]))
    assert np.isnan(p_value(1.0, [np.nan]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_to_say(bad):
    x, labels = RNG(1).normal(size=(20, 3)), np.arange(20) % 2
    broken = x.copy()
    broken[4, 1] = bad
    for value in (gdv(broken, labels), scaled_gdv(broken, labels), gdv_interval(broken, labels)[1]):
        assert np.isnan(value)
    assert np.isnan(gdv_null(broken, labels, count=3)).all()
    assert np.isnan(gdv(x, np.zeros(20)))
    assert np.isnan(gdv(x, np.arange(20)))  # classes of one have no distance within
    with pytest.raises(ValueError, match="labels has shape"):
        gdv(x, labels[:5])
    with pytest.raises(ValueError, match=r"give \(sample, feature\)"):
        gdv(x[0], labels)
    with pytest.raises(ValueError, match="at least 2"):
        gdv_bound(1)
    with pytest.raises(ValueError, match="groups has shape"):
        permuted_labels(labels, groups=np.zeros(3))
