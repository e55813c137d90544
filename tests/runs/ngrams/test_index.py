"""The index against an ∞-gram in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.errors import InputError
from runs.ngrams import NgramIndex, build_index
from runs.ngrams import index as building
from tests.runs.ngrams.brute import BruteForce

END = 0
TOKENS = 7


def documents_of(seed: int, count: int, *, offset: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [(rng.integers(1, TOKENS, rng.integers(0, 30)) + offset).tolist() for _ in range(count)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[NgramIndex, BruteForce]:
    documents = documents_of(0, 40)
    folder = tmp_path_factory.mktemp("index with a space") / "it's here"
    build_index(documents, folder)
    return NgramIndex(folder, end=END), BruteForce(documents, end=END)


PROMPTS = st.lists(st.integers(0, TOKENS + 1), max_size=9)  # 0 is the end of text, 7 and 8 unknown


@settings(max_examples=300, deadline=None)
@given(prompt=PROMPTS, token=st.integers(0, TOKENS + 1))
def test_probabilities_are_those_of_brute_force(
    small: tuple[NgramIndex, BruteForce], prompt: list[int], token: int
) -> None:
    index, brute = small
    found = index.infinigram(prompt, token)
    assert found == brute.infinigram(prompt, token)
    assert found.probability == found.continuation_count / found.prompt_count


@settings(max_examples=200, deadline=None)
@given(prompt=PROMPTS)
def test_counts_are_those_of_brute_force(
    small: tuple[NgramIndex, BruteForce], prompt: list[int]
) -> None:
    index, brute = small
    assert index.count(prompt) == brute.count(prompt)
    found = index.following(prompt)
    assert found == brute.following(prompt)
    assert sum(found.values()) == brute.count(prompt)


@settings(max_examples=60, deadline=None)
@given(prompt=PROMPTS)
def test_the_engine_and_the_suffix_array_count_alike(
    small: tuple[NgramIndex, BruteForce], prompt: list[int]
) -> None:
    """The two ways of counting what follows: the engine's own serves indices made elsewhere."""
    index, _ = small
    query = index._query(prompt)
    assert index._ask_following(query) == index._read_following(query)


@settings(max_examples=100, deadline=None)
@given(tokens=st.lists(st.integers(0, TOKENS), min_size=2, max_size=40))
def test_a_sequence_is_asked_with_short_prompts_and_answered_as_with_whole_ones(
    small: tuple[NgramIndex, BruteForce], tokens: list[int]
) -> None:
    index, brute = small
    wanted = [brute.infinigram(tokens[:i], tokens[i]) for i in range(1, len(tokens))]
    assert index.sequence(tokens) == wanted


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    documents=st.lists(st.lists(st.integers(1, 4), max_size=12), min_size=1, max_size=6).filter(
        any
    ),
    prompt=st.lists(st.integers(0, 4), max_size=4),
)
def test_any_small_corpus(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], prompt: list[int]
) -> None:
    """Also corpora of one token, whose suffix array the indexer makes of a handful of bytes."""
    check(tmp_path_factory.mktemp("any") / "index", documents, prompt)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    documents=st.lists(st.lists(st.integers(1, 4), max_size=20), min_size=1, max_size=9).filter(
        any
    ),
    prompt=st.lists(st.integers(0, 4), max_size=5),
)
def test_many_small_corpora(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], prompt: list[int]
) -> None:
    check(tmp_path_factory.mktemp("many") / "index", documents, prompt)


def check(folder: Path, documents: Sequence[Sequence[int]], prompt: list[int]) -> None:
    index = NgramIndex(build_index(documents, folder), end=END)
    brute = BruteForce(documents, end=END)
    for token in range(5):
        assert index.infinigram(prompt, token) == brute.infinigram(prompt, token)
    for used in range(len(prompt) + 1):
        assert index.following(prompt[used:]) == brute.following(prompt[used:])


def test_nothing_runs_over_the_end_of_a_document(tmp_path: Path) -> None:
    index = NgramIndex(build_index([[1, 2], [3, 4]], tmp_path / "index"), end=END)
    assert index.count([2, 3]) == 0
    assert index.count([2, END, 3]) == 1
    assert index.following([2]) == {END: 1}
    assert index.infinigram([2], 3).probability == 0.0
    without = NgramIndex(tmp_path / "index", end=None)
    assert without.following([2]) == {}
    assert without.following([1]) == {2: 1}


def test_tokens_of_a_large_vocabulary_are_numbered_anew(tmp_path: Path) -> None:
    documents = documents_of(1, 20, offset=120_000)
    index = NgramIndex(build_index(documents, tmp_path / "index"), end=100_257)
    brute = BruteForce(documents, end=100_257)
    rng = np.random.default_rng(2)
    for _ in range(200):
        prompt = (rng.integers(0, TOKENS + 2, rng.integers(0, 5)) + 120_000).tolist()
        assert index.following(prompt) == brute.following(prompt)
        assert index.infinigram(prompt, 120_003) == brute.infinigram(prompt, 120_003)
    assert index.count([3]) == index.count([65_533]) == index.count([200_000]) == 0


