"""Bringing checkpoints to this disk before they are needed, and taking them away when they are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from runs.checkpoints import Checkpoint
from runs.errors import BytesError, GoneError, HubError, InputError
from runs.hub.cache import (
    cache_root,
    discard,
    folder_of,
    here,
    located,
    name_revision,
    repository_folder,
)
from runs.hub.client import Stopped
from runs.hub.download import download, is_whole
from runs.hub.listing import HubFile, commit_at, files_at, needed
from runs.hub.room import CLOSED, Room, Use, wait_a_little
from runs.progress import Event, Report
from runs.recipe import SeriesTable

_GB = 1e9
_TOLD_EVERY = 0.2  # seconds between two reports of bytes


class NoRoomError(HubError):
    """The disk is full or cannot be written: what is on it can still be done."""


@dataclass
class _Ahead:
    """One fetch in the background."""

    checkpoint: Checkpoint
    future: Future[Path]
    stop: threading.Event


@dataclass
class Fetcher:
    """The files of a series, as many at a time as the recipe allows.

    Attributes
    ----------
    table : SeriesTable
        `prefetch`: how many are fetched ahead, side by side; `keep`: what happens to those that are
        done; `disk_budget`: GB of their files on the disk at most, half-finished ones included.
    checkpoints : sequence of Checkpoint
        The series.
    report
        Receives events of bytes and waits.
    is_needed
        Whether a checkpoint is still to be captured; asked again just before it is fetched.
    """

    table: SeriesTable
    checkpoints: Iterable[Checkpoint]
    report: Report = lambda _: None
    is_needed: Callable[[Checkpoint], bool] = lambda _: True
    room: Room = field(init=False)
    _queue: dict[str, _Ahead] = field(default_factory=dict)
    _uses: dict[str, Use] = field(default_factory=dict)
    _pool: ThreadPoolExecutor | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _awaited: str = ""  # label of the checkpoint that the run waits for

    def __post_init__(self) -> None:
        self.checkpoints = [c for c in self.checkpoints if c.repository]
        folders = {repository_folder(c.repository, self.table.cache) for c in self.checkpoints}
        budget = None if self.table.disk_budget is None else self.table.disk_budget * _GB
        self.room = Room(cache_root(self.table.cache), frozenset(folders), budget)
        self._meter = _Meter(self.report)
        if self.checkpoints:
            self.room.sweep()

    def bring(self, checkpoint: Checkpoint) -> Path:
        """The folder of a checkpoint's files, fetched if they are not here; held until `finished`.

        Raises
        ------
        CheckpointError
            If the hub does not have it, or gives other bytes than it publishes.
        HubError
            If the hub is out of reach or does not serve, or the disk is full.
        InputError
            If the budget is too small.
        """
        if not checkpoint.repository:
            return checkpoint.path
        self._awaited = checkpoint.label
        try:
            queued = self._queue.pop(checkpoint.label, None)
            if queued is not None:
                try:
                    return queued.future.result()
                except (Stopped, HubError):
                    pass  # that was a while ago: asked again, now that it is needed
            return self._fetch(checkpoint, self._stop)
        finally:
            self._awaited = ""

    def again(self, checkpoint: Checkpoint, error: BytesError) -> Path:
        """Fetch once more what turned out not to be the hub's bytes."""
        self.report(Event("notice", checkpoint.label, detail=f"{error}; fetching it once more"))
        self._awaited = checkpoint.label
        try:
            found = self._fetch(checkpoint, self._stop, lacks=True)
        finally:
            self._awaited = ""
        if not is_whole(error.path):
            discard(error.path)  # none of those that are fetched
        return found

    def ahead(self, upcoming: Iterable[Checkpoint]) -> None:
        """Begin to fetch the next ones in the background, and give up those that are not wanted now."""
        if not self.table.prefetch or not self.checkpoints:
            return
        # The first one is waited for; so many more beside it.
        wanted = list(islice(upcoming, 1 + self.table.prefetch))
        self._forget({c.label for c in wanted})
        for checkpoint in wanted:
            if checkpoint.label not in self._queue and here(checkpoint) is None:
                self._pool = self._pool or ThreadPoolExecutor(
                    1 + self.table.prefetch, thread_name_prefix="fetch"
                )
                stop = threading.Event()
                future = self._pool.submit(self._fetch, checkpoint, stop)
                self._queue[checkpoint.label] = _Ahead(checkpoint, future, stop)

    def finished(self, checkpoint: Checkpoint) -> None:
        """Say that a checkpoint's files are needed no more."""
        use = self._uses.pop(checkpoint.label, None)
        if checkpoint.repository and self.table.keep == "none":
            self._evict(checkpoint, use)
        if use is not None:
            use.release()

    def close(self) -> None:
        """Give up what is still on its way; what is half finished stays and is gone on from."""
        self._stop.set()
        for queued in list(self._queue.values()):
            queued.stop.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for use in list(self._uses.values()):  # fetches that end now take theirs out
            use.release()
        self._uses.clear()
        if self.table.keep == "none":
            self._clear()

    def _clear(self) -> None:
        """Remove what a killed process had fetched and, killed, could not take away again."""
        for checkpoint in self.checkpoints:
            commit = _commit(checkpoint)
            if (
                commit
                and self.room.is_fetched(folder_of(checkpoint), commit)
                and not self.is_needed(checkpoint)
            ):
                self.room.evict(folder_of(checkpoint), commit)

    def _fetch(self, checkpoint: Checkpoint, stop: threading.Event, *, lacks: bool = False) -> Path:
        """As `bring`; with `lacks`, a file may be missing of what seems to be here."""
        try:
            return self._brought(checkpoint, stop, lacks)
        except OSError as error:
            raise _unwritable(Path(error.filename or folder_of(checkpoint)), error) from None

    def _brought(self, checkpoint: Checkpoint, stop: threading.Event, lacks: bool) -> Path:
        folder = folder_of(checkpoint)
        about = f"{checkpoint.repository} at {checkpoint.revision}"
        found = None if lacks else here(checkpoint)
        if found is not None:
            use = self.room.use(folder, found.name)
            if here(checkpoint) is not None:  # nobody took it away meanwhile
                self._hold(checkpoint, use)
                return found
            use.release()
        commit = checkpoint.commit or commit_at(
            checkpoint.repository, checkpoint.revision, notice=self._notice, stop=stop
        )
        files = needed(files_at(checkpoint.repository, commit, notice=self._notice, stop=stop))
        if not any(file.is_weights for file in files):
            raise GoneError(f"{about}: the hub has no weights of it")
        use = self._admitted(checkpoint, commit, files, stop)
        try:
            if not self.is_needed(checkpoint):
                raise Stopped(f"{about}: captured meanwhile")
            return self._all(checkpoint, commit, files, stop)
        except BaseException:
            self._release(checkpoint, use)
            raise

    def _all(
        self,
        checkpoint: Checkpoint,
        commit: str,
        files: tuple[HubFile, ...],
        stop: threading.Event,
    ) -> Path:
        folder = folder_of(checkpoint)
        self._meter.expect(checkpoint.label, sum(file.size for file in files))
        try:
            for file in files:
                download(
                    file,
                    checkpoint.repository,
                    commit,
                    folder,
                    self.room.place,
                    notice=self._notice,
                    advance=lambda n: self._meter.add(checkpoint.label, n),
                    stop=stop,
                )
        finally:
            self._meter.done(checkpoint.label)
        name_revision(folder, checkpoint.revision, commit)
        return folder / "snapshots" / commit

    def _admitted(
        self,
        checkpoint: Checkpoint,
        commit: str,
        files: tuple[HubFile, ...],
        stop: threading.Event,
    ) -> Use:
        """A claim on room for a checkpoint, once there is some."""
        folder, told = folder_of(checkpoint), False
        size = sum(file.size for file in files)
        while not (stop.is_set() or self._stop.is_set()):
            awaited = checkpoint.label == self._awaited
            if awaited or self._is_next(checkpoint):
                idle = self.room.is_idle()
                use = self.room.admit(folder, commit, files)
                if use is not None:
                    self._hold(checkpoint, use)
                    return use
                if self._make_room(checkpoint, awaited):
                    continue
                if awaited and idle and self.room.is_idle():
                    raise self._too_small(folder, size)
                if not told:
                    self._notice(f"{checkpoint.label}: waiting for room on the disk")
                    told = True
            wait_a_little()
        raise Stopped(f"{checkpoint.label}: not needed any more")

    def _is_next(self, checkpoint: Checkpoint) -> bool:
        """Whether room goes to a checkpoint of the queue now: in its order, after what is waited for."""
        if self._awaited and self._awaited not in self._uses:
            return False
        waiting = (label for label in list(self._queue) if label not in self._uses)
        return next(waiting, checkpoint.label) == checkpoint.label

    def _too_small(self, folder: Path, size: int) -> InputError:
        budget = self.table.disk_budget
        if budget is None:
            return NoRoomError(
                f"{folder}: the disk is full: {size / _GB:.3g} GB are wanted; free space and run again, "
                "it goes on where it was"
            )
        return InputError(
            f"series.disk_budget: {budget:g} GB are too few for one more checkpoint of "
            f"{size / _GB:.3g} GB beside what is in use; raise it, or lower series.prefetch"
        )

    def _make_room(self, wanted: Checkpoint, awaited: bool) -> bool:
        """Remove one checkpoint that is done with, or was fetched too early; whether that helped."""
        if self.table.disk_budget is None and self.table.keep == "all":
            return False
        for other in self.checkpoints:
            if other.label in self._uses or other.label == wanted.label:
                continue
            # Half a checkpoint is one to be evicted, too.
            there = _commit(other) and (
                here(other) is not None or self.room.is_fetched(folder_of(other), _commit(other))
            )
            if there and not self.is_needed(other) and self._evict(other):
                return True
        if self.room.tidy():
            return True
        early = [q for q in self._queue.values() if q.future.done()] if awaited else []
        if not early or early[-1].checkpoint.label == wanted.label:
            return False
        del self._queue[early[-1].checkpoint.label]
        if (use := self._uses.pop(early[-1].checkpoint.label, None)) is not None:
            use.release()
        return bool(self._evict(early[-1].checkpoint))

    def _hold(self, checkpoint: Checkpoint, use: Use) -> None:
        before = self._uses.pop(checkpoint.label, None)
        self._uses[checkpoint.label] = use
        if before is not None:
            before.release()

    def _release(self, checkpoint: Checkpoint, use: Use) -> None:
        """Give up one's own claim; a checkpoint given up and wanted again has another by now."""
        if self._uses.get(checkpoint.label) is use:
            del self._uses[checkpoint.label]
        use.release()

    def _evict(self, checkpoint: Checkpoint, own: Use | None = None) -> int:
        commit = _commit(checkpoint)
        return self.room.evict(folder_of(checkpoint), commit, own) if commit else 0

    def _forget(self, wanted: set[str]) -> None:
        """Stop fetching what is not wanted any more, such as what another process captured."""
        for label in [label for label in self._queue if label not in wanted]:
            queued = self._queue.pop(label)
            queued.stop.set()
            queued.future.cancel()
            queued.future.add_done_callback(
                partial(self._given_up, queued.checkpoint, self._uses.get(label))
            )

    def _given_up(self, checkpoint: Checkpoint, use: Use | None, _: Future[Path]) -> None:
        if checkpoint.label in self._queue:
            return  # wanted again
        if self.is_needed(checkpoint):  # another process has it in hand and may need the files
            if use is not None:
                self._release(checkpoint, use)
            return
        self.finished(checkpoint)

    def _notice(self, line: str) -> None:
        self.report(Event("notice", detail=line))


