"""The tokenizer: any text survives, and the same text gives the same tokenizer."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from runs.models.tokenizer import END_OF_TEXT, has_tokenizer, save_tokenizer, train_tokenizer

TEXTS = ["the cat sat on the mat and the hat", "a theory of the thing, then another"] * 3
TOKENIZER = train_tokenizer(TEXTS, vocabulary=280)


@settings(deadline=None, max_examples=50)
@given(st.text().filter(lambda text: END_OF_TEXT not in text))
def test_any_text_survives_a_round_trip(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False)) == text


def test_merges_are_learnt_and_size_is_exact() -> None:
    assert len(TOKENIZER) == 280
    assert TOKENIZER.tokenize(" the") == ["Ġthe"]
    assert len(TOKENIZER.tokenize(" qzv")) == 4


def test_one_special_token_has_every_role() -> None:
    assert TOKENIZER.bos_token_id == TOKENIZER.eos_token_id == TOKENIZER.pad_token_id == 0
    assert TOKENIZER.encode(f"a{END_OF_TEXT}", add_special_tokens=False)[-1] == 0


def test_the_same_texts_give_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        assert not has_tokenizer(folder)
        save_tokenizer(train_tokenizer(TEXTS, vocabulary=280), folder)
        assert has_tokenizer(folder)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == ["tokenizer.json", "tokenizer_config.json"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_auto_tokenizer_reads_the_folder_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tokenizer(TOKENIZER, tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = "the other  thing\n\n, naïve"
    ids = loaded(text, add_special_tokens=False)["input_ids"]
    assert ids == TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert loaded.decode(ids) == text
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == (END_OF_TEXT,) * 3


def test_too_small_a_vocabulary_or_text_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 257"):
        train_tokenizer(TEXTS, vocabulary=256)
    with pytest.raises(ValueError, match="more text"):
        train_tokenizer(["ab"], vocabulary=300)
