import dataclasses

import numpy as np
import pytest

from geometry.autoregression import draw
from geometry.bends import transition
from geometry.phases import change_points

STEPS = np.unique(np.round(2.0 ** np.arange(0, 10.6, 0.25)))
X = np.log10(STEPS)
THREE = [12, 24]


def _broken(knots, slopes, x=X):
    line = slopes[0] * (x - x[0])
    for knot, change in zip(knots, np.diff(slopes), strict=True):
        line = line + change * np.maximum(x - x[knot], 0)
    return line


def _curves(seed, *, sd=0.03, rho=0.5, means=None):
    if means is None:
        means = [4 + _broken(THREE, [-2, 1.5, -1]), 1 + _broken(THREE, [1, -1.2, 0.6])]
    noise = draw(np.random.default_rng(seed), np.array(rho), np.array(sd), (1, 2, len(means[0])))[0]
    return {"log_rankme": means[0] + noise[0], "alpha": means[1] + noise[1]}


def _places(found):
    return np.searchsorted(found.steps_used, found.boundaries)


def test_the_three_phases_are_found_and_named():
    found = change_points(_curves(0), steps=STEPS)
    assert found.labels == ("warm-up", "entropy-seeking", "compression-seeking")
    assert (np.abs(_places(found) - THREE) <= 1).all()
    assert np.allclose(found.slopes[:, 0], [-2, 1.5, -1], atol=0.2)
    assert np.allclose(found.slopes[:, 1], [1, -1.2, 0.6], atol=0.2)
    assert found.starts.tolist() == [1, *found.boundaries]
    assert found.ends.tolist() == [*found.boundaries, STEPS[-1]]
    assert (found.lower < found.boundaries).all()
    assert (found.upper > found.boundaries).all()
    assert (found.slope_lower <= found.slopes).all()
    assert (found.slope_upper >= found.slopes).all()
    assert (found.p_values[:2] <= 0.05).all()


def test_planted_breaks_are_found_within_a_spacing():
    hits, held, edges = 0, 0, X[THREE]
    for seed in range(12):
        found = change_points(_curves(seed, sd=0.05), steps=STEPS, simulations=99, seed=seed)
        if found.boundaries.size == 2:
            hits += (np.abs(_places(found) - THREE) <= 1).all()
            held += ((np.log10(found.lower) < edges) & (edges < np.log10(found.upper))).all()
    assert hits >= 10
    assert held >= 9


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_lines_with_correlated_noise_seldom_break(rho):
    alarms = 0
    for seed in range(40):
        curves = _curves(seed, sd=1.0, rho=rho, means=[X, -2 * X])
        found = change_points(curves, steps=STEPS, simulations=99, max_breaks=3, seed=seed)
        alarms += found.boundaries.size > 0
    # At the nominal 5 % eight or more of 40 come less than once in a thousand.
    assert alarms < 8


def test_three_breaks_are_found_where_one_is_no_better_than_none():
    means = [_broken([8, 16, 26], [0, 2, -2, 0]), _broken([8, 16, 26], [0, -2, 2, 0])]
    found = change_points(_curves(1, means=means), steps=STEPS)
    assert found.boundaries.size == 3
    assert (np.abs(_places(found) - [8, 16, 26]) <= 1).all()


@pytest.mark.parametrize(("width", "kind"), [(0.0, "break"), (1.5, "bend")])
def test_a_smooth_bend_is_called_a_bend(width, kind):
    right = 0
    for seed in range(10):
        step = transition(X, 1.4, width)
        curves = _curves(seed, means=[-1.5 * X + 3 * step, X - 2 * step])
        found = change_points(curves, steps=STEPS, simulations=99, seed=seed)
        right += found.kind == (kind,)
        assert all((w > 0) == (k == "bend") for w, k in zip(found.widths, found.kind, strict=True))
    assert right >= 7


def test_the_answer_depends_on_seed_and_data_alone():
    one, two = (change_points(_curves(3), steps=STEPS, seed=5) for _ in range(2))
    for field in dataclasses.fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(two, field.name)), field.name


def test_units_of_steps_and_curves_do_not_matter():
    curves = _curves(4)
    plain = change_points(curves, steps=STEPS)
    moved = change_points(
        {"log_rankme": 10 * curves["log_rankme"] + 3, "alpha": curves["alpha"]}, steps=STEPS * 2048
    )
    assert np.allclose(moved.boundaries, plain.boundaries * 2048)
    assert np.allclose(moved.slopes, plain.slopes * [10, 1])
    assert moved.labels == plain.labels