class _Meter:
    """Bytes of all fetches together, told a few times a second."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._pending, self._told = 0, 0.0
        self._mine: dict[str, list[int]] = {}  # expected and come

    def expect(self, label: str, size: int) -> None:
        self._mine[label] = [size, 0]
        self._report(Event("expect", label, size))

    def add(self, label: str, size: int) -> None:
        with self._lock:
            self._mine[label][1] += size
            self._pending += size
            now = time.monotonic()
            if now - self._told < _TOLD_EVERY:
                return
            told, self._pending, self._told = self._pending, 0, now
        self._report(Event("fetch", label, told))

    def done(self, label: str) -> None:
        """What did not come after all is not expected any more."""
        with self._lock:
            told, self._pending = self._pending, 0
            expected, come = self._mine.pop(label)
        self._report(Event("fetch", label, told))
        if expected != come:
            self._report(Event("expect", label, come - expected))


def _commit(checkpoint: Checkpoint) -> str:
    """The commit of a checkpoint, as far as this disk knows it."""
    if checkpoint.commit:
        return checkpoint.commit
    found = located(checkpoint)
    return "" if found is None else found.name


def _unwritable(folder: Path, error: OSError) -> NoRoomError:
    if error.errno in CLOSED:
        return NoRoomError(
            f"{folder}: cannot be written ({error.strerror}), and not all that is wanted is in it; set "
            "series.cache to a folder of yours"
        )
    return NoRoomError(
        f"{folder}: the disk is full or cannot be written ({error.strerror}); free space and run "
        "again, it goes on where it was"
    )
