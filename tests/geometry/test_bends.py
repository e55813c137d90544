import numpy as np
import pytest
from scipy.special import expit

from geometry.bends import smooth_fit, transition
from geometry.segmented import hinge_basis


def test_transition_of_no_width_is_the_hinge():
    x = np.linspace(-2, 2, 9)
    assert np.array_equal(transition(x, 0.5, 0.0), np.maximum(x - 0.5, 0))
    assert np.allclose(transition(x, 0.5, 1e-6), np.maximum(x - 0.5, 0), atol=1e-6)


def test_width_holds_four_fifths_of_the_change_of_slope():
    h, width = 1e-5, 1.7
    at = 0.3 + np.array([-width / 2, 0.0, width / 2])
    slope = (transition(at + h, 0.3, width) - transition(at - h, 0.3, width)) / (2 * h)
    assert np.allclose(slope, [0.1, 0.5, 0.9], atol=1e-6)
    assert np.allclose(slope, expit((at - 0.3) * 2 * np.log(9) / width), atol=1e-6)


@pytest.mark.parametrize("width", [0.0, 0.8, 1.6])
def test_a_transition_without_noise_is_recovered(width):
    x = np.linspace(0, 4, 41)
    y = np.array([-x, 2 * x]) + np.array([2.0, -1.0])[:, None] * transition(x, 1.9, width)
    found = smooth_fit(hinge_basis(x), y, np.array([14]))
    assert found.centres[0] == pytest.approx(1.9, abs=0.04)
    assert found.widths[0] == pytest.approx(width, abs=0.2)
    assert np.allclose(found.fitted, y, atol=5e-3)
