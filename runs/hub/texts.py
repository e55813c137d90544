"""Texts of a hub's data set: Parquet read row group by row group, a fixed sample of one commit, kept."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from runs.documents import Document, read_documents, to_document
from runs.errors import GoneError, HubError, InputError, line_of
from runs.hub.client import Notice
from runs.hub.listing import commit_at, files_at, revisions_of
from runs.hub.parquet import NoParquet, chosen_files, read_card
from runs.hub.remote import Place, Reader

_EACH = 128  # rows of a row group in the first round, so that a sample is spread over the whole set
_CONVERTED = "refs/convert/parquet"  # where hubs put Parquet made from other formats
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WHOLE = b"phasescope.whole"


@dataclass(frozen=True)
class TextSource:
    """One split of one configuration of a data set, at one commit.

    Attributes
    ----------
    dataset, config, split, commit : str
    text : str
        Column of the text.
    columns : tuple of str
        Further columns.
    seed : int or None
        Of the order; None is the order of the files.
    """

    dataset: str
    config: str
    split: str
    commit: str
    text: str
    columns: tuple[str, ...]
    seed: int | None

    @property
    def digest(self) -> str:
        """Names the sample."""
        told = json.dumps([str(v) for v in vars(self).values()])
        return hashlib.sha256(told.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.dataset} at {self.commit[:12]}"


@dataclass
class Sample:
    """The documents of a source in the order of its seed, as many as somebody takes.

    What is taken is kept on this disk (`keep`), and read from there the next time.

    Attributes
    ----------
    source : TextSource
    folder : Path
        Where samples are kept.
    notice
        Told of waits.
    key : str
        Of the recipe, such as `inputs.NAME`; begins the lines of errors.
    """

    source: TextSource
    folder: Path
    notice: Notice = lambda _: None
    key: str = ""
    _taken: list[Document] = field(default_factory=list)
    _read: bool = False
    _whole: bool = False  # whether there is nothing beyond what was taken

    @property
    def path(self) -> Path:
        """Where the sample is kept."""
        name = self.source.dataset.replace("/", "--")
        return self.folder / f"{name}-{self.source.digest[:16]}.parquet"

    def __iter__(self) -> Iterator[Document]:
        self._taken, self._whole = self._kept()
        yield from list(self._taken)
        if self._whole:
            return
        kept = len(self._taken)
        with about(self.key):
            for number, document in enumerate(self._documents()):
                if number >= kept:
                    self._read = True
                    self._taken.append(document)
                    yield document
        self._read = self._whole = True

    def keep(self) -> None:
        """Write what was taken; nothing if nothing new was read.

        Whatever is kept begins as the whole does, so processes that keep samples of different length
        at one time leave one of them, and the longer one where the other is seen.
        """
        if not self._read or len(self._kept()[0]) > len(self._taken):
            return
        rows = {n: [document.columns[n] for document in self._taken] for n in self.source.columns}
        rows[self.source.text] = [document.text for document in self._taken]
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.draft")
        try:
            table = pyarrow.table(rows)
            table = table.replace_schema_metadata({_WHOLE: b"yes"} if self._whole else None)
            self.folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, draft)
            draft.replace(self.path)
        except (OSError, pyarrow.lib.ArrowException) as error:
            # In a cache that others fill, or on a full disk: the store keeps what it needs of it.
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or line_of(error)
            self.notice(f"{self.folder}: the sample of {self.source} is not kept ({reason})")
        self._read = False

    def _kept(self) -> tuple[list[Document], bool]:
        """What is kept, and whether it is all that there is; nothing if it is damaged."""
        if not self.path.is_file():
            return [], False
        try:
            whole = _WHOLE in (pq.read_schema(self.path).metadata or {})
            columns = self.source.columns
            return read_documents(self.path, text=self.source.text, columns=columns), whole
        except (InputError, OSError, pyarrow.lib.ArrowException):
            return [], False

    def _documents(self) -> Iterator[Document]:
        place = Path(f"{self.source.dataset}/{self.source.config}/{self.source.split}")
        names = (self.source.text, *self.source.columns)
        for where, row in self._rows(tuple(dict.fromkeys(names))):
            document = to_document(place, row, where, self.source.text, self.source.columns)
            if document.text.strip():
                yield document

    def _rows(self, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rows in order; with a seed, in turns over the files, some rows of a row group each.

        The first turn takes one row group of each file, the second another, and so on; what is left of
        the row groups comes last. Files are opened when their turn comes: a data set may have thousands.
        """
        seed = self.source.seed
        files = parquet_files(self.source, self.notice)
        readers = [Reader(self.source, file, names, self.notice) for file in files]
        if seed is None:
            for reader in readers:
                for group in range(reader.groups):
                    yield from reader.rows(group)
            return
        random.Random(f"{seed} files").shuffle(readers)
        rest: list[tuple[Reader, int]] = []
        turn, open_ = 0, readers
        while open_ := [r for r in open_ if turn == 0 or turn < r.groups]:
            for reader in open_:
                if turn < reader.groups:
                    group = _order(f"{seed} {reader.name}", reader.groups)[turn]
                    order = _order(f"{seed} {reader.name} {group}", reader.size(group))
                    rows = list(reader.rows(group))
                    yield from (rows[i] for i in order[:_EACH])
                    if len(order) > _EACH:
                        rest.append((reader, group))
            turn += 1
        for reader, group in rest:
            order = _order(f"{seed} {reader.name} {group}", reader.size(group))
            rows = list(reader.rows(group))
            yield from (rows[i] for i in order[_EACH:])


