"""Rows of a Parquet file that stays on its hub: footers and pages are read by ranges."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow
import pyarrow.parquet as pq

from runs.errors import InputError, line_of
from runs.hub.client import Broken, Notice, ask, session
from runs.hub.parquet import some

_BATCH = 256  # rows
_BUFFER = 1 << 20  # bytes of a column that are read at a time: a first row wants no whole row group


class Source(Protocol):
    """A data set at a commit; as text it names both."""

    @property
    def dataset(self) -> str:
        """OWNER/NAME."""
        ...


@dataclass(frozen=True)
class Place:
    """A file of a commit, and its bytes."""

    commit: str
    path: str
    size: int


class _Remote(io.RawIOBase):
    """A file of a hub that is read by ranges."""

    def __init__(self, source: Source, place: Place, notice: Notice) -> None:
        from huggingface_hub import hf_hub_url

        self._about = f"{source.dataset} at {place.commit[:12]}: {place.path}"
        self._url = hf_hub_url(
            source.dataset, place.path, revision=place.commit, repo_type="dataset"
        )
        self._size, self._at, self._notice = place.size, 0, notice

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def seekable(self) -> bool:
        """By ranges."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        self._at = starts[whence] + offset
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, short of it only at the end."""
        size = min(len(buffer), self._size - self._at)
        if size > 0:
            buffer[:size] = ask(self._about, lambda: self._range(size), notice=self._notice)
            self._at += size
        return max(size, 0)

    def _range(self, size: int) -> bytes:
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        span = f"bytes={self._at}-{self._at + size - 1}"
        headers = build_hf_headers() | {"Range": span, "Accept-Encoding": "identity"}
        answer = session().get(self._url, headers=headers, follow_redirects=True)
        hf_raise_for_status(answer)
        content: bytes = answer.content
        if answer.status_code == 200:  # the server knows no ranges
            content = content[self._at : self._at + size]
        if len(content) != size:
            raise Broken(f"{len(content):,} of {size:,} bytes came")
        return content


class Reader:
    """Rows of one Parquet file, a row group at a time; opened when first asked."""

    def __init__(
        self, source: Source, place: Place, names: tuple[str, ...], notice: Notice
    ) -> None:
        self.name = place.path
        self._source, self._place, self._names, self._notice = source, place, names, notice
        self._file: pq.ParquetFile | None = None

    @property
    def groups(self) -> int:
        """Row groups of the file."""
        return int(self._open().num_row_groups)

    def size(self, group: int) -> int:
        """Rows of a group."""
        return int(self._open().metadata.row_group(group).num_rows)

    def rows(self, group: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """The wanted columns of a group's rows, and where each is; read as far as they are taken."""
        number = 0
        batches = self._open().iter_batches(_BATCH, row_groups=[group], columns=list(self._names))
        while True:
            with self._readable():
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            if batch is None:
                return
            for row in rows:
                yield f"{self.name}, row group {group}, row {number}", row
                number += 1

    def _open(self) -> pq.ParquetFile:
        if self._file is not None:
            return self._file
        with self._readable():
            remote = _Remote(self._source, self._place, self._notice)
            file = pq.ParquetFile(
                remote, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            )
            there = file.schema_arrow.names
        for name in self._names:
            if name not in there:
                raise InputError(
                    f"{self._source.dataset}: {self.name} has no column `{name}`; set `column` (or "
                    f"`labels`, `group`, `answer`) to one of {some(there)}"
                )
        self._file = file
        return file

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (pyarrow.lib.ArrowException, OSError, UnicodeDecodeError) as error:
            if getattr(error, "errno", None) in (errno.EMFILE, errno.ENOMEM):
                raise
            raise InputError(
                f"{self._source}: {self.name} is no Parquet file that can be read ({line_of(error)}); "
                "set `revision` or `dataset` to another, or give `path`"
            ) from None
