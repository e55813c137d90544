from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runs.errors import InputError
from runs.inputs import FOLDS, InputSet, assign_folds, build_set
from runs.points import choose_points
from runs.recipe import InputTable


class Words:
    """A tokenizer with one id a word: word `w7` is 7."""

    bos_token_id: int | None = 100
    eos_token_id: int | None = 101
    pad_token_id: int | None = 102

    def __len__(self) -> int:
        return 103

    def __call__(self, text: Sequence[str], *, add_special_tokens: bool) -> dict[str, Any]:
        assert not add_special_tokens
        return {"input_ids": [[int(w[1:]) for w in t.split()] for t in text]}


def text(start: int, count: int) -> str:
    return " ".join(f"w{(start + i) % 90}" for i in range(count))


def build(path: Path, **options: Any) -> InputSet:
    table = {"path": path, "mode": "document", "length": 6, **options}
    return build_set("x", InputTable.model_validate(table), Words())


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "docs.jsonl"
    rows = [
        {"text": text(i, 2 + i % 8), "kind": f"k{i % 3}", "who": f"p{i // 2}"} for i in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_documents_are_truncated_padded_and_dropped(jsonl: Path) -> None:
    made = build(jsonl, min_length=4, labels=("kind",))
    assert made.samples == sum(2 + i % 8 >= 4 for i in range(40))
    assert made.length.min() == 4
    assert made.length.max() == 6
    assert made.tokens[0].tolist() == [2, 3, 4, 5, 102, 102]  # document 2: four words
    assert made.labels["kind"][0] == "k2"
    assert made.padded
    assert (made.tokens[made.length == 4][:, 4:] == 102).all()


def test_a_bos_is_put_first_and_counts(jsonl: Path) -> None:
    made = build(jsonl, min_length=4, add_bos=True)
    assert (made.tokens[:, 0] == 100).all()
    assert made.samples == sum(3 + i % 8 >= 4 for i in range(40))
    assert made.length.max() == 6


def test_packed_windows_carry_on_across_documents(jsonl: Path) -> None:
    made = build(jsonl, mode="packed")
    stream: list[int] = []
    for i in range(40):
        stream += [(i + j) % 90 for j in range(2 + i % 8)] + [101]
    count = len(stream) // 6
    np.testing.assert_array_equal(made.tokens, np.array(stream[: count * 6]).reshape(-1, 6))
    assert not made.padded


def test_packed_windows_with_bos_lose_no_token(jsonl: Path) -> None:
    plain, started = build(jsonl, mode="packed"), build(jsonl, mode="packed", add_bos=True)
    assert (started.tokens[:, 0] == 100).all()
    body, whole = started.tokens[:, 1:].ravel(), plain.tokens.ravel()
    both = min(len(body), len(whole))
    np.testing.assert_array_equal(body[:both], whole[:both])
    assert len(body) > len(whole) - 6


def test_the_shuffle_is_by_seed_and_before_the_limit(jsonl: Path) -> None:
    plain, one = build(jsonl, limit=10), build(jsonl, limit=10, shuffle_seed=1)
    again, other = build(jsonl, limit=10, shuffle_seed=1), build(jsonl, limit=10, shuffle_seed=2)
    np.testing.assert_array_equal(one.tokens, again.tokens)
    assert one.digest == again.digest
    assert len({plain.digest, one.digest, other.digest}) == 3
    assert {len(s.tokens) for s in (plain, one, other)} == {10}


@pytest.mark.parametrize("change", [{"length": 5}, {"add_bos": True}, {"min_length": 3}])
def test_the_digest_follows_what_decides_results(jsonl: Path, change: dict[str, Any]) -> None:
    assert build(jsonl).digest != build(jsonl, **change).digest


def test_parquet_jsonl_and_text_agree(tmp_path: Path) -> None:
    texts = [text(i, 9) for i in range(12)]
    pq.write_table(pa.table({"body": texts}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": t}) for t in texts))
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    made = [
        build(tmp_path / "a.parquet", text="body"),
        build(tmp_path / "a.jsonl", text="body"),
        build(tmp_path / "a.txt"),
    ]
    assert len({m.digest for m in made}) == 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=8, max_size=200))
def test_folds_keep_groups_whole(groups: list[int]) -> None:
    group = np.array(groups, np.int32)
    if len(np.unique(group)) < FOLDS:
        with pytest.raises(InputError, match="groups"):
            assign_folds(group)
        return
    fold = assign_folds(group)
    assert set(fold) == set(range(1, FOLDS + 1))
    for value in np.unique(group):
        assert len(np.unique(fold[group == value])) == 1


def test_folds_of_single_samples_are_even() -> None:
    sizes = np.bincount(assign_folds(np.arange(83, dtype=np.int32)))[1:]
    assert sizes.max() - sizes.min() <= 1


def test_points_are_last_tokens_first_then_others(jsonl: Path) -> None:
    made = build(jsonl, min_length=2)
    points = choose_points(made, extra_positions=3)
    np.testing.assert_array_equal(points.position[: made.samples], made.length - 1)
    assert points.last.sum() == made.samples
    rest = ~points.last
    assert (points.position[rest] < made.length[points.sample[rest]] - 1).all()
    pairs = list(zip(points.sample, points.position, strict=True))
    assert len(set(pairs)) == len(pairs)
    again = choose_points(made, extra_positions=3)
    np.testing.assert_array_equal(points.position, again.position)


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("", {}, "holds no text"),
        ('{"text": "w1 w2"}', {}, "gives 1 samples of at least 2 tokens"),
        ('{"txt": "w1"}', {}, "line 1 has no `text`; it has txt"),
        ('{"text": 3}', {}, "not a string"),
        ("{", {}, "line 1 is not valid JSON"),
        ("[1]", {}, "not a JSON object"),
        ('{"text": "w1 w2"}\n' * 9, {"mode": "packed", "length": 30}, "shorter|smaller length"),
        ('{"text": "w1 w2", "g": 1}\n' * 9, {"group": "g"}, "1 groups"),
    ],
)
def test_unusable_text_is_one_line(
    tmp_path: Path, content: str, options: dict[str, Any], expected: str
) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=expected) as caught:
        build(path, **options)
    assert "\n" not in str(caught.value)


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        build(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"none\.parquet: no such file"):
        build(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="unknown kind"):
        build(tmp_path / "none.csv")
    (tmp_path / "bad.parquet").write_text("not parquet")
    with pytest.raises(InputError, match=r"bad\.parquet: cannot be read"):
        build(tmp_path / "bad.parquet")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        build(tmp_path / "bad.txt")
