"""The shared axes: ticks, limits and short numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from figures.axes import short_number, stacked_panels, step_ticks, token_axis, token_limits


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (999, "999"), (1000, "1K"), (2048, "2.05K"), (999_600, "1M"),
     (3.07e6, "3.07M"), (3e11, "300B"), (4e12, "4T")],
)  # fmt: skip
def test_short_numbers(value, text):
    assert short_number(value) == text


def secondary(axes):
    return next(child for child in axes.child_axes)


def test_steps_stand_at_their_tokens():
    steps = np.array([0.0, 1, 3, 30, 700, 1500])
    tokens = steps * 2048
    figure = Figure()
    (panel,) = stacked_panels(figure, GridSpec(1, 1, figure)[0], [1.0], zero=True)
    token_axis([panel], tokens)
    step_ticks(panel, steps, tokens)
    top = secondary(panel.log)
    np.testing.assert_allclose(top.get_xticks(), 2048 * np.array([1, 10, 100, 1000]))
    assert [t.get_text() for t in top.get_xticklabels()] == ["1", "10", "100", "1K"]
    assert [t.get_text() for t in secondary(panel.zero).get_xticklabels()] == ["0"]


def test_a_short_range_still_has_step_ticks():
    steps = np.array([110.0, 150, 190])
    figure = Figure()
    (panel,) = stacked_panels(figure, GridSpec(1, 1, figure)[0], [1.0], zero=False)
    step_ticks(panel, steps, steps * 10)
    np.testing.assert_allclose(secondary(panel.log).get_xticks(), [1100, 1900])


@given(st.lists(st.integers(1, 10**13), min_size=1, max_size=20))
def test_limits_hold_every_token_but_zero(tokens):
    low, high = token_limits(np.array([0, *tokens], dtype=float))
    assert 0 < low < min(tokens)
    assert max(tokens) < high


def test_limits_need_a_token():
    with pytest.raises(ValueError, match="tokens are 0 at every checkpoint"):
        token_limits(np.zeros(2))
