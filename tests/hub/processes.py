"""Runs in processes of their own, and an eye on the cache meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.hub.doors import Door
from tests.hub.fixtures import environment

_ROOT = Path(__file__).parents[2]


def start(door: Door, *words: object, home: Path | None = None) -> subprocess.Popen[str]:
    """The command line in a process, and in a group, of its own."""
    more = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT), "PHASESCOPE_HUB_TRIES": "2"}
    return subprocess.Popen(
        [sys.executable, "-c", "from runs.cli import main; main()", *map(str, words)],
        env=environment(door.hub, home or door.cache.parent, **more),
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a run that is to end well; what it said."""
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert "Traceback" not in err
    return out


def kill(process: subprocess.Popen[str]) -> bool:
    """Whether the blow fell into work: a run that ended before it must have ended well."""
    if process.poll() is not None:
        finish(process)
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@dataclass
class Watched:
    """The most that a cache ever held; a context manager."""

    cache: Path
    most: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            self.most = max(self.most, bytes_of(self.cache))
            time.sleep(0.002)


def bytes_of(cache: Path) -> int:
    """Bytes of all blobs, half-finished ones included."""
    total = 0
    for folder in cache.glob("models--*/blobs"):
        for entry in os.scandir(folder):
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total
