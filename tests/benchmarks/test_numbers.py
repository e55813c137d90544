"""Tables of the benchmarks where what they measure is too small to be seen."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

import benchmarks.capture
from benchmarks.numbers import positive, ratio, several


def test_a_ratio_to_nothing_is_a_dash() -> None:
    assert ratio(3, 2) == "1.50"
    assert ratio(3, 0) == "—"
    assert ratio(0, 2, 1) == "0.0"


def test_counts_of_nothing_are_refused() -> None:
    assert (positive("1"), several("2")) == (1, 2)
    for kind, text in ((positive, "0"), (positive, "-3"), (several, "1")):
        with pytest.raises(argparse.ArgumentTypeError, match="below"):
            kind(text)


def test_a_pass_that_needs_no_more_memory_is_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Here:
        def __init__(self, _: int) -> None: ...
        def __enter__(self) -> Here:
            return self

        def __exit__(self, *_: object) -> None: ...
        def apply(self, _: object, job: tuple[Any, ...]) -> float:
            return 0.0 if job[0] == "bare" else 5.0

    class Context:
        Pool = Here

    monkeypatch.setattr(benchmarks.capture, "get_context", lambda _: Context)
    benchmarks.capture.memory([(16, 1)], argparse.Namespace(threads=1, seed=0))
    assert capsys.readouterr().out.splitlines()[-1] == "| 16 × 1 | 0 | 5 | — | 320 |"
