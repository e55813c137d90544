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


class Lease:
    """An exclusive claim on a name, held through a file created with O_EXCL.

    The file tells host, process, job and a token; its modification time is the heartbeat, renewed
    every 30 seconds by a thread. A lease is stale when its process is gone on this host, or after five
    minutes without a heartbeat.

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
        if not (self._create() or self._take_over()):
            return False
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._beat, daemon=True, name=f"lease {self.path.name}"
        )
        self._thread.start()
        return True

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
        draft.write_text(json.dumps(_identity() | {"token": self._token}))
        try:
            os.link(draft, self.path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _take_over(self) -> bool:
        if not is_stale(self.path):
            return False
        # One process at a time may replace a stale lease, or two would each remove the other's.
        guard = self.path.with_suffix(".takeover")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            if _age(guard) > STALE_AFTER:
                guard.unlink(missing_ok=True)
            return False
        try:
            if not is_stale(self.path):
                return False
            self.path.unlink(missing_ok=True)
            return self._create()
        finally:
            guard.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT):
            try:
                if self.held():
                    os.utime(self.path)
            except OSError:
                continue  # a slow file system: the next beat tries again


def sweep(folder: Path) -> None:
    """Remove what the dead left behind: stale leases that nobody needs to take over any more."""
    for path in folder.glob("*.lease"):
        name = path.stem.replace("%2F", "/").replace("%25", "%")
        lease = Lease(folder, name)
        if is_stale(path) and lease.acquire():
            lease.release()


def is_stale(path: Path) -> bool:
    """Whether a lease's holder is gone: its process on this host, or its heartbeat for 5 minutes.

    A lease that has vanished meanwhile is not stale but free.
    """
    content = _read(path)
    if content is None:
        return path.exists() and _age(path) > STALE_AFTER
    if content.get("host") == socket.gethostname():
        return not _alive(int(content.get("pid", -1)), float(content.get("born", 0.0)))
    return _age(path) > STALE_AFTER


def _identity() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "pid": process.pid,
        "born": process.create_time(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }


def _alive(pid: int, born: float) -> bool:
    try:
        process = psutil.Process(pid)
        # A recycled process number has another birthday; clocks drift by less than a second.
        return bool(
            abs(process.create_time() - born) < 1 and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.Error:
        return False


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