def _order(seed: str, count: int) -> list[int]:
    found = list(range(count))
    random.Random(seed).shuffle(found)
    return found


@contextmanager
def about(key: str) -> Iterator[None]:
    """Name a key of the recipe in front of what is wrong with the texts it names."""
    try:
        yield
    except GoneError as error:
        line = f"{error}; mend `dataset` or `revision`"
        raise InputError(f"key `{key}`: {line}" if key else line) from None
    except HubError as error:
        raise HubError(f"key `{key}.dataset`: {error}" if key else str(error)) from None
    except InputError as error:
        raise type(error)(f"key `{key}`: {error}" if key else str(error)) from None


def text_source(
    dataset: str,
    folder: Path,
    *,
    config: str | None,
    split: str,
    revision: str,
    text: str,
    columns: Sequence[str],
    seed: int | None,
    commit: str = "",
    notice: Notice = lambda _: None,
) -> TextSource:
    """A source pinned to a commit: the one that is given, else what the revision stands for now.

    Where the revision has no Parquet, it is the commit of the hub's conversion. Out of reach of the hub,
    it is what was found when it was last asked; `folder` keeps that beside the samples.
    """

    def at(commit: str) -> TextSource:
        return TextSource(dataset, config or "", split, commit, text, tuple(columns), seed)

    if commit:
        return at(commit)
    last = folder / f"{dataset.replace('/', '--')}@{revision.replace('/', '%2F')}.commit"
    asked, read = _last(last)
    try:
        now = revision
        if not _COMMIT.fullmatch(revision):
            now = commit_at(dataset, revision, kind="dataset", notice=notice)
        if now == asked:
            return at(read)
        found = _with_parquet(at(now), revision, notice)
    except HubError:
        if not read:
            raise
        return at(read)
    with suppress(OSError):  # a cache that others fill, or a full disk
        folder.mkdir(parents=True, exist_ok=True)
        draft = last.with_name(f"{last.name}.{os.getpid()}.draft")
        draft.write_text(f"{now} {found}")
        draft.replace(last)
    return at(found)


def _last(path: Path) -> tuple[str, str]:
    """The commit that a revision stood for when it was last asked for, and the one that was read."""
    try:
        words = path.read_text().split()
    except (OSError, ValueError):
        return "", ""
    return (words[0], words[-1]) if words and all(map(_COMMIT.fullmatch, words)) else ("", "")


def _with_parquet(source: TextSource, revision: str, notice: Notice) -> str:
    """The commit to read: the source's own if it has Parquet files, else the hub's conversion of it."""
    try:
        _chosen(source, notice)
    except NoParquet:
        if revision != "main":  # what is converted is the main branch as it is now
            raise _no_parquet(source) from None
        return _converted(source, notice)
    return source.commit


def parquet_files(source: TextSource, notice: Notice = lambda _: None) -> list[Place]:
    """The Parquet files of a source, in order.

    Raises
    ------
    InputError
        If it has none, or no such configuration or split; the line lists what there is.
    """
    try:
        return _chosen(source, notice)
    except NoParquet:
        raise _no_parquet(source) from None


def _chosen(source: TextSource, notice: Notice) -> list[Place]:
    from huggingface_hub import hf_hub_url

    listed = files_at(source.dataset, source.commit, kind="dataset", notice=notice)
    sizes, card = {f.path: f.size for f in listed}, ""
    if "README.md" in sizes:
        url = hf_hub_url(source.dataset, "README.md", revision=source.commit, repo_type="dataset")
        card = read_card(f"{source}: README.md", url, notice)
    names = chosen_files(
        source.dataset, list(sizes), card, config=source.config, split=source.split
    )
    return [Place(source.commit, name, sizes[name]) for name in names]


def _no_parquet(source: TextSource) -> InputError:
    return InputError(
        f"{source}: has no Parquet files, and the hub has made none of it; set `dataset` or `revision` "
        "to one that has, or download it and give `path`"
    )


def _converted(source: TextSource, notice: Notice) -> str:
    """The commit of the hub's conversion to Parquet; not every list of revisions has it."""
    listed = revisions_of(source.dataset, kind="dataset", notice=notice)
    if _CONVERTED in listed:
        return listed[_CONVERTED]
    try:
        return commit_at(source.dataset, _CONVERTED, kind="dataset", notice=notice)
    except GoneError:
        raise _no_parquet(source) from None
