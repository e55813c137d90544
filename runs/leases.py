"""Leases: who is working on what, in files that outlive their process."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

STALE_AFTER = 300.0
_HEARTBEAT = 30.0
_CLOCK_VALID = 60.0
_clocks: dict[Path, tuple[float, float]] = {}  # folder: its clock less ours, and when that was seen


class Lease:
    """An exclusive claim on a name, held through a file created with O_EXCL.

    The file tells host, process, job and a token; its modification time is the heartbeat, renewed
    every 30 seconds by a thread. A lease is stale when its process is gone on this host, or after five
    minutes without a heartbeat, by the clock of the file system. Two leases of one process exclude
    each other as those of two processes do.

    Parameters
    ----------
    folder
        Where leases lie; made if missing.
    name
        What is claimed; any text.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name.replace('%', '%25').replace('/', '%2F')}.lease"
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> bool:
        """Take the lease if it is free or stale; False if somebody lives on it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Most leases one meets are somebody's: a look costs less than a file written in vain.
        if not (self._take_over() if self.path.exists() else self._create()):
            return False
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._beat, daemon=True, name=f"lease {self.path.name}"
        )
        self._thread.start()
        return True

    def is_taken(self) -> bool:
        """Whether somebody lives on it."""
        return self.path.exists() and not is_stale(self.path)

    def held(self) -> bool:
        """Whether the file still carries our token: ask before a claim is turned into a result."""
        content = _read(self.path)
        return content is not None and content.get("token") == self._token

    def release(self) -> None:
        """Give the lease up; nothing happens if it was taken over."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self.held():
            self.path.unlink(missing_ok=True)

    def wait(self, *, poll: float = 0.05) -> Lease:
        """Acquire, waiting for others to finish."""
        while not self.acquire():
            time.sleep(poll)
        return self

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _create(self) -> bool:
        # Written under another name and linked, so that a lease is never seen half written.
        draft = self.path.with_suffix(f".{self._token}")
        try:
            draft.write_text(self._claim())
            os.link(draft, self.path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _take_over(self) -> bool:
        if not is_stale(self.path):
            return False
        # One process at a time may replace a stale lease, or two would each remove the other's.
        guard = self.path.with_suffix(".takeover")
        try:
            guarding = os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if is_stale(guard):
                guard.unlink(missing_ok=True)
            return False
        os.write(guarding, self._claim().encode())
        os.close(guarding)
        try:
            if not is_stale(self.path):
                return False
            self.path.unlink(missing_ok=True)
            return self._create()
        finally:
            guard.unlink(missing_ok=True)

    def _claim(self) -> str:
        return json.dumps(_identity() | {"token": self._token})

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT):
            try:
                if self.held():
                    os.utime(self.path)
            except OSError:
                continue  # a slow file system: the next beat tries again


def sweep(folder: Path) -> None:
    """Remove what the dead left behind: stale leases, and files of leases they never got."""
    for path in folder.glob("*.lease"):
        name = path.stem.replace("%2F", "/").replace("%25", "%")
        lease = Lease(folder, name)
        if is_stale(path) and lease.acquire():
            lease.release()
    for path in folder.glob("*"):
        if path.suffix != ".lease" and is_stale(path):
            path.unlink(missing_ok=True)


def folder_clock(folder: Path, *, fresh: bool = False) -> float:
    """The time by which a file system dates its files.

    A file server's clock may be minutes from this machine's, so ages are told by the date it gives to
    a file touched now. It is asked once a minute, or at once if `fresh`.

    Parameters
    ----------
    folder
        Any folder of the file system that may be written.
    fresh
        Ask now.

    Returns
    -------
    float
        Seconds, comparable with modification times in the folder.
    """
    now = time.monotonic()
    offset, seen = _clocks.get(folder, (0.0, -_CLOCK_VALID))
    if fresh or now - seen >= _CLOCK_VALID:
        probe = folder / f"{uuid.uuid4().hex}.clock"
        probe.touch()
        os.utime(probe)  # as the heartbeat does
        offset = probe.stat().st_mtime - now
        probe.unlink(missing_ok=True)
        _clocks[folder] = (offset, now)
    return now + offset


def is_stale(path: Path) -> bool:
    """Whether a lease's holder is gone: its process on this host, or its heartbeat for 5 minutes.

    So also of what a claim goes through on its way, its draft and a takeover's guard: whoever made
    them is named in them. One that has vanished meanwhile is not stale but free.
    """
    content = _read(path)
    here = content is not None and (
        content.get("host") == socket.gethostname()
        and content.get("namespace", _namespace()) == _namespace()
        and content.get("boot", "") == _boot()
    )
    if content is None or not here:
        return _silent(path)
    return not _alive(int(content.get("pid", -1)), float(content.get("born", 0.0)))


def _identity() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "namespace": _namespace(),
        "boot": _boot(),
        "pid": process.pid,
        "born": _birth(process),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }


def _namespace() -> int:
    """Which process numbers are ours: containers on one host may share its name and not these."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not Linux
        return 0


def _boot() -> str:
    """Which start of the machine this is: process numbers begin anew with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return ""


def _birth(process: psutil.Process) -> float:
    """Seconds from the machine's start to the process's: no setting of the clock moves it."""
    return float(process.create_time() - psutil.boot_time())


def _alive(pid: int, born: float) -> bool:
    try:
        process = psutil.Process(pid)
        # A recycled process number has another birthday. Twice, lest the clock is set in between.
        ours = any(abs(_birth(process) - born) < 1 for _ in range(2))
        return ours and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _silent(path: Path) -> bool:
    """Whether a file was not touched for 5 minutes; one that has vanished is not silent."""
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return False
    # Asked again before a verdict: the clock may have been set since it was last seen.
    return all(
        folder_clock(path.parent, fresh=fresh) - touched > STALE_AFTER for fresh in (False, True)
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