def test_large_ids_in_a_prompt_are_unknown_to_a_small_index(
    small: tuple[NgramIndex, BruteForce],
) -> None:
    index, _ = small
    for token in (65_533, 65_534, 65_535, 150_000):
        assert index.count([token]) == 0
        assert index.infinigram([1, token], 2).suffix_length == 0


def test_what_follows_a_frequent_prompt_is_counted_and_not_sampled(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    documents = [np.ravel([[1, t] for t in rng.integers(2, 60_000, 3000)]).tolist()]
    index = NgramIndex(build_index(documents, tmp_path / "index"), end=END)
    wanted = BruteForce(documents, end=END).following([1])
    assert len(wanted) > 1000  # beyond which the engine samples unless told otherwise
    assert index.following([1]) == wanted
    assert index._ask_following([1]) == wanted


def test_an_index_made_elsewhere_opens_with_its_own_end(tmp_path: Path) -> None:
    """As infini-gram itself lays it out: no manifest, no empty document at the end."""
    folder = build_index([[5, 6, 7], [5, 6, 8]], tmp_path / "index")
    (folder / building.MANIFEST).unlink()
    index = NgramIndex(folder, end=2, eos_token_id=2, vocabulary=32_000, in_memory=True)
    assert index.following([5, 6]) == {7: 1, 8: 1}
    assert index.following([8]) == {2: 1}
    assert index.infinigram([9, 5, 6], 7) == (0.5, 2, 2, 1)
    with pytest.raises(InputError, match="token 70000 does not fit"):
        index.count([70_000])


def test_an_index_is_built_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_index([[1, 2, 3]], tmp_path / "index")
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}

    def never() -> list[int]:
        raise AssertionError("the documents are not read again")

    build_index((never() for _ in range(1)), folder)
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert not [p for p in folder.iterdir() if p.is_dir()]

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "_make_suffix_array", killed)
    with pytest.raises(KeyboardInterrupt):
        build_index([[1]], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_indexer_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building.sys, "executable", "/bin/false")
    with pytest.raises(InputError, match=r"indexer failed \(exit code 1\)"):
        build_index([[1]], tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_what_cannot_be_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no token to index"):
        build_index([[], []], tmp_path / "none")
    with pytest.raises(InputError, match="negative"):
        build_index([[1, -1]], tmp_path / "negative")
    with pytest.raises(InputError, match=r"70,000 different tokens.*u32"):
        build_index([list(range(70_000))], tmp_path / "many")
    monkeypatch.setattr("runs.packages._installed", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'phasescope\[memorisation\]'"):
        build_index([[1]], tmp_path / "engine")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "table.0").unlink(), "lacks table.0"),
        (lambda f: (f / "offset.0").unlink(), "lacks offset.0"),
        (lambda f: (f / "tokenized.0").unlink(), "holds no ∞-gram index"),
        (lambda f: (f / "tokenized.0").write_bytes(b"\xff\x01\x02\x03"), "is not of u16 tokens"),
        (lambda f: (f / building.MANIFEST).write_text("{"), "is damaged"),
    ],
)
def test_a_damaged_index_is_one_line(tmp_path: Path, damage: object, said: str) -> None:
    folder = build_index([[1, 2, 3]], tmp_path / "index")
    damage(folder)  # type: ignore[operator]
    with pytest.raises(InputError, match=said) as caught:
        NgramIndex(folder, end=END)
    assert "\n" not in str(caught.value)


def test_other_widths_are_told_apart(tmp_path: Path) -> None:
    folder = build_index([[1, 2, 3]], tmp_path / "index")
    for dtype in ("u8", "u32"):
        with pytest.raises(InputError, match=r"token_dtype|was made here"):
            NgramIndex(folder, end=END, token_dtype=dtype, eos_token_id=3, vocabulary=9)
    with pytest.raises(InputError, match="was made here"):
        NgramIndex(folder, end=END, eos_token_id=2)


def test_the_text_that_was_indexed_is_never_impossible(
    small: tuple[NgramIndex, BruteForce],
) -> None:
    """A document after a boundary: its likelihood is its share among all documents, token by token."""
    index, _ = small
    documents = [d for d in documents_of(0, 40) if d]
    for document in documents:
        likelihood = math.prod(a.probability for a in index.sequence([END, *document]))
        alike = sum(d[: len(document)] == document for d in documents)
        # The corpus ends with one more boundary, and an empty document after it.
        assert likelihood == pytest.approx(alike / (len(documents) + 1))
