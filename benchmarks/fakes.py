"""Workers without models for benchmarks/scale.py: only loading and capture are fake."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import runs.leases
from runs.architectures import ModelShape
from runs.claims import Worker
from runs.errors import CheckpointError
from runs.inputs import FOLDS, InputSet
from runs.jobs import prepare
from runs.leases import Lease
from runs.plan import Plan
from runs.points import choose_points
from runs.products.base import Arrays, Spec
from runs.recipe import Recipe
from runs.series import Checkpoint, Series
from runs.starting import Pinned
from runs.tables import CaptureTable
from runs.writing import StoreWriter

SHAPE = ModelShape("GPTNeoXForCausalLM", blocks=2, width=8, heads=2, vocabulary=64)


@dataclass(frozen=True)
class Troubles:
    """What goes wrong: shares of checkpoints, and seconds."""

    capture: float = 0.02
    failing: float = 0.05
    straggling: float = 0.02
    straggler: float = 1.0
    disk: float = 0.01
    seed: int = 0


def fake_set(samples: int, length: int, *, name: str = "probe") -> InputSet:
    """Inputs of the wanted size, all of the same token."""
    rows = np.arange(samples, dtype=np.int32)
    return InputSet(
        name,
        np.zeros((samples, length), np.int32),
        np.full(samples, length, np.int32),
        (rows % FOLDS + 1).astype(np.uint8),
        rows,
        digest="0" * 64,
    )


def fake_plan(store: Path, checkpoints: int) -> Plan:
    """The real layouts of all four products, for a tiny model and a series of any length."""
    recipe = Recipe.model_validate(
        {
            "name": "scale",
            "store": store,
            "series": {"path": "nowhere", "tokens_per_step": 1},
            "inputs": {"probe": {"path": "nowhere", "mode": "packed", "length": 8}},
        }
    )
    inputs = fake_set(FOLDS, 8)
    spec = Spec(inputs, choose_points(inputs), SHAPE, CaptureTable(), SHAPE.vocabulary)
    series = tuple(Checkpoint(Path(f"step{i}"), i, i) for i in range(checkpoints))
    keys = ("architecture", "dtype", "block", "inputs probe")
    identity = dict.fromkeys(keys, "fake")
    whole = Series("fake", series, Path("nowhere"))
    plan = Plan(recipe, whole, SHAPE, {"probe": spec}, identity, whole, Pinned(whole))
    identity |= {f"product {label}": "fake" for label in plan.layouts}
    return plan


def fate(checkpoint: str, troubles: Troubles) -> tuple[float, bool]:
    """How long capture takes and whether it fails; every attempt at a checkpoint meets the same."""
    generator = random.Random(f"{troubles.seed} {checkpoint}")
    slow, share, failing = (generator.random() for _ in range(3))
    seconds = troubles.straggler if slow < troubles.straggling else troubles.capture * 2 * share
    return seconds, failing < troubles.failing


def expected(plan: Plan, label: str, checkpoint: str) -> Arrays:
    """What must lie in a cell in the end: numbers that no other cell has, and no fill value."""
    key = int(hashlib.sha256(f"{label} {checkpoint}".encode()).hexdigest()[:7], 16)
    return {
        name: (key + np.arange(np.prod(a.shape)).reshape(a.shape)).astype(a.dtype)
        for name, a in plan.layouts[label].items()
    }


class Journal:
    """A process's own file of events and counters; whole lines survive a kill."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(
            folder / f"{os.getpid()}.jsonl", os.O_CREAT | os.O_WRONLY | os.O_APPEND
        )
        self.counters: dict[str, float] = {}

    def count(self, name: str, value: float = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + value

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.count(name, time.monotonic() - started)

    def event(self, kind: str, cell: str = "") -> None:
        line = {"kind": kind, "cell": cell, "at": time.monotonic(), "counters": self.counters}
        os.write(self._file, json.dumps(line).encode() + b"\n")


class CountingLease(Lease):
    """A lease that tells what became of it."""

    journal: Journal

    def acquire(self) -> bool:
        self.journal.count("lease_attempts")
        got = super().acquire()
        self.journal.count("leases" if got else "lease_refusals")
        return got

    def _take_over(self) -> bool:
        got = super()._take_over()
        if got:
            self.journal.count("takeovers")
            self.journal.event("takeover")
        return got


class SlowWriter(StoreWriter):
    """A writer on a slow disk."""

    def __init__(self, path: Path, journal: Journal, troubles: Troubles) -> None:
        self.journal = journal
        self._disk = troubles.disk
        super().__init__(path)

    def claim(self, name: str) -> Lease:
        lease = CountingLease(self.leases, name)
        lease.journal = self.journal
        return lease

    def write(self, label: str, checkpoint: str, arrays: Arrays) -> None:
        self.journal.event("writing", f"{checkpoint}:{label}")
        with self.journal.timed("write_seconds"):
            for name, values in arrays.items():
                time.sleep(random.expovariate(1 / self._disk) if self._disk else 0)
                super().write(label, checkpoint, {name: values})

    def set_cell(self, label: str, checkpoint: str, **values: str | int | float) -> None:
        with self.journal.timed("mark_seconds"):
            super().set_cell(label, checkpoint, **values)
        self.journal.event("done" if not values["error"] else "failed", f"{checkpoint}:{label}")


class FakeWorker(Worker):
    """The real claim loop; looking at a checkpoint is a sleep, after which it fails or has arrays."""

    def __init__(self, plan: Plan, writer: SlowWriter, troubles: Troubles) -> None:
        super().__init__(plan, writer)
        self._journal, self._troubles = writer.journal, troubles

    def look(self, checkpoint: Checkpoint, labels: Sequence[str]) -> tuple[str, dict[str, Arrays]]:
        seconds, failing = fate(checkpoint.label, self._troubles)
        with self._journal.timed("capture_seconds"):
            time.sleep(seconds)
        if failing:
            raise CheckpointError(f"{checkpoint.label}: simulated damage")
        self._journal.event("captured", checkpoint.label)
        arrays = {label: expected(self.plan, label, checkpoint.label) for label in labels}
        return "fake weights", arrays

    def _pass(self) -> bool:
        again = super()._pass()
        self._journal.count("polls", again)
        return again

    def _wanted(self, checkpoint: Checkpoint) -> list[str]:
        with self._journal.timed("status_seconds"):
            return super()._wanted(checkpoint)

    @contextmanager
    def _claim(self, checkpoint: Checkpoint, wanted: Sequence[str]) -> Iterator[Any]:
        context = super()._claim(checkpoint, wanted)
        with self._journal.timed("claim_seconds"):
            claims = context.__enter__()
        try:
            yield claims
        finally:
            with self._journal.timed("claim_seconds"):
                context.__exit__(None, None, None)


def work(
    store: Path, journals: Path, checkpoints: int, troubles: Troubles, host: str, stale: float
) -> None:
    """One worker's process."""
    # Hosts and minutes are all that is simulated of leases.
    socket.gethostname = lambda: host
    runs.leases.STALE_AFTER, runs.leases._HEARTBEAT = stale, stale / 10
    plan, journal = fake_plan(store, checkpoints), Journal(journals)
    with journal.timed("prepare_seconds"):
        writer = SlowWriter(store, journal, troubles)
        prepare(plan, writer)
    journal.event("started")
    with journal.timed("loop_seconds"):
        FakeWorker(plan, writer, troubles).run()
    journal.event("ended")
