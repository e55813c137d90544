"""What a run shows while it works: bars in a terminal, one line a checkpoint anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


@dataclass(frozen=True)
class Event:
    """Something a progress display may show.

    Attributes
    ----------
    kind : str
        `start`, `advance`, `done` or `failed` of a checkpoint; `expect` and `fetch` of bytes to come and
        come; `notice`, a line for the user; `fatal`, the end of a process.
    checkpoint : str
    samples : int
        Samples read, or bytes.
    detail : str
    """

    kind: str
    checkpoint: str = ""
    samples: int = 0
    detail: str = ""


Report = Callable[[Event], None]


class CaptureProgress:
    """Turns events into bars, or into lines where no terminal is; use as a context manager.

    Parameters
    ----------
    checkpoints
        How many checkpoints lack a cell.
    samples
        Samples of one checkpoint, all sets together; 0 where nothing is captured, only fetched.
    console
        Where to draw.
    """

    def __init__(self, checkpoints: int, samples: int, console: Console) -> None:
        self.failed: list[tuple[str, str]] = []
        self._done = 0
        self._total = checkpoints
        self._samples = samples
        self._console = console
        self._seen = self._come = self._expected = 0
        self._begun = time.monotonic()
        self._live = console.is_terminal
        self._bar = _bar(console)
        self._fetch = self._bar.add_task("fetch", total=1, count="", visible=False)
        self._task = self._bar.add_task(
            "capture",
            total=max(checkpoints * samples, 1),
            count=self._count(),
            visible=samples > 0,
        )

    def __enter__(self) -> CaptureProgress:
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event.kind:
            case "start":
                if event.detail:
                    self._say(Text.assemble((event.checkpoint, "yellow"), f": {event.detail}"))
            case "notice":
                self._say(Text(event.detail, "yellow"))
            case "expect" | "fetch":
                self._bytes(event)
            case "advance":
                self._seen += event.samples
                self._bar.update(self._task, advance=event.samples)
            case _:
                self._end(event)

    def _end(self, event: Event) -> None:
        self._done += 1
        if event.kind == "failed":
            # A failed checkpoint leaves its samples unread: the bar follows checkpoints, not wishes.
            self._seen = max(self._seen, self._done * self._samples)
            self.failed.append((event.checkpoint, event.detail))
            self._say(Text.assemble(("failed", "red"), f" {event.checkpoint}: {event.detail}"))
        elif not self._live:
            what = "captured" if self._samples else "fetched"
            self._say(Text(f"{what} {event.checkpoint}, {self._done}/{self._total}"))
        self._bar.update(self._task, completed=self._seen, count=self._count())
        if not self._samples:
            self._bar.update(self._fetch, count=self._traffic())

    def _bytes(self, event: Event) -> None:
        if event.kind == "expect":
            if not self._expected:
                self._bar.reset(self._fetch)
                self._begun = time.monotonic()
            self._expected += event.samples
        else:
            self._come += event.samples
        self._bar.update(
            self._fetch,
            total=max(self._expected, 1),
            completed=self._come,
            count=self._traffic(),
            visible=True,
        )

    def _traffic(self) -> str:
        speed = self._come / max(time.monotonic() - self._begun, 1e-3)
        count = "" if self._samples else f"{self._count()}, "
        return f"{count}{in_bytes(self._come)}/{in_bytes(self._expected)} {in_bytes(speed)}/s"

    def _say(self, line: Text) -> None:
        self._bar.console.print(line, soft_wrap=True)

    def _count(self) -> str:
        return f"{self._done}/{self._total}"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console,
        expand=False,
    )


def simple_bar(console: Console) -> Progress:
    """A bar that counts whole things, with time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def in_bytes(size: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
