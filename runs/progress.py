"""What a run shows while it works: one bar for the series, one line a finished checkpoint."""

from __future__ import annotations

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

from runs.claims import Event


class CaptureProgress:
    """Turns events into bars; use as a context manager.

    Parameters
    ----------
    checkpoints
        How many checkpoints lack a cell.
    samples
        Samples of one checkpoint, all sets together.
    console
        Where to draw.
    """

    def __init__(self, checkpoints: int, samples: int, console: Console) -> None:
        self.failed: list[tuple[str, str]] = []
        self._done = 0
        self._total = checkpoints
        self._samples = samples
        self._console = console
        self._seen = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task(
            "capture", total=max(checkpoints * samples, 1), count=self._count()
        )

    def __enter__(self) -> CaptureProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "start":
            if event.detail:
                said = Text.assemble((event.checkpoint, "yellow"), f": {event.detail}")
                self._bar.console.print(said)
            return
        if event.kind == "advance":
            self._seen += event.samples
            self._bar.update(self._task, advance=event.samples)
            return
        self._done += 1
        # A failed checkpoint leaves its samples unread: the bar follows checkpoints, not wishes.
        self._seen = (
            max(self._seen, self._done * self._samples) if event.kind == "failed" else self._seen
        )
        if event.kind == "failed":
            self.failed.append((event.checkpoint, event.detail))
            said = Text.assemble(("failed", "red"), f" {event.checkpoint}: {event.detail}")
            self._bar.console.print(said, soft_wrap=True)
        self._bar.update(self._task, completed=self._seen, count=self._count())

    def _count(self) -> str:
        return f"{self._done}/{self._total} checkpoints"


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
