"""Probes by document: folds, leakage, scikit-learn's own numbers, intervals and their coverage."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from probes.classifiers import (
    PROBES,
    STRENGTHS,
    Unseen,
    accuracy_gain,
    balanced_accuracy,
    document_folds,
    linear,
    one_vs_rest,
    standardised,
    unseen,
)
from probes.control_tasks import control_labels, selectivity

RNG = np.random.default_rng


def material(seed=0, documents=40, each=6, features=10, strength=1.0):
    rng = RNG(seed)
    n = documents * each
    labels = np.array(["D", "N", "V"])[rng.integers(0, 3, n)]
    x = rng.normal(size=(n, features)) * np.linspace(0.1, 20, features) + 5
    x[:, 0] += 0.1 * strength * np.unique(labels, return_inverse=True)[1]
    return x, labels, np.arange(n) // each


def test_folds_hold_whole_documents_of_all_sizes():
    groups = np.repeat(np.arange(30), RNG(0).integers(1, 12, 30))
    fold = document_folds(groups)
    assert set(fold) == set(range(5))
    for g in range(30):
        assert len(set(fold[groups == g])) == 1
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 11
    with pytest.raises(ValueError, match="4 documents"):
        document_folds([0, 1, 2, 3, 3])


def test_linear_probe_is_a_logistic_regression_on_the_other_documents():
    x, labels, groups = material(strength=2.0)
    found = unseen(x, labels, groups)
    assert found.classes.tolist() == ["D", "N", "V"]
    np.testing.assert_allclose(np.exp(found.log_probability).sum(axis=1), 1)
    for fold in range(5):
        test = found.fold == fold
        scaler = StandardScaler().fit(x[~test])
        near = []
        for c in STRENGTHS:
            fitted = LogisticRegression(C=c, tol=1e-6, max_iter=1000)
            fitted.fit(scaler.transform(x[~test]), labels[~test])
            p = fitted.predict_proba(scaler.transform(x[test]))
            t = (~test).sum()
            near.append(np.abs(np.log((t * p + 1) / (t + 3)) - found.log_probability[test]).max())
        assert min(near) < 0.05  # the tolerance of either fit; other penalties are 1 and more away
        assert sorted(near)[1] > 0.5


def test_penalties_of_another_task_can_be_taken_over():
    x, labels, groups = material(strength=2.0)
    found = unseen(x, labels, groups)
    assert len(found.strengths) == 5
    assert set(found.strengths) <= set(STRENGTHS)
    same = unseen(x, labels, groups, strengths=found.strengths)
    np.testing.assert_array_equal(same.log_probability, found.log_probability)
    weak = unseen(x, labels, groups, strengths=(1e-6,) * 5)
    assert np.abs(weak.log_probability - np.log(1 / 3)).max() < 0.2


def test_a_document_known_by_heart_is_worth_nothing():
    """Labels are random but the same for all of a document, and states say which document it is."""
    rng = RNG(1)
    document = np.repeat(np.arange(60), 5)
    labels = rng.integers(0, 2, 60)[document]
    x = rng.normal(size=(60, 40))[document] + 0.01 * rng.normal(size=(300, 40))
    fair = unseen(x, labels, document)
    cheat = unseen(x, labels, np.arange(300))
    assert balanced_accuracy(cheat.predicted, cheat.truth).value > 0.85
    assert balanced_accuracy(fair.predicted, fair.truth).value < 0.65


def test_mlp_knows_what_no_line_does():
    rng = RNG(2)
    x = rng.normal(size=(1800, 2))
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)
    groups = np.arange(1800) // 9
    by = {p: unseen(x, labels, groups, probe=p) for p in PROBES}
    score = {p: balanced_accuracy(f.predicted, f.truth).value for p, f in by.items()}
    assert score["mlp"] > 0.8
    assert score["linear"] < 0.65
    again = unseen(x, labels, groups, probe="mlp")
    np.testing.assert_array_equal(again.log_probability, by["mlp"].log_probability)
    other = unseen(x, labels, groups, probe="mlp", seed=1)
    assert (other.log_probability != again.log_probability).any()


@pytest.mark.parametrize("probe", list(PROBES))
def test_scale_shift_and_constants_do_not_matter(probe):
    x, labels, groups = material(3)
    one = unseen(x, labels, groups, probe=probe)
    two = unseen(x * 7 - 3, labels, groups, probe=probe)
    np.testing.assert_allclose(one.log_probability, two.log_probability, atol=5e-3)
    if probe == "linear":  # the other would draw another number of weights
        wide = np.hstack([x, np.full((len(x), 1), 1e4)])
        three = unseen(wide, labels, groups, probe=probe)
        np.testing.assert_allclose(one.log_probability, three.log_probability, atol=5e-3)


def test_nothing_learned_is_chance():
    accuracies = []
    for seed in range(8):
        x, labels, groups = material(seed, strength=0.0)
        found = unseen(x, labels, groups)
        accuracies.append(balanced_accuracy(found.predicted, found.truth).value)
    assert np.mean(accuracies) == pytest.approx(1 / 3, abs=0.05)


def test_classes_without_a_sample_cost_much_but_not_everything():
    x = RNG(4).normal(size=(8, 3))
    only = linear(x, np.zeros(8, int), x, 4, strength=0.1)
    np.testing.assert_allclose(np.exp(only), np.tile([9, 1, 1, 1], (8, 1)) / 12)
    none = linear(x[:0], np.zeros(0, int), x, 4, strength=0.1)
    np.testing.assert_allclose(np.exp(none), 0.25)
    two = linear(x, np.arange(8) % 2 * 3, x, 4, strength=0.1)
    np.testing.assert_allclose(np.exp(two)[:, 1:3], 1 / 12)
    np.testing.assert_allclose(np.exp(two).sum(axis=1), 1)


def test_standardised_by_training_alone():
    x = RNG(5).normal(3, 2, size=(50, 4))
    x[:, 2] = 5.0
    a, b = standardised(x[:30], x[30:])
    np.testing.assert_allclose(a[:, [0, 1, 3]].std(axis=0), 1, rtol=1e-5)
    assert (a[:, 2] == 0).all()
    wanted = StandardScaler().fit(x[:30, [0]]).transform(x[30:, [0]])
    np.testing.assert_allclose(b[:, [0]], wanted, rtol=1e-5, atol=1e-6)


def test_balanced_accuracy_and_its_error():
    rng = RNG(6)
    truth = rng.choice(3, 200, p=[0.6, 0.3, 0.1])
    guess = np.where(rng.random(200) < 0.6, truth, rng.integers(0, 3, 200))
    groups = np.arange(200) // 4
    found = balanced_accuracy(guess, truth, groups=groups)
    assert found.value == pytest.approx(balanced_accuracy_score(truth, guess))
    without = np.array(
        [balanced_accuracy_score(truth[groups != g], guess[groups != g]) for g in range(50)]
    )
    error = np.sqrt(49 / 50 * ((without - without.mean()) ** 2).sum())
    assert found.standard_error == pytest.approx(error, rel=0.1)
    assert np.isnan(balanced_accuracy([], []).value)


def test_gain_is_paired():
    rng = RNG(7)
    truth = rng.integers(0, 4, 400)
    hard = rng.random(400) < 0.4  # wrong in both
    one = np.where(hard, (truth + 1) % 4, truth)
    two = one.copy()
    two[::50] = (truth[::50] + 2) % 4
    groups = np.arange(400) // 4
    gain = accuracy_gain(one, truth, two, truth, groups=groups)
    alone = balanced_accuracy(one, truth, groups=groups)
    assert gain.value == pytest.approx(alone.value - balanced_accuracy(two, truth).value)
    assert gain.standard_error < alone.standard_error / 3
    same = accuracy_gain(one, truth, one, truth, groups=groups)
    assert (same.value, same.standard_error) == (0, 0)


def test_one_vs_rest_is_the_area_within_folds():
    x, labels, groups = material(8, strength=2.0)
    found = unseen(x, labels, groups)
    estimates = one_vs_rest(found, groups=groups)
    assert len(estimates) == 3
    for number, estimate in enumerate(estimates):
        areas, weights = [], []
        for fold in range(5):
            rows = found.fold == fold
            mine = found.truth[rows] == number
            areas.append(roc_auc_score(mine, found.log_probability[rows, number]))
            weights.append(mine.sum())
        assert estimate.value == pytest.approx(np.average(areas, weights=weights), abs=1e-9)
        assert estimate.lower < estimate.value < estimate.upper
    # The ends of the scale stand apart from each other, the middle hardly.
    assert estimates[0].lower > 0.8
    assert estimates[1].value < estimates[0].value


def test_certain_probabilities_keep_their_order():
    """log p of 0 would be infinite odds; the largest is still the largest."""
    log_p = np.log(np.array([[1.0, 1e-300], [1 - 1e-9, 1e-9], [0.2, 0.8], [0.1, 0.9]]))
    found = Unseen(np.array([0, 1]), np.array([0, 0, 1, 1]), log_p, np.zeros(4, int))
    assert [e.value for e in one_vs_rest(found)] == [1.0, 1.0]


def test_a_class_alone_in_a_fold_says_nothing_there():
    log_p = np.log(np.full((4, 2), 0.5))
    found = Unseen(np.array([0, 1]), np.array([0, 0, 1, 1]), log_p, np.array([0, 0, 1, 1]))
    assert all(np.isnan(e.value) for e in one_vs_rest(found))
    mixed = found._replace(fold=np.array([0, 1, 0, 1]))
    assert all(e.value == 0.5 for e in one_vs_rest(mixed))  # ties count half


def test_control_labels_are_of_types_and_have_the_classes_frequencies():
    rng = RNG(9)
    labels = rng.choice(["N", "V"], 5000, p=[0.8, 0.2])
    words = np.array([f"w{i}" for i in rng.integers(0, 2500, 5000)])
    drawn = control_labels(words, labels, seed=1)
    for word in words[:100]:
        assert len(set(drawn[words == word])) == 1
    kinds = np.unique(words, return_index=True)[1]
    assert drawn[kinds].mean() == pytest.approx(labels.tolist().count("V") / 5000, abs=0.03)
    order = rng.permutation(5000)
    np.testing.assert_array_equal(control_labels(words[order], labels[order], seed=1), drawn[order])
    assert (control_labels(words, labels, seed=2) != drawn).any()
    with pytest.raises(ValueError, match="types has shape"):
        control_labels(words[:3], labels)


def test_selectivity_tells_knowing_from_memorising():
    """States that hold the class are selective; states that hold the word alone are not."""
    rng = RNG(10)
    words = rng.integers(0, 12, 600)
    labels = words % 3
    groups = np.arange(600) // 4
    hot = np.eye(12)[words] + 0.05 * rng.normal(size=(600, 12))
    classes = np.eye(3)[labels] + 0.05 * rng.normal(size=(600, 3))
    found = {}
    for name, x in (("words", hot), ("classes", classes)):
        task = unseen(x, labels, groups)
        control = unseen(x, control_labels(words, labels, seed=3), groups)
        found[name] = selectivity(task, control, groups=groups)
    assert found["words"].value == pytest.approx(0, abs=0.02)
    assert found["classes"].lower > 0.2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_to_say(bad):
    x, labels, groups = material()
    x[0, 0] = bad
    found = unseen(x, labels, groups)
    assert np.isnan(found.log_probability).all()
    assert all(np.isnan(e.value) for e in one_vs_rest(found))
    assert np.isnan(selectivity(found, found).value)
    with pytest.raises(ValueError, match="linear, mlp"):
        unseen(x, labels, groups, probe="forest")
    with pytest.raises(ValueError, match="labels"):
        unseen(x, labels[:4], groups)


@pytest.mark.slow
def test_intervals_by_document_cover_the_probe_s_accuracy_elsewhere():
    """What is covered: the accuracy, on any document, of probes trained on data of this size."""

    def draw(seed, documents=60, each=6):
        rng = RNG(seed)
        document = np.arange(documents * each) // each
        labels = rng.integers(0, 2, len(document))
        # Some documents are easy and some say nothing, so that errors come in bundles.
        ease = np.where(rng.random(documents) < 0.5, 4.0, 0.0)[document]
        x = rng.normal(size=(len(document), 4))
        x[:, 0] += ease * (labels - 0.5)
        return x, labels, document

    scores, naive, areas = [], [], []
    for seed in range(200):
        x, labels, document = draw(seed)
        found = unseen(x, labels, document)
        scores.append(balanced_accuracy(found.predicted, found.truth, groups=document))
        naive.append(balanced_accuracy(found.predicted, found.truth))
        areas.append(one_vs_rest(found, groups=document)[1])

    def share(estimates):
        truth = np.mean([e.value for e in estimates])
        return np.mean([e.lower <= truth <= e.upper for e in estimates])

    assert share(scores) >= 0.9
    assert share(areas) >= 0.9
    assert share(naive) < share(scores) - 0.05  # samples are not independent
