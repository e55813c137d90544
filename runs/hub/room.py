"""Who uses what of a cache, and how much of the disk it takes: shared by every process on it."""

from __future__ import annotations

import errno
import shutil
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runs.hub.cache import drop_weights
from runs.hub.download import PARTIAL
from runs.hub.listing import HubFile, remember, remembered
from runs.leases import Lease, is_stale

_USE = "use "
_SPARE = 64_000_000  # bytes of a disk that are left free beside what is fetched
_SPARE_SHARE = 50  # but no more than one such part of a small disk
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)  # a cache that others fill
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class Use:
    """One process's claim on one commit: nobody evicts it while it is held."""

    name: str
    lease: Lease | None

    def release(self) -> None:
        """Give it up."""
        if self.lease is not None:
            self.lease.release()
            self.lease = None


@dataclass
class Room:
    """The place that checkpoints take in one cache.

    A list of files lies beside the cache for every commit that was fetched, from before its first byte
    until it is evicted: by it others know what is promised, and the next run what a killed one left.

    Attributes
    ----------
    root : Path
        The cache.
    repositories : frozenset of Path
        Folders in it that count.
    budget : float or None
        Bytes that they may take together, half-finished files included.
    """

    root: Path
    repositories: frozenset[Path]
    budget: float | None = None
    place: Path = field(init=False)

    def __post_init__(self) -> None:
        self.place = self.root / ".phasescope"

    def use(self, folder: Path, commit: str) -> Use:
        """Claim what is here already; nothing is claimed in a cache that cannot be written."""
        name = _name(folder, commit)
        try:
            with self._alone():
                return self._claim(name)
        except OSError as error:
            # On a full disk, too, what is here can be read, and nothing can be evicted.
            if error.errno in (*CLOSED, *_FULL):
                return Use(name, None)
            raise

    def admit(self, folder: Path, commit: str, files: Iterable[HubFile]) -> Use | None:
        """Claim room for files that are to be fetched; None if there is none now.

        Bytes on the disk and bytes that others have been promised count alike.
        """
        name, files = _name(folder, commit), tuple(files)
        with self._alone():
            used = {other: remembered(self.place, other) for other in self._used()} | {name: files}
            if self.budget is not None and self._taken(used) > self.budget:
                return None
            coming = sum(self._missing(used).values())
            disk = shutil.disk_usage(self.root)
            if coming and coming + min(_SPARE, disk.total // _SPARE_SHARE) > disk.free:
                return None
            remember(self.place, name, files)
            return self._claim(name)

    def is_idle(self) -> bool:
        """Whether nobody uses anything."""
        return not self._leases()

    def is_fetched(self, folder: Path, commit: str) -> bool:
        """Whether a commit was fetched by a run, in part at least, and not evicted."""
        return (self.place / f"{_name(folder, commit)}.files").is_file()

    def evict(self, folder: Path, commit: str, own: Use | None = None) -> int:
        """Remove the weights of a commit that nobody uses, `own` apart; returns bytes freed.

        Half-finished files go, too, and files that no snapshot leads to, as a kill may leave them.
        """
        name = _name(folder, commit)
        try:
            with self._alone():
                used = self._used(own)
                if name in used:
                    return 0
                spared = {file.digest for other in used for file in remembered(self.place, other)}
                weights = [f.digest for f in remembered(self.place, name) if f.is_weights]
                if folder.is_symlink() and not self.is_fetched(folder, commit):
                    return 0  # somebody else's
                freed = drop_weights(folder / "snapshots" / commit, spared, weights)
                for digest in set(weights) - spared:
                    partial = folder / "blobs" / f"{digest}{PARTIAL}"
                    freed += _size(partial)
                    partial.unlink(missing_ok=True)
                (self.place / f"{name}.files").unlink(missing_ok=True)
                return freed
        except OSError as error:
            if error.errno in (*CLOSED, *_FULL):
                return 0  # what was fetched is noted, and goes when there is room for a lease
            raise

    def tidy(self) -> int:
        """Remove what killed processes left half finished and nobody goes on with now; how many files."""
        removed = 0
        with self._alone():
            self._sweep()
            wanted = {f.digest for name in self._used() for f in remembered(self.place, name)}
            for folder in self.repositories:
                for partial in (folder / "blobs").glob(f"*{PARTIAL}"):
                    if partial.name.removesuffix(PARTIAL) not in wanted:
                        partial.unlink(missing_ok=True)
                        removed += 1
        return removed

    def sweep(self) -> None:
        """Remove the claims of the dead; what they fetched stays and is gone on from."""
        if not self.place.is_dir():
            return
        with suppress(OSError), self._alone():  # of a cache that others fill, or on a full disk
            self._sweep()

    def _sweep(self) -> None:
        for path in self.place.glob("*.lease"):
            if path.stem != "room" and is_stale(path):
                lease = Lease(self.place, path.stem)
                if lease.acquire():
                    lease.release()
        for path in self.place.iterdir():
            if path.suffix not in (".lease", ".files") and is_stale(path):
                path.unlink(missing_ok=True)

    def _alone(self) -> Lease:
        self.place.mkdir(parents=True, exist_ok=True)
        return Lease(self.place, "room").wait(poll=0.01)

    def _claim(self, name: str) -> Use:
        lease = Lease(self.place, f"{_USE}{name} {uuid.uuid4().hex}")
        lease.acquire()
        return Use(name, lease)

    def _leases(self) -> list[Path]:
        return [p for p in self.place.glob(f"{_USE}*.lease") if not is_stale(p)]

    def _used(self, own: Use | None = None) -> set[str]:
        mine = None if own is None or own.lease is None else own.lease.path
        held = (path for path in self._leases() if path != mine)
        return {path.stem.removeprefix(_USE).rsplit(" ", 1)[0] for path in held}

    def _missing(self, used: dict[str, tuple[HubFile, ...]]) -> dict[Path, int]:
        """Bytes still to come of each blob that is in use."""
        found = {}
        for name, files in used.items():
            folder = self.root / name.rsplit("@", 1)[0]
            for file in files:
                blob = folder / "blobs" / file.digest
                if not blob.exists():
                    found[blob] = file.size - _size(blob.with_name(blob.name + PARTIAL))
        return found

    def _taken(self, used: dict[str, tuple[HubFile, ...]]) -> int:
        """Bytes that the repositories take once all that is promised has come.

        Files in use count whole wherever they are on their way: they grow, and change their names, while
        one looks.
        """
        promised: dict[Path, int] = {}
        for name, files in used.items():
            blobs = self.root / name.rsplit("@", 1)[0] / "blobs"
            if blobs.parent in self.repositories:
                promised |= {blobs / file.digest: file.size for file in files}
        others = (
            entry
            for folder in self.repositories
            for entry in (folder / "blobs").glob("*")
            if entry.with_name(entry.name.removesuffix(PARTIAL)) not in promised
        )
        return sum(promised.values()) + sum(_size(entry) for entry in others)


def wait_a_little() -> None:
    """Between two looks for room that somebody else may make."""
    time.sleep(0.5)


def _name(folder: Path, commit: str) -> str:
    return f"{folder.name}@{commit}"


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.lstat().st_size
    return 0
