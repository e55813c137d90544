"""pass@k against enumeration of every choice of draws, and its bias."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.passk import mean_pass_at_k, pass_at_k


@given(st.integers(1, 9), st.data())
def test_it_is_the_share_of_choices_with_a_right_draw(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    right = [i < c for i in range(n)]
    choices = list(combinations(right, k))
    assert pass_at_k(c, n, k) == pytest.approx(sum(map(any, choices)) / len(choices), abs=1e-12)


@given(st.integers(1, 2000), st.data())
def test_one_draw_is_the_share_and_all_draws_are_certain(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    assert pass_at_k(c, n, 1) == pytest.approx(c / n, abs=1e-9)
    assert pass_at_k(c, n, n) == (c > 0)
    found = [float(pass_at_k(c, n, k)) for k in sorted({1, max(1, n // 2), n})]
    assert all(b - a > -1e-9 for a, b in pairwise(found))


def test_more_draws_than_there_are_say_nothing() -> None:
    assert np.isnan(pass_at_k([0, 3], [8, 8], 9)).all()
    with pytest.raises(ValueError, match="k is 0"):
        pass_at_k(1, 2, 0)
    with pytest.raises(ValueError, match="more right draws than draws"):
        pass_at_k(3, 2, 1)


def test_it_is_unbiased_and_the_plug_in_is_not() -> None:
    p, n, k, runs = 0.1, 20, 8, 40_000
    c = np.random.default_rng(0).binomial(n, p, runs)
    truth = 1 - (1 - p) ** k
    noise = 4 * np.std(pass_at_k(c, n, k)) / np.sqrt(runs)
    assert abs(np.mean(pass_at_k(c, n, k)) - truth) < noise
    assert np.mean(1 - (1 - c / n) ** k) < truth - noise


def test_intervals_over_problems_cover() -> None:
    rng = np.random.default_rng(1)
    n, k, problems = 64, 8, 60
    truth = 1 - np.prod([(2 + j) / (3 + j) for j in range(k)])  # p ~ Beta(1, 2): E(1 − p)^k
    held = 0
    for _ in range(400):
        c = rng.binomial(n, rng.beta(1, 2, problems))
        found = mean_pass_at_k(c, n, k)
        held += found.lower <= truth <= found.upper
    assert 360 <= held <= 396  # 95 % of 400 within three standard errors, and skew
