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
from runs.leases import Lease, is_stale, sweep

_USE = "use "
_SPARE = 64_000_000  # bytes of a disk that are left free beside what is fetched


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
        except PermissionError:
            return Use(name, None)
        except OSError as error:
            if error.errno == errno.EROFS:
                return Use(name, None)
            raise

    def admit(self, folder: Path, commit: str, files: Iterable[HubFile]) -> Use | None:
        """Claim room for files that are to be fetched; None if there is none now.

        Bytes on the disk and bytes that others have been promised count alike.
        """
        name, files = _name(folder, commit), tuple(files)
        with self._alone():
            remember(self.place, name, files)
            names = {*self._used(), name}
            coming = sum(self._missing(names).values())
            if self.budget is not None and self._held() + coming > self.budget:
                return None
            if coming and coming + _SPARE > shutil.disk_usage(self.root).free:
                return None
            return self._claim(name)

    def is_idle(self) -> bool:
        """Whether nobody uses anything."""
        return not self._leases()

    def evict(self, folder: Path, commit: str, own: Use | None = None) -> int:
        """Remove the weights of a commit that nobody uses, `own` apart; returns bytes freed."""
        snapshot = folder / "snapshots" / commit
        if not snapshot.is_dir():
            return 0
        with suppress(PermissionError), self._alone():
            used = self._used(own)
            if _name(folder, commit) in used:
                return 0
            spared = {file.digest for name in used for file in remembered(self.place, name)}
            return drop_weights(snapshot, spared)
        return 0

    def tidy(self) -> int:
        """Remove what killed processes left half finished and nobody goes on with now; how many files."""
        removed = 0
        with self._alone():
            sweep(self.place)
            wanted = {f.digest for name in self._used() for f in remembered(self.place, name)}
            for folder in self.repositories:
                for partial in (folder / "blobs").glob(f"*{PARTIAL}"):
                    if partial.name.removesuffix(PARTIAL) not in wanted:
                        partial.unlink(missing_ok=True)
                        removed += 1
        return removed

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

    def _missing(self, names: Iterable[str]) -> dict[Path, int]:
        """Bytes still to come of each blob that is in use."""
        found = {}
        for name in names:
            folder = self.root / name.rsplit("@", 1)[0]
            for file in remembered(self.place, name):
                blob = folder / "blobs" / file.digest
                if not blob.exists():
                    found[blob] = file.size - _size(blob.with_name(blob.name + PARTIAL))
        return found

    def _held(self) -> int:
        blobs = (entry for f in self.repositories for entry in (f / "blobs").glob("*"))
        return sum(_size(blob) for blob in blobs)


def wait_a_little() -> None:
    """Between two looks for room that somebody else may make."""
    time.sleep(0.5)


def _name(folder: Path, commit: str) -> str:
    return f"{folder.name}@{commit}"


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.lstat().st_size
    return 0
