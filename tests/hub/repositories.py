"""What a hub holds: repositories with branches, commits and files, named by git's and LFS's hashes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LARGE = (".safetensors", ".bin", ".parquet")  # kept beside git, served by the CDN
Content = bytes | str | Path
Files = Path | Mapping[str, Content]  # a folder, or names and what they hold


@dataclass(frozen=True)
class Blob:
    """One file's content, in memory or on disk, and its hashes; `sha256` is of large files only."""

    content: bytes | Path
    size: int
    oid: str
    sha256: str | None = None

    @classmethod
    def of(cls, name: str, content: Content, threshold: int) -> Blob:
        kept = content.encode() if isinstance(content, str) else content
        data = kept.read_bytes() if isinstance(kept, Path) else kept
        if not name.endswith(LARGE) and len(data) < threshold:
            return cls(kept, len(data), git_oid(data))
        digest = hashlib.sha256(data).hexdigest()
        return cls(kept, len(data), git_oid(pointer(digest, len(data))), digest)

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    def read(self, start: int, stop: int) -> bytes:
        if isinstance(self.content, bytes):
            return self.content[start:stop]
        with self.content.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def lfs(self, *, digest: str) -> dict[str, str | int] | None:
        """LFS's part of an entry; listings and infos call the hash differently."""
        if self.sha256 is None:
            return None
        small = len(pointer(self.sha256, self.size))
        return {digest: self.sha256, "size": self.size, "pointerSize": small}


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(digest: str, size: int) -> bytes:
    return f"version 1\noid sha256:{digest}\nsize {size}\n".encode()


@dataclass(frozen=True)
class Commit:
    """Files at one time."""

    oid: str
    files: Mapping[str, Blob]
    title: str

    def folders(self) -> set[str]:
        found: set[str] = set()
        for name in self.files:
            parts = name.split("/")[:-1]
            found |= {"/".join(parts[: i + 1]) for i in range(len(parts))}
        return found

    def under(self, path: str, *, recursive: bool) -> Iterator[tuple[str, Blob | None]]:
        """Folders (no blob) and files below a folder, in order of their names."""
        head = f"{path}/" if path else ""
        every = {**dict.fromkeys(self.folders()), **self.files}
        for name in sorted(every):
            if name.startswith(head) and (recursive or "/" not in name[len(head) :]):
                yield name, every[name]


@dataclass
class Repository:
    """Branches, tags, converts and pull requests, each a name of a commit; commits stay by their oid.

    `kind` is `model` or `dataset`. Private ones are there for bearers of a token only; of gated ones
    everyone sees the listing and only tokens in `granted` get files.
    """

    kind: str
    name: str
    threshold: int = 1 << 20
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    converts: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def commit(self, files: Files, revision: str = "main", *, add: bool = False) -> str:
        """Put a folder or a mapping on a branch (or `refs/convert/…`, `refs/pr/…`); returns the oid.

        With `add`, files that the revision has stay unless they are given anew.
        """
        given = files_of(files) if isinstance(files, Path) else dict(files)
        blobs = {n: Blob.of(n, c, self.threshold) for n, c in sorted(given.items())}
        with self._lock:
            if add:
                blobs = {**self.at(revision).files, **blobs}
            return self._record(blobs, revision, f"Upload {len(given)} files")

    def tag(self, name: str, revision: str = "main") -> None:
        self.tags[name] = self.at(revision).oid

    def move(self, branch: str, files: Files, *, keep: bool = True) -> str:
        """Move a branch to a new commit; with `keep` false the old one is gone, as after a squash."""
        with self._lock:
            old = self.at(branch).oid
            new = self.commit(files, branch)
            if not keep and old != new:
                del self.commits[old]
            return new

    def remove_revision(self, revision: str, *, keep: bool = False) -> None:
        """Delete a branch or tag, and its commit unless `keep`."""
        with self._lock:
            oid = self.at(revision).oid
            kinds = self._names(revision)
            del kinds[0][kinds[1]]
            if not keep:
                self.commits.pop(oid, None)

    def remove_file(self, name: str, revision: str = "main") -> str:
        """A new commit without a file."""
        with self._lock:
            left = {n: blob for n, blob in self.at(revision).files.items() if n != name}
            return self._record(left, revision, f"Delete {name}")

    def lose(self, name: str) -> None:
        """A file vanishes from every commit, though listings before had it."""
        with self._lock:
            for oid, commit in list(self.commits.items()):
                left = {n: blob for n, blob in commit.files.items() if n != name}
                self.commits[oid] = Commit(oid, left, commit.title)

    def at(self, revision: str) -> Commit:
        """The commit of a branch, a tag, a full ref or an oid; KeyError if there is none."""
        with self._lock:
            if revision in self.commits:
                return self.commits[revision]
            table, name = self._names(revision)
            return self.commits[table[name]]

    def blob(self, sha256: str) -> Blob | None:
        with self._lock:
            commits = list(self.commits.values())
        return next((b for c in commits for b in c.files.values() if b.sha256 == sha256), None)

    def _names(self, revision: str) -> tuple[dict[str, str], str]:
        tables = {
            "refs/convert/": self.converts,
            "refs/pr/": self.pulls,
            "refs/heads/": self.branches,
            "refs/tags/": self.tags,
        }
        for head, table in tables.items():
            if revision.startswith(head):
                return table, revision.removeprefix(head)
        is_tag = revision in self.tags and revision not in self.branches
        return (self.tags if is_tag else self.branches), revision

    def _record(self, blobs: Mapping[str, Blob], revision: str, title: str) -> str:
        table, name = self._names(revision)
        text = f"{self.kind} {self.name} {table.get(name)} {revision}\n"
        text += "".join(f"{n} {blob.etag}\n" for n, blob in blobs.items())
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = Commit(oid, dict(blobs), title)
        table[name] = oid
        return oid


def files_of(folder: Path) -> dict[str, Content]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file for file in files}
