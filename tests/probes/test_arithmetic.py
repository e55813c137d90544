"""Sums: the answers are right, and no pair is both trained on and asked."""

import re

import pytest

from probes.arithmetic import FORMS, addition_problems, spelled


@pytest.mark.parametrize("form", FORMS)
def test_answers_are_sums_and_splits_are_apart(form: str) -> None:
    def pairs(split: str, count: int) -> set[tuple[int, int]]:
        found = set()
        for problem in addition_problems(count, seed=3, split=split, largest=12, form=form):
            digits = re.findall(r"\d(?: \d)*", problem.prompt)
            a, b = (int(d.replace(" ", "")) for d in digits)
            assert problem.answer == f" {spelled(a + b)}"
            found.add((a, b))
        assert len(found) == count
        return found

    assert not pairs("train", 136) & pairs("test", 33)


def test_wrong_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="test has 33 sums up to 12; 34 were asked for"):
        addition_problems(34, seed=0, split="test", largest=12)
    with pytest.raises(ValueError, match="give train or test"):
        addition_problems(1, seed=0, split="dev")
    with pytest.raises(ValueError, match="give one of asked, worded"):
        addition_problems(1, seed=0, split="test", form="sung")
