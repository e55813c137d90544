"""Repeated random tokens, and what perfect heads of each kind read on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.repetition import (
    Repetition,
    later_rows,
    middle_ids,
    readings,
    repeated_tokens,
)

LAYOUTS = st.builds(Repetition, st.integers(3, 12), st.integers(2, 5), st.integers(0, 1))


def read(matrix: np.ndarray, layout: Repetition) -> dict[str, float]:
    """Every reading of one attention matrix (query, key), entry by entry."""
    return {
        name: sum(matrix[i, i - o] for o, rows in r.entries.items() for i in rows) / r.divisor
        for name, r in readings(layout).items()
    }


def one_hot(layout: Repetition, key_of) -> np.ndarray:
    """A head that attends to `key_of(tokens since the start)`, to the first key where that is None."""
    matrix = np.zeros((layout.length, layout.length))
    for i in range(layout.length):
        t = i - layout.start
        key = key_of(t) if t >= 0 else None
        matrix[i, 0 if key is None else layout.start + key] = 1
    return matrix


@given(LAYOUTS)
@settings(max_examples=60, deadline=None)
def test_perfect_heads_read_one_and_the_others_nothing(layout: Repetition) -> None:
    s = layout.period
    heads = {
        "previous": lambda t: t - 1 if t >= 1 else None,
        "duplicate": lambda t: t - s if t >= s else None,
        "induction": lambda t: t - s + 1 if t >= s else None,
    }
    for name, key_of in heads.items():
        found = read(one_hot(layout, key_of), layout)
        assert found[name] == pytest.approx(1)
        for other in heads:
            if other != name:
                # Where the period begins anew, what was first may be what is looked at.
                assert found[other] <= 1 / (s - 1)
        assert found["prefix_total"] == pytest.approx(float(name == "induction"), abs=1 / (s - 1))


@given(LAYOUTS)
@settings(max_examples=60, deadline=None)
def test_uniform_attention_reads_one_over_visible(layout: Repetition) -> None:
    n = layout.length
    matrix = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    found = read(matrix, layout)
    rows = layout.start + np.arange(layout.period, layout.period * layout.repeats)
    wanted = (1 / (rows + 1)).mean()
    assert found["induction"] == pytest.approx(wanted)
    assert found["duplicate"] == pytest.approx(wanted)
    # H_T − 1 over T − 1: the closed form of the whole first diagonal.
    harmonic = (1 / np.arange(1, n + 1)).sum()
    assert found["previous_naive"] == pytest.approx((harmonic - 1) / (n - 1))


def test_the_naive_diagonal_is_biased_as_the_reference_says() -> None:
    """S = 50, twice: perfect 1.0 without a BOS and 0.9808 with one; a pure sink 0.0192."""
    for start, perfect, sink in ((0, 1.0, 1 / 51), (1, 0.9808, 0.0192)):
        layout = Repetition(50, 2, start)
        head = one_hot(layout, lambda t: t - 49 if t >= 50 else None)
        assert read(head, layout)["induction_naive"] == pytest.approx(perfect, abs=5e-5)
        assert read(head, layout)["induction"] == 1
        first = one_hot(layout, lambda _: None)
        assert read(first, layout)["induction_naive"] == pytest.approx(sink, abs=5e-5)
        assert read(first, layout)["induction"] == 0


def test_spread_over_earlier_copies_counts_whole_in_the_total_only() -> None:
    layout = Repetition(25, 4, 1)
    matrix = np.zeros((101, 101))
    for t in range(100):
        targets = [t - 25 * m + 1 for m in range(1, 4) if t >= 25 * m] or [-1]
        matrix[t + 1, [1 + k for k in targets]] = 1 / len(targets)
    found = read(matrix, layout)
    assert found["prefix_total"] == pytest.approx(1)
    # Rows of copies 2, 3, 4 have 1, 2, 3 entries that sum to 1: 75 rows over 150 entries.
    assert found["prefix_mean"] == pytest.approx(0.5)
    assert found["induction"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


@given(LAYOUTS)
@settings(max_examples=60, deadline=None)
def test_no_other_head_looks_at_the_first_key_on_the_sinks_rows(layout: Repetition) -> None:
    rows = later_rows(layout)
    assert len(rows) == (layout.repeats - 1) * (layout.period - 1)
    entries = {
        (i, i - o)
        for name, r in readings(layout).items()
        if not name.endswith("naive")
        for o, queries in r.entries.items()
        for i in queries
    }
    assert not entries & {(i, 0) for i in rows}


@given(LAYOUTS, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_copies_are_predicted_tokens_that_have_come_before(layout: Repetition, seed: int) -> None:
    drawn = repeated_tokens(
        np.arange(100, 140), samples=3, period=layout.period, repeats=layout.repeats, seed=seed
    )
    tokens = np.concatenate([np.full((3, layout.start), 7, np.int32), drawn], axis=1)
    assert tokens.shape[1] == layout.length
    copies = tokens[:, layout.copies]
    assert (copies == copies[:, :1]).all()
    assert all(len(set(row[: layout.period])) == layout.period for row in drawn.tolist())
    assert set(drawn.ravel().tolist()) <= set(range(100, 140))
    # Induction's target holds the token that comes next, in every row but the last of a sample.
    ((offset, rows),) = readings(layout)["induction"].entries.items()
    rows = rows[:-1]
    np.testing.assert_array_equal(tokens[:, rows - offset], tokens[:, rows + 1])
    ((offset, rows),) = readings(layout)["duplicate"].entries.items()
    np.testing.assert_array_equal(tokens[:, rows - offset], tokens[:, rows])


def test_samples_do_not_depend_on_how_many_there_are() -> None:
    few, many = (
        repeated_tokens(np.arange(50), samples=n, period=9, repeats=2, seed=4) for n in (3, 8)
    )
    np.testing.assert_array_equal(few, many[:3])
    other = repeated_tokens(np.arange(50), samples=3, period=9, repeats=2, seed=5)
    assert (few != other).mean() > 0.8


def test_the_middle_of_a_vocabulary_leaves_out_special_tokens_and_both_ends() -> None:
    found = middle_ids(96, {0, 1, 2, 50, 93, 94, 95, 92})
    text = [i for i in range(3, 92) if i != 50]
    assert len(text) == 88
    assert found.tolist() == text[11:-11]


@pytest.mark.parametrize(("period", "repeats", "have"), [(2, 2, 50), (5, 1, 50), (5, 2, 4)])
def test_what_cannot_be_drawn_is_refused(period: int, repeats: int, have: int) -> None:
    with pytest.raises(ValueError, match="period"):
        repeated_tokens(np.arange(have), samples=1, period=period, repeats=repeats, seed=0)
