"""Sequence likelihoods, suffix shares, and n-grams beside a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from scipy.stats import entropy

from probes.infinigram import compare_next, log_likelihood, suffix_shares

NAN = np.nan
ROWS = np.array([[0.5, 0.25, 1.0, NAN], [0.5, 0.0, 0.1, NAN], [0.0, 0.0, NAN, NAN], [NAN] * 4])


def test_conventions_for_zeros() -> None:
    def found(convention: str) -> list[float]:
        return log_likelihood(ROWS, convention=convention).tolist()

    np.testing.assert_allclose(found("li2025_code"), [np.log(0.125), np.log(0.05), NAN, NAN])
    np.testing.assert_allclose(found("per_token"), [np.log(0.125) / 3, np.log(0.05) / 2, NAN, NAN])
    np.testing.assert_allclose(found("strict"), [np.log(0.125), -np.inf, -np.inf, NAN])
    with pytest.raises(ValueError, match="li2025_code, per_token, strict, add_one"):
        found("none")


def test_add_one_is_a_distribution_that_is_never_zero() -> None:
    counts = np.array([3, 0, 1, 0])  # of every token of a vocabulary of 4, after one prompt
    logs = log_likelihood(
        np.ones((4, 1)),
        convention="add_one",
        prompt_count=np.full((4, 1), 4),
        continuation_count=counts[:, None],
        vocabulary=4,
    )
    np.testing.assert_allclose(np.exp(logs), (counts + 1) / 8)
    with pytest.raises(ValueError, match="needs prompt_count"):
        log_likelihood(ROWS, convention="add_one")


@given(st.permutations(range(3)), st.integers(0, 5))
def test_sum_over_tokens_forgets_their_order_and_padding(order: list[int], padding: int) -> None:
    row = np.array([0.5, 0.0, 0.2])
    padded = np.concatenate([row[list(order)], np.full(padding, NAN)])
    for convention in ("li2025_code", "per_token", "strict"):
        assert log_likelihood(padded, convention=convention) == pytest.approx(
            log_likelihood(row, convention=convention)
        )


def test_shares_are_those_of_a_count() -> None:
    length = np.array([[0, 3, 4, -1], [9, 400, 8, 3]])
    upto = np.array([3, 4, 5, 6, 7, 8, 2**31 - 1])
    found = suffix_shares(length, np.array([0, 1]), upto)
    np.testing.assert_allclose(found.value * 7, [3, 1, 0, 0, 0, 1, 2])
    assert found.value.sum() == pytest.approx(1)
    # Two groups with 2 of 3 and 1 of 4 short ones: the error of a ratio by hand.
    residual = np.array([2 - 3 * 3 / 7, 1 - 4 * 3 / 7])
    assert found.standard_error[0] == pytest.approx(np.sqrt(2 * (residual**2).sum()) / 7)


@given(
    st.lists(st.integers(0, 9), min_size=5, max_size=5).filter(any),
    st.lists(st.floats(-5, 5), min_size=5, max_size=5),
)
def test_divergence_is_that_of_scipy(counts: list[int], logits: list[float]) -> None:
    number = np.array(counts)
    support = np.flatnonzero(number)
    logs = log_softmax(logits)
    found = compare_next(support, number[support], logs)
    assert found.divergence == pytest.approx(entropy(number, np.exp(logs)), abs=1e-9)
    assert found.divergence > -1e-12
    assert found.agrees == (number[int(np.argmax(logs))] == number.max())


def test_a_model_that_is_the_ngram_diverges_by_nothing() -> None:
    counts = np.array([1, 2, 5])
    logs = np.full(6, -np.inf)
    logs[[1, 3, 4]] = np.log(counts / 8)
    found = compare_next(np.array([1, 3, 4]), counts, logs)
    assert found.divergence == pytest.approx(0, abs=1e-12)
    assert found.agrees
    assert compare_next(np.array([0]), np.array([1]), logs).divergence == np.inf
    for nothing in (np.array([], int), np.array([0, 1, 1])):
        with pytest.raises(ValueError, match="counts must be positive"):
            compare_next(np.arange(len(nothing)), nothing, logs)
