"""Where a recipe's ∞-gram index comes from: documents to be indexed here once, or a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runs.documents import read_documents
from runs.errors import InputError, line_of
from runs.leases import Lease
from runs.ngrams.engine import NgramIndex
from runs.ngrams.index import build_index, require_engine
from runs.recipe import Recipe
from runs.tables import MemorisationTable

_LAYOUT = 1  # raised when what is indexed changes
_AT_ONCE = 256
_HEAD = 1 << 20


@dataclass(frozen=True)
class NgramSource:
    """An index that may still have to be built.

    Attributes
    ----------
    table : MemorisationTable
    tokenizer : Path
        Tokenises the documents.
    end : int or None
        The end-of-text token.
    cache : Path
        Folder of indices built here, one by digest.
    digest : str
        SHA-256 over the documents' file, tokenizer and settings; of an index made elsewhere over the
        names and sizes of its files and the beginnings of its tokens, for it may have terabytes.
    """

    table: MemorisationTable
    tokenizer: Path
    end: int | None
    cache: Path
    digest: str

    def open(self) -> NgramIndex:
        """Open the index; documents are indexed first, by one process, if nobody did.

        Raises
        ------
        InputError
            If the documents or the index cannot be read, or indexing fails.
        """
        return _open(self)


def ngram_source(recipe: Recipe, tokenizer: Any, place: Path, tokens: str) -> NgramSource | None:
    """What `[memorisation]` of a recipe names; None if there is no such table.

    Parameters
    ----------
    recipe
        From `load_recipe`.
    tokenizer
        Of the series.
    place
        Where it was loaded from.
    tokens
        Its digest.

    Raises
    ------
    InputError
        If the engine is missing, or the file or folder cannot be read.
    """
    table = recipe.memorisation
    if not table.named:
        return None
    require_engine(f"{recipe.source}: key `memorisation`")
    cache = table.cache or recipe.store.with_name(recipe.store.name + ".ngrams")
    end = tokenizer.eos_token_id
    what: list[object] = [_LAYOUT, version("infini-gram"), tokens, end]
    try:
        if table.documents is not None:
            what += [table.text, _file_digest(table.documents)]
        else:
            assert table.index is not None
            what += [table.eos_token_id, table.vocabulary, table.token_dtype, _outline(table.index)]
    except OSError as error:
        key = "documents" if table.documents is not None else "index"
        reason = error.strerror or line_of(error)
        raise InputError(
            f"key `memorisation.{key}`: {table.documents or table.index} cannot be read ({reason})"
        ) from None
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    return NgramSource(table, place, end, cache, digest)


@lru_cache(maxsize=2)
def _open(source: NgramSource) -> NgramIndex:
    table = source.table
    if table.index is not None:
        return NgramIndex(
            table.index,
            end=source.end,
            eos_token_id=table.eos_token_id,
            vocabulary=table.vocabulary,
            token_dtype=table.token_dtype,
            in_memory=table.in_memory,
        )
    folder = source.cache / source.digest[:32]
    # Who waits finds it built.
    with Lease(source.cache / "leases", source.digest[:32]).wait(poll=0.5):
        build_index(_token_documents(source), folder, note=str(table.documents))
    return NgramIndex(folder, end=source.end, in_memory=table.in_memory)


def _token_documents(source: NgramSource) -> Iterator[list[int]]:
    """The documents' tokens; one that spells the end of text is two documents."""
    from runs.inputs import load_tokenizer

    assert source.table.documents is not None
    texts = [d.text for d in read_documents(source.table.documents, text=source.table.text)]
    tokenizer = load_tokenizer(source.tokenizer)
    for start in range(0, len(texts), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        for ids in tokenizer(part, add_special_tokens=False)["input_ids"]:
            yield from _split(ids, source.end)


def _split(ids: Sequence[int], end: int | None) -> Iterator[list[int]]:
    piece: list[int] = []
    for token in ids:
        if token == end:
            yield piece
            piece = []
        else:
            piece.append(token)
    yield piece


def _file_digest(path: Path) -> str:
    if not path.is_file():
        raise InputError(
            f"key `memorisation.documents`: {path} is not a file; give .txt, .jsonl or .parquet"
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _outline(folder: Path) -> list[list[object]]:
    """Names and sizes of an index's files, and the beginnings of its tokens."""
    if not folder.is_dir():
        raise InputError(f"key `memorisation.index`: {folder} is not a folder")
    found: list[list[object]] = []
    for path in sorted(folder.glob("*.[0-9]*")):
        head = ""
        if path.name.startswith("tokenized."):
            with path.open("rb") as file:
                head = hashlib.sha256(file.read(_HEAD)).hexdigest()
        found.append([path.name, path.stat().st_size, head])
    return found
