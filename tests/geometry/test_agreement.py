"""Agreement of segmentations: brute force, scikit-learn's indices, and planted seeds."""

from itertools import permutations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import adjusted_rand_score, mutual_info_score, rand_score

from geometry.agreement import (
    consensus,
    jackknife,
    log_grid,
    match_boundaries,
    overlap,
    segment_of,
)

RNG = np.random.default_rng
places = st.lists(st.integers(0, 40), max_size=4).map(lambda xs: [x / 4 for x in xs])


def best_matching(found, wanted, tolerance):
    """Most pairs, then least distance, over every way to pair them."""
    if len(found) > len(wanted):
        found, wanted = wanted, found
    best = (0, 0.0)
    for order in permutations(range(len(wanted)), len(found)):
        gaps = [abs(a - wanted[j]) for a, j in zip(found, order, strict=True)]
        inside = [gap for gap in gaps if gap <= tolerance]
        best = min(best, (-len(inside), sum(inside)))
    return best


@settings(deadline=None, max_examples=150)
@given(places, places, st.sampled_from([0.0, 0.5, 2.0, 20.0]))
def test_matching_is_the_best_of_all(found, wanted, tolerance):
    match = match_boundaries(found, wanted, tolerance=tolerance)
    pairs, distance = best_matching(found, wanted, tolerance)
    assert match.found.size == -pairs
    assert match.distances.sum() == pytest.approx(distance)
    assert (match.distances <= tolerance).all()
    assert match.found.size + match.extra.size == len(found)
    assert match.wanted.size + match.missed.size == len(wanted)
    back = match_boundaries(wanted, found, tolerance=tolerance)
    assert back.f1 == pytest.approx(match.f1)


def test_f1_and_a_tolerance_for_each():
    assert match_boundaries([], [], tolerance=1).f1 == 1
    assert match_boundaries([1.0], [], tolerance=1).f1 == 0
    assert match_boundaries([1, 5], [1, 9], tolerance=1).f1 == 0.5
    match = match_boundaries([1, 5], [2, 6], tolerance=[1, 0.5])
    assert match.found.tolist() == [0]
    assert match.missed.tolist() == [1]
    for bad in ({"found": [np.nan]}, {"tolerance": -1}):
        with pytest.raises(ValueError, match=r"not finite|give 0 or more"):
            match_boundaries(**{"found": [1.0], "wanted": [1.0], "tolerance": 1, **bad})


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 6), st.integers(1, 6))
def test_overlap_is_that_of_an_independent_implementation(seed, n, k, m):
    a, b = RNG(seed).integers(0, k, n), RNG(seed + 1).integers(0, m, n)
    found = overlap(a, b)
    assert found.rand == pytest.approx(rand_score(a, b))
    assert found.adjusted_rand == pytest.approx(adjusted_rand_score(a, b))
    own = [mutual_info_score(x, x) for x in (a, b)]  # the entropy of each
    wanted = sum(own) - 2 * mutual_info_score(a, b)
    assert found.variation == pytest.approx(wanted, abs=1e-9)
    relabelled = overlap(10 - a, b)
    assert relabelled.variation == pytest.approx(found.variation)


def test_segments_on_a_grid_even_in_log_tokens():
    grid = log_grid(1.0, 1e4, 400)
    np.testing.assert_allclose(np.diff(np.log10(grid)), 4 / 400)
    segments = segment_of([1e2], grid)
    assert np.bincount(segments).tolist() == [200, 200]
    assert segment_of([10.0, 3.0], [1, 3, 9, 10]).tolist() == [0, 1, 1, 2]
    # Halves and quarters: H = ln 2 and 2 ln 2, joint 2 ln 2.
    quarters = segment_of([1e1, 1e2, 1e3], grid)
    assert overlap(segments, quarters).variation == pytest.approx(np.log(2))
    assert overlap(segments, segments)[:2] == (1, 1)
    with pytest.raises(ValueError, match="2 or more"):
        overlap([1], [1])


def test_the_consensus_finds_planted_boundaries_and_their_spread():
    rng, seeds, spread = RNG(2), 200, 0.03
    planted = np.array([2.0, 3.0, 4.2])
    seen = [planted[:2] if seed % 4 == 0 else planted for seed in range(seeds)]
    logs = [p + rng.normal(0, spread, p.size) for p in seen]
    found = consensus([10**x for x in logs], tolerance=0.25)
    np.testing.assert_allclose(np.log10(found.places), planted, atol=4 * spread / np.sqrt(150))
    assert found.share.tolist() == [1, 1, 0.75]
    np.testing.assert_allclose(found.training_error, spread / np.sqrt([200, 200, 150]), rtol=0.2)
    assert np.isnan(found.probe_error).all()
    assert np.isnan(found.members[0, 2])
    assert ((found.lower < found.places) & (found.places < found.upper)).all()


def test_training_and_probe_noise_are_kept_apart():
    runs = [[100.0], [110.0], [90.0]]
    found = consensus(runs, tolerance=0.2, standard_errors=[[0.3], [0.4], [0.0]])
    assert found.probe_error[0] == pytest.approx(np.sqrt(0.25 / 3))
    logs = np.log10([100, 110, 90])
    assert found.training_error[0] == pytest.approx(logs.std(ddof=1) / np.sqrt(3))
    lone = consensus([[100.0], []], tolerance=0.2, standard_errors=[[0.1], []])
    assert lone.share.tolist() == [0.5]
    assert np.isnan(lone.training_error[0])
    assert lone.probe_error[0] == pytest.approx(0.1)
    assert consensus([[], []], tolerance=0.1).places.size == 0
    with pytest.raises(ValueError, match="do not match"):
        consensus(runs, tolerance=0.2, standard_errors=[[0.3], [], [0.0]])
    for bad in ([], [[0.0]]):
        with pytest.raises(ValueError, match=r"empty|positive"):
            consensus(bad, tolerance=0.2)


def test_two_boundaries_of_one_seed_stay_two():
    found = consensus([[100.0, 120.0], [100.0, 120.0]], tolerance=0.2)
    np.testing.assert_allclose(found.places, [100, 120])


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
def test_the_jackknife_of_a_mean_is_its_standard_error(values):
    x = np.array(values)
    mean, error, low, high = jackknife(x)
    assert mean == pytest.approx(x.mean(), abs=1e-12)
    assert error == pytest.approx(x.std(ddof=1) / np.sqrt(x.size), abs=1e-9)
    assert low <= mean <= high


def test_the_interval_over_seeds_covers():
    rng = RNG(8)
    held = [low < 0 < high for *_, low, high in (jackknife(rng.normal(size=6)) for _ in range(400))]
    # 95 % of 400 is 380 ± 4.4.
    assert 360 <= sum(held) <= 396
