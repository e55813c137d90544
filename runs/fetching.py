"""Bringing checkpoints to this disk before they are needed, and taking them away when they are done."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from runs import hub
from runs.checkpoints import Checkpoint
from runs.errors import InputError
from runs.published import published
from runs.recipe import SeriesTable

_GB = 1e9


@dataclass
class Fetcher:
    """The files of a series, as many at a time as the recipe allows.

    Attributes
    ----------
    table : SeriesTable
        `prefetch`: how many are fetched ahead; `keep`: what happens to those that are done;
        `disk_budget`: GB of their files on the disk at most.
    """

    table: SeriesTable
    _queue: dict[str, Future[Path]] = field(default_factory=dict)
    _done: list[Checkpoint] = field(default_factory=list)
    _pool: ThreadPoolExecutor | None = None

    def bring(self, checkpoint: Checkpoint) -> Path:
        """The folder of a checkpoint's files, fetched if they are not here.

        Raises
        ------
        CheckpointError
            If the hub does not have it.
        InputError
            If the hub is out of reach or the budget too small.
        """
        queued = self._queue.pop(checkpoint.label, None)
        if queued is not None:
            return queued.result()
        return here(checkpoint) or self._fetch(checkpoint)

    def ahead(self, upcoming: Iterable[Checkpoint]) -> None:
        """Begin to fetch the next ones in the background."""
        if not self.table.prefetch or self.table.kind in ("local", "gguf", "trained"):
            return
        for checkpoint in upcoming:
            if len(self._queue) >= self.table.prefetch:
                return
            if checkpoint.label not in self._queue and here(checkpoint) is None:
                self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="fetch")
                self._queue[checkpoint.label] = self._pool.submit(self._fetch, checkpoint)

    def finished(self, checkpoint: Checkpoint) -> None:
        """Say that a checkpoint's files are needed no more."""
        if self.table.keep == "none":
            hub.evict(checkpoint)
        else:
            self._done.append(checkpoint)

    def close(self) -> None:
        """Give up what is still on its way."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, checkpoint: Checkpoint) -> Path:
        self._make_room(checkpoint)
        return hub.fetch(checkpoint)

    def _make_room(self, checkpoint: Checkpoint) -> None:
        if self.table.disk_budget is None:
            return
        model = published(checkpoint.repository)
        size = 0 if model is None else model.bytes
        budget = self.table.disk_budget * _GB
        while self._held(checkpoint) + size > budget:
            if not self._done:
                raise InputError(
                    f"series.disk_budget: {self.table.disk_budget:g} GB are too few for one more "
                    f"checkpoint of {size / _GB:.1f} GB beside what is in use; raise it, or "
                    "lower series.prefetch"
                )
            hub.evict(self._done.pop(0))

    def _held(self, checkpoint: Checkpoint) -> int:
        """Bytes on the disk of this repository, and of others that are done with."""
        repositories = {c.repository for c in (*self._done, checkpoint)}
        return sum(hub.cache_bytes(repository, self.table.cache) for repository in repositories)


def here(checkpoint: Checkpoint) -> Path | None:
    """Where a checkpoint's files are on this disk, weights included; None if a hub has to give them."""
    found = hub.located(checkpoint)
    if not checkpoint.repository or found is None:
        return found
    patterns = ("*.safetensors", "*.bin")
    return found if any(next(found.glob(p), None) for p in patterns) else None
