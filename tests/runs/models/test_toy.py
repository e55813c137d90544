"""The toy's gradients against autograd and differences, its symmetries, and the paper's theorem 2."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runs.models.toy import STARTS, TASKS, Task, descend, initialise, loss_and_gradients

LOSSES = ("cross_entropy", "squared_error")
SEEDS = st.integers(0, 2**31)


def parameters(seed, samples=6, width=2, classes=4, lead=()):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    return (
        rng.normal(size=(*lead, samples, width)),
        rng.normal(size=(*lead, width, classes)),
        labels,
    )


@pytest.mark.parametrize("loss", LOSSES)
@given(seed=SEEDS, width=st.integers(1, 4), scale=st.sampled_from([1e-3, 1.0, 30.0]))
@settings(max_examples=25, deadline=None)
def test_gradients_are_those_of_autograd(loss, seed, width, scale):
    features, weights, labels = parameters(seed, width=width)
    features, weights = scale * features, scale * weights
    value, of_features, of_weights = loss_and_gradients(features, weights, labels, loss)
    f = torch.tensor(features, requires_grad=True)
    w = torch.tensor(weights, requires_grad=True)
    target = torch.tensor(labels)
    if loss == "cross_entropy":
        expected = torch.nn.functional.cross_entropy(f @ w, target)
    else:
        one_hot = torch.nn.functional.one_hot(target, 4).double()
        # Torch means over all entries; ours sums over classes and halves.
        expected = torch.nn.functional.mse_loss(f @ w, one_hot) * 4 / 2
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
    for mine, theirs in ((of_features, f.grad), (of_weights, w.grad)):
        bound = 1e-12 * float(np.abs(theirs.numpy()).max())
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-10, atol=bound + 1e-300)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_central_differences(loss):
    features, weights, labels = parameters(3)
    _, of_features, of_weights = loss_and_gradients(features, weights, labels, loss)
    h = 1e-6
    for array, gradient in ((features, of_features), (weights, of_weights)):
        for index in np.ndindex(*array.shape):
            kept = array[index]
            ends = []
            for sign in (1, -1):
                array[index] = kept + sign * h
                ends.append(loss_and_gradients(features, weights, labels, loss)[0])
            array[index] = kept
            assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(gradient[index], abs=1e-8)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_huge_logits_stay_finite(seed):
    features, weights, labels = parameters(seed)
    parts = loss_and_gradients(1e3 * features, 1e3 * weights, labels, "cross_entropy")
    assert all(np.isfinite(part).all() for part in parts)


def test_a_batch_of_seeds_is_each_seed_alone():
    features, weights, labels = parameters(1, lead=(3,))
    whole = loss_and_gradients(features, weights, labels, "cross_entropy")
    for seed in range(3):
        alone = loss_and_gradients(features[seed], weights[seed], labels, "cross_entropy")
        for one, many in zip(alone, whole, strict=True):
            np.testing.assert_allclose(many[seed], one, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("name", TASKS)
def test_the_first_step_from_zero_features(name):
    task = TASKS[name]
    weights = np.random.default_rng(0).normal(size=(1, task.width, 4))
    samples = sum(task.counts)
    paths = descend(np.zeros((1, samples, task.width)), weights, task, learning_rate=0.5, steps=1)
    # Every class is as likely as any other, or every logit 0: what is missing is the label's readout.
    guess = 0.25 if task.loss == "cross_entropy" else 0.0
    expected = 0.5 / samples * (weights[0].T[task.labels] - guess * weights[0].sum(axis=1))
    np.testing.assert_allclose(paths.features[0, 1], expected, rtol=1e-13, atol=1e-16)
    np.testing.assert_array_equal(paths.weights[0, 1], weights[0])
    start = np.log(4) if task.loss == "cross_entropy" else 0.5
    assert paths.loss[0, 0] == pytest.approx(start, rel=1e-14)


@pytest.mark.parametrize("name", ["skewed", "uniform", "wide", "squared_skewed"])
def test_without_jitter_the_classes_at_the_origin_never_part(name):
    task = TASKS[name]
    features, weights = initialise(task, "constructed", seeds=1, jitter=0.0)
    paths = descend(features, weights, task, steps=300)
    third, fourth = (paths.features[0][:, task.labels == c] for c in (2, 3))
    np.testing.assert_allclose(third, fourth, atol=1e-12)
    np.testing.assert_allclose(paths.weights[0, :, :, 2], paths.weights[0, :, :, 3], atol=1e-12)
    if name == "wide":
        np.testing.assert_array_equal(paths.features[0, :, :, 2], 0.0)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("start", STARTS)
def test_loss_decreases_at_every_step(name, start):
    task = TASKS[name]
    paths = descend(*initialise(task, start, seeds=4), task, steps=200)
    assert (np.diff(paths.loss, axis=1) <= 1e-15).all()
    assert (paths.loss[:, -1] < paths.loss[:, 0]).all()


@given(order=st.permutations(range(4)), seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_renaming_the_classes_renames_the_paths(order, seed):
    rng = np.random.default_rng(seed)
    task = TASKS["skewed"]
    features, weights = rng.normal(size=(1, 6, 2)), rng.normal(size=(1, 2, 4))
    paths = descend(features, weights, task, steps=40)
    samples = np.concatenate([np.flatnonzero(task.labels == c) for c in order])
    other = Task("other", tuple(task.counts[c] for c in order), 2, "cross_entropy", "")
    renamed = descend(features[:, samples], weights[:, :, list(order)], other, steps=40)
    np.testing.assert_allclose(renamed.loss, paths.loss, rtol=1e-11)
    np.testing.assert_allclose(
        renamed.features, paths.features[:, :, samples], rtol=1e-9, atol=1e-11
    )
    np.testing.assert_allclose(
        renamed.weights, paths.weights[..., list(order)], rtol=1e-9, atol=1e-11
    )


@given(angle=st.floats(0, 6.28), seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_turning_the_plane_turns_the_paths(angle, seed):
    rng = np.random.default_rng(seed)
    task = TASKS["skewed"]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    features, weights = rng.normal(size=(1, 6, 2)), rng.normal(size=(1, 2, 4))
    paths = descend(features, weights, task, steps=40)
    turned = descend(features @ turn, turn.T @ weights, task, steps=40)
    np.testing.assert_allclose(turned.features, paths.features @ turn, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_balance_of_features_and_readout_is_kept(loss):
    # FᵀF − WWᵀ is constant under gradient flow: the steps' error is of second order and sums to first.
    features, weights, labels = parameters(5)
    task = Task("any", tuple(np.bincount(labels, minlength=4)), 2, loss, "")
    drift = []
    for rate, steps in ((0.02, 100), (0.01, 200), (0.005, 400)):
        paths = descend(features[None], weights[None], task, learning_rate=rate, steps=steps)
        ends = [paths.features[0, i].T @ paths.features[0, i] for i in (0, -1)]
        reads = [paths.weights[0, i] @ paths.weights[0, i].T for i in (0, -1)]
        drift.append(np.abs(ends[1] - reads[1] - ends[0] + reads[0]).max())
    moved = np.abs(ends[1] - ends[0]).max()
    assert drift[-1] < 0.02 * moved
    ratios = [a / b for a, b in itertools.pairwise(drift)]
    np.testing.assert_allclose(ratios, 2.0, rtol=0.1)


@given(seed=SEEDS, loss=st.sampled_from(LOSSES))
@settings(max_examples=25, deadline=None)
def test_aligned_singular_values_grow_in_proportion_to_themselves(seed, loss):
    """Theorem 2: with FᵀF = WWᵀ and aligned singular vectors, dσ_i/dt = σ_i u_iᵀ E b_i / n."""
    rng = np.random.default_rng(seed)
    task = TASKS["skewed"]
    u = np.linalg.qr(rng.normal(size=(6, 2)))[0]
    v = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    b = np.linalg.qr(rng.normal(size=(4, 2)))[0]
    sigma = np.array([1.3, 0.4])
    features, weights = u * sigma @ v.T, v * sigma @ b.T
    rate = 1e-6
    other = Task("any", task.counts, 2, loss, "")
    paths = descend(features[None], weights[None], other, learning_rate=rate, steps=1)
    logits = features @ weights
    error = np.eye(4)[task.labels] - logits
    if loss == "cross_entropy":
        p = np.exp(logits)
        error = np.eye(4)[task.labels] - p / p.sum(axis=1, keepdims=True)
    growth = np.einsum("si,sc,ci->i", u, error, b) / 6
    for path in (paths.features, paths.weights):
        after = np.linalg.svd(path[0, 1], compute_uv=False)
        np.testing.assert_allclose((after - sigma) / rate, sigma * growth, rtol=1e-4, atol=1e-6)
    if loss == "cross_entropy":
        # A row of E is one-hot − p, of length at most √2; so the norm of E is at most √(2 n).
        assert (np.abs(growth) <= np.sqrt(2 * 6) / 6).all()


@pytest.mark.parametrize("name", TASKS)
def test_the_constructed_start_is_as_described(name):
    task = TASKS[name]
    features, weights = initialise(task, "constructed", seeds=2, jitter=0.0)
    np.testing.assert_array_equal(features[0], features[1])
    f, w = features[0], weights[0]
    first = f[task.labels == 0].mean(axis=0)
    second = f[task.labels == 1].mean(axis=0)
    assert np.hypot(*first[:2]) == pytest.approx(0.6)
    assert np.degrees(np.arctan2(first[1], first[0])) == pytest.approx(100)
    np.testing.assert_allclose(second[:2], [0.75, 0.0225])
    for label, mean in ((0, first), (1, second)):
        off = f[task.labels == label] - mean
        np.testing.assert_allclose(np.linalg.norm(off, axis=1), 0.05)
        np.testing.assert_allclose(off @ mean, 0.0, atol=1e-16)
    assert not f[task.labels > 1].any()
    assert not f[:, 2:].any()
    np.testing.assert_allclose(w[:2, :2].T, [[0, 0.6], [0.74, 0.0222]])
    assert not w[:, 2:].any()


def test_seeds_differ_and_repeat():
    for start, scale in (("constructed", 1e-3), ("gaussian", 0.3)):
        features, weights = initialise(TASKS["skewed"], start, seeds=400)
        again, _ = initialise(TASKS["skewed"], start, seeds=3)
        np.testing.assert_array_equal(features[:3], again)
        assert features.std(axis=0) == pytest.approx(np.full((6, 2), scale), rel=0.15)
        assert weights.std(axis=0) == pytest.approx(np.full((2, 4), scale), rel=0.15)


def test_what_cannot_be_started_is_refused():
    with pytest.raises(ValueError, match="constructed, gaussian"):
        initialise(TASKS["skewed"], "zeros")
    with pytest.raises(ValueError, match="first two classes"):
        initialise(Task("lone", (1, 2, 1), 2, "cross_entropy", ""), "constructed")
    with pytest.raises(ValueError, match="squared_error"):
        loss_and_gradients(*parameters(0), "hinge")