def test_step_zero_and_missing_values_are_left_out():
    curves = {name: np.concatenate([[9.0], curve]) for name, curve in _curves(5).items()}
    curves["alpha"][7] = np.nan
    steps = np.concatenate([[0.0], STEPS])
    found = change_points(curves, steps=steps)
    assert found.left_out.tolist() == [0, steps[7]]
    assert found.fitted.shape == (STEPS.size - 1, 2)
    assert found.labels == ("warm-up", "entropy-seeking", "compression-seeking")


def test_labels_need_two_curves_and_both_slopes():
    curves = _curves(6)
    alone = change_points({"log_rankme": curves["log_rankme"]}, steps=STEPS)
    assert alone.boundaries.size == 2
    assert set(alone.labels) == {"unlabelled"}
    flat = curves | {"alpha": np.random.default_rng(0).normal(0, 0.03, STEPS.size)}
    assert set(change_points(flat, steps=STEPS).labels) == {"unlabelled"}
    turned = change_points(curves, steps=STEPS, rising={"log_rankme": -1, "alpha": 1})
    assert turned.labels == ("entropy-seeking", "compression-seeking", "entropy-seeking")


def test_measurement_errors_are_a_floor_of_the_residuals():
    curves = _curves(7, sd=0.01)
    errors = {"log_rankme": np.full(STEPS.size, 0.2)}
    plain = change_points(curves, steps=STEPS)
    floored = change_points(curves, steps=STEPS, standard_errors=errors)
    assert plain.residual_sd[0] < 0.03
    assert floored.residual_sd[0] >= 0.2
    assert floored.residual_sd[1] < 0.03
    wide = floored.slope_upper - floored.slope_lower
    assert wide[0, 0] > 3 * (plain.slope_upper - plain.slope_lower)[0, 0]


def test_perfect_and_constant_curves():
    means = [4 + _broken(THREE, [-2, 1.5, -1]), 1 + _broken(THREE, [1, -1.2, 0.6])]
    perfect = change_points(dict(zip(("log_rankme", "alpha"), means, strict=True)), steps=STEPS)
    assert _places(perfect).tolist() == THREE
    assert perfect.kind == ("break", "break")
    assert np.allclose(perfect.fitted, np.transpose(means))
    half = change_points({"log_rankme": X, "alpha": np.full(X.size, 0.1)}, steps=STEPS)
    assert half.boundaries.size == 0
    assert np.allclose(half.slopes, [[1, 0]])
    assert half.fitted[:, 1] == pytest.approx(0.1)
    constant = change_points({"alpha": np.zeros(X.size)}, steps=STEPS)
    assert constant.note == "every curve is constant"
    assert constant.labels == ("unlabelled",)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_checkpoints_are_not_fitted(count):
    found = change_points({"alpha": np.arange(count) ** 2.0}, steps=np.arange(1.0, count + 1))
    assert found.boundaries.size == 0
    assert found.labels == ("unlabelled",)
    assert found.note.startswith(f"{count} usable")
    assert np.isnan(found.slopes).all()
    assert found.starts.shape == found.ends.shape == (1,)


def test_few_checkpoints_have_few_breaks():
    steps = 2.0 ** np.arange(8)
    found = change_points({"alpha": np.abs(np.arange(8.0) - 4)}, steps=steps)
    assert "at most 1" in found.note
    assert found.boundaries.tolist() == [16]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"curves": {}}, "empty"),
        ({"curves": {"alpha": np.ones(3)}}, "alpha"),
        ({"steps": STEPS[::-1]}, "steps"),
        ({"standard_errors": {"loss": STEPS}}, "loss"),
        ({"standard_errors": {"alpha": -STEPS}}, "negative"),
        ({"max_breaks": -1}, "max_breaks"),
        ({"alpha": 5}, "alpha"),
        ({"simulations": 10}, "simulations"),
        ({"rising": {"alpha": 0}}, "rising"),
    ],
)
def test_bad_arguments_are_named(change, match):
    good = {"curves": {"alpha": X}, "steps": STEPS}
    with pytest.raises(ValueError, match=match):
        change_points(**(good | change))
