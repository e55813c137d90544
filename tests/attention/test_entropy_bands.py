from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.bands import BANDS, band_of, band_shares, heads_beyond, reference_entropy


@pytest.fixture
def printed() -> np.ndarray:
    """The heads of a softmax-only model whose entropies the paper prints."""
    path = Path(__file__).with_name("jha2025_fig3f.csv")
    return np.genfromtxt(path, delimiter=",", names=True, skip_header=1)["entropy"]


def shares(heads: np.ndarray, reference: str) -> np.ndarray:
    ratio = heads / reference_entropy(heads, [128], reference=reference)
    return band_shares(ratio, ratio, ratio).value


def test_the_printed_heads_give_the_papers_shares(printed: np.ndarray) -> None:
    """arXiv 2501.03489 §3: 33 % of heads in the lowest band and 45 % in the highest."""
    assert printed.size == 144
    assert reference_entropy(printed, [128], reference="observed_max") == 3.87
    found = 100 * shares(printed, "observed_max")
    np.testing.assert_allclose(found, [32.6, 9.7, 12.5, 45.1], atol=0.05)
    assert found.round()[[0, 3]].tolist() == [33, 45]


def test_ln_length_is_not_what_the_paper_means(printed: np.ndarray) -> None:
    found = 100 * shares(printed, "log_length")
    np.testing.assert_allclose(found[[0, 3]], [34.7, 35.4], atol=0.05)


def test_no_causal_head_is_above_uniform(printed: np.ndarray) -> None:
    """The highest printed head is just below ln(128!)/128 = 3.8782; ln 128 is out of reach."""
    uniform = reference_entropy(printed, [128], reference="causal_uniform")
    assert uniform == pytest.approx(3.8782, abs=5e-5)
    assert 0.99 < printed.max() / uniform < 1
    assert reference_entropy(printed, [128], reference="log_length") == pytest.approx(math.log(128))


@pytest.mark.parametrize(
    ("length", "mean"),
    [
        (64, 3.205753), (128, 3.8782), (256, 4.5596), (512, 5.2462), (1024, 5.9358), (2048, 6.6269),
        (4096, 7.3190),
    ],
)  # fmt: skip
def test_uniform_causal_heads(length: int, mean: float) -> None:
    found = reference_entropy([0.0], [length] * 3, reference="causal_uniform")
    assert found == pytest.approx(mean, abs=5e-5)
    assert found == pytest.approx(np.log(np.arange(1, length + 1)).mean())


def test_uniform_attention_of_samples_of_different_length() -> None:
    lengths = [3, 1, 7]
    rows = np.concatenate([np.log(np.arange(1, n + 1)) for n in lengths])
    found = reference_entropy(np.zeros((5, 2)), lengths, reference="causal_uniform")
    np.testing.assert_allclose(found, np.full(5, rows.mean()))


def test_edges_belong_to_the_band_above() -> None:
    ratio = [-1e-9, 0.0, 0.25, 0.5, 0.75, 1.0, 1.2, np.nan]
    np.testing.assert_array_equal(band_of(ratio), [0, 0, 1, 2, 3, 3, 3, np.nan])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.floats(0, 0.6), st.integers(0, 2**16))
def test_counts_lie_between_what_intervals_allow(heads: int, width: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    ratio = draw.uniform(0, 1, heads)
    reach = width * draw.uniform(0, 1, heads)
    low, high = ratio - reach, ratio + reach
    found = band_shares(ratio, low, high)
    assert found.value.sum() == pytest.approx(1)
    assert found.value.shape == (len(BANDS),)
    assert (found.lower <= found.value).all()
    assert (found.value <= found.upper).all()
    for above in (True, False):
        one = heads_beyond(ratio, low, high, threshold=0.4, above=above)
        assert one.lower <= one.value <= one.upper
        expected = sum(r >= 0.4 if above else r < 0.4 for r in ratio)
        assert one.value == expected
    below = heads_beyond(ratio, low, high, threshold=0.25, above=False)
    np.testing.assert_allclose([x / heads for x in below], [x[0] for x in found])


def test_without_intervals_there_is_one_number() -> None:
    ratio = np.array([0.1, 0.3, 0.8, 0.9])
    found = band_shares(ratio, ratio, ratio)
    for numbers in found:
        np.testing.assert_array_equal(numbers, [0.25, 0.25, 0, 0.5])


def test_an_interval_over_several_bands_touches_them_all() -> None:
    found = band_shares([0.4], [0.2], [0.8])
    np.testing.assert_array_equal(found.lower, [0, 0, 0, 0])
    np.testing.assert_array_equal(found.upper, [1, 1, 1, 1])


def test_a_head_that_failed_spoils_the_counts_and_is_in_no_band() -> None:
    """Not a collapsed head, as counting NaN as 0 would have it."""
    ratio = np.array([0.1, np.nan, 0.8])
    for found in (
        band_shares(ratio, ratio, ratio),
        heads_beyond(ratio, ratio, ratio, threshold=0.25, above=False),
    ):
        assert all(np.isnan(x).all() for x in found)
    assert np.isnan(reference_entropy(ratio, [8], reference="observed_max"))
    sure = np.array([0.1, 0.8])
    found = band_shares(sure, [0.05, np.nan], [0.15, np.nan])
    np.testing.assert_array_equal(found.value, [0.5, 0, 0, 0.5])
    assert np.isnan(found.lower).all()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="observed_max, causal_uniform, log_length"):
        reference_entropy([1.0], [8], reference="max")
    with pytest.raises(ValueError, match="no sample has two tokens"):
        reference_entropy([1.0], [1, 1], reference="causal_uniform")
