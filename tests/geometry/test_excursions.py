import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.excursions import excursion

STEPS = np.arange(40.0)
TRUTH = np.interp(STEPS, [0, 12, 35, 39], [4.0, 1.2, 4.2, 3.8])


def test_a_clear_excursion_is_read_off():
    found = excursion(TRUTH, np.full(40, 0.02), STEPS)
    assert (found.collapse_step, found.expansion_step) == (12, 35)
    assert found.collapse_ratio == pytest.approx(np.exp(-2.8))
    assert found.expansion_ratio == pytest.approx(np.exp(3.0))
    assert found.final_ratio == pytest.approx(np.exp(-0.4))
    assert (found.first, found.lowest) == pytest.approx((np.exp(4.0), np.exp(1.2)))
    assert found.collapsed
    assert found.expanded


def test_without_errors_intervals_are_points():
    found = excursion(TRUTH, np.zeros(40), STEPS)
    assert found.collapse_ratio_interval == pytest.approx((found.collapse_ratio,) * 2)
    assert found.expansion_step_interval == (35, 35)


def test_nothing_collapsed_is_said():
    found = excursion(np.linspace(1, 3, 20), np.full(20, 0.01), np.arange(20.0))
    assert found.collapse_step == 0
    assert found.collapse_ratio == 1
    assert found.collapse_ratio_interval[1] == 1
    assert not found.collapsed
    assert found.expanded


def test_a_minimum_at_the_end_did_not_expand():
    found = excursion(np.linspace(3, 1, 20), np.full(20, 0.01), np.arange(20.0))
    assert (found.expansion_step, found.expansion_ratio) == (19, 1)
    assert found.expansion_ratio_interval[0] == 1
    assert found.collapsed
    assert not found.expanded


def test_flat_curves_seldom_seem_to_move():
    rng = np.random.default_rng(0)
    found = [
        excursion(rng.normal(0, 0.1, 40), np.full(40, 0.1), STEPS, draws=400) for _ in range(200)
    ]
    # One tail of a 95 % interval: 5 of 200 expected, 14 or more once in two thousand.
    assert sum(f.collapsed for f in found) < 14
    assert sum(f.expanded for f in found) < 14
    # The raw extremes always do: that is the bias the intervals answer for.
    assert sum(f.expansion_ratio > 1.1 for f in found) > 190


def test_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    held = np.zeros(3)
    for _ in range(100):
        f = excursion(TRUTH + rng.normal(0, 0.05, 40), np.full(40, 0.05), STEPS, draws=400)
        pairs = zip(
            (f.collapse_ratio_interval, f.expansion_ratio_interval, f.final_ratio_interval),
            np.exp([-2.8, 3.0, -0.4]),
            strict=True,
        )
        held += [low <= truth <= high for (low, high), truth in pairs]
    assert (held >= 90).all()


def test_missing_checkpoints_are_left_out():
    values, se = TRUTH.copy(), np.full(40, 0.02)
    values[12], se[3] = np.nan, np.nan
    found = excursion(values, se, STEPS)
    assert found.left_out.tolist() == [3, 12]
    assert found.collapse_step in (11, 13)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), points=st.integers(2, 30), scale=st.floats(0.01, 2))
def test_intervals_hold_their_estimate_and_their_bound(seed, points, scale):
    rng = np.random.default_rng(seed)
    found = excursion(
        rng.normal(0, 1, points), np.full(points, scale), np.arange(1.0, points + 1), draws=200
    )
    for name in ("collapse_ratio", "expansion_ratio", "final_ratio", "collapse_step"):
        low, high = getattr(found, f"{name}_interval")
        assert low <= getattr(found, name) * (1 + 1e-12)
        assert high >= getattr(found, name) * (1 - 1e-12)
    assert found.collapse_ratio_interval[1] <= 1 <= found.expansion_ratio_interval[0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"steps": STEPS[::-1]}, "steps"),
        ({"values": TRUTH[:-1]}, "values"),
        ({"values": np.full(40, np.nan)}, "usable"),
        ({"standard_errors": np.full(40, -1.0)}, "negative"),
        ({"draws": 3}, "draws"),
        ({"level": 95}, "level"),
    ],
)
def test_bad_arguments_are_named(change, match):
    good = {"values": TRUTH, "standard_errors": np.full(40, 0.1), "steps": STEPS}
    with pytest.raises(ValueError, match=match):
        excursion(**(good | change))
