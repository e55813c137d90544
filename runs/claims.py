"""The claim loop: take a checkpoint nobody works on, capture what it lacks, write it down, go on."""

from __future__ import annotations

import errno
import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from runs import gate
from runs.backends import Backend, open_backend
from runs.checkpoints import Checkpoint
from runs.errors import BytesError, CheckpointError, HubError, InputError
from runs.fetching import Fetcher
from runs.hub.cache import here
from runs.hub.client import Stopped
from runs.integrity import Fingerprint, fingerprint
from runs.leases import Lease
from runs.loaded import LoadedModel
from runs.loading import load_model, quiet_transformers
from runs.memory import fitting_micro_batch
from runs.passes import capture_set
from runs.plan import Plan
from runs.processor import processor
from runs.products import PRODUCTS
from runs.products.base import Arrays
from runs.progress import Event, Report
from runs.selfcheck import own_view, self_check
from runs.visits import VISITS
from runs.writing import DONE, FAILED, StoreWriter, digest

_POLL = 0.5
_TOO_LARGE = (
    "memory ran out with one sample at a time; shorten `length`, use a narrower `capture.dtype`, or "
    "spread the model with `capture.device_map`"
)
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


@dataclass
class Worker:
    """One process at work on one store.

    Attributes
    ----------
    plan, writer
        What to do and where to write it.
    report
        Receives events.
    retry : bool
        Whether failed cells are tried again, once.
    parent : int or None
        Process whose death ends the loop between checkpoints.
    companions : int
        Processes that share this machine's memory, this one included.
    """

    plan: Plan
    writer: StoreWriter
    report: Report = lambda _: None
    retry: bool = False
    parent: int | None = None
    companions: int = 1
    fetcher: Fetcher = field(init=False)
    _unreachable: HubError | None = None
    _micro_batch: int | None = None  # set once memory ran out
    _checked: bool = False
    _tried: set[str] = field(default_factory=set)
    _settled: set[str] = field(default_factory=set)  # nothing to do there, now or later

    def __post_init__(self) -> None:
        self.fetcher = Fetcher(
            self.plan.recipe.series,
            self.plan.whole.checkpoints,
            self.report,
            is_needed=lambda checkpoint: bool(self._wanted(checkpoint)),
        )

    def run(self) -> None:
        """Walk the series until every cell is done, failed, or in nobody's hands but the dead's.

        Raises
        ------
        InputError
            If the store cannot be written, the architecture fails its self-check, or a hub is out of
            reach; in the last case what is on this disk is captured first.
        """
        # What is alive now stays alive: the collection after each checkpoint need not look at it.
        gc.freeze()
        try:
            with quiet_transformers():
                while self._pass():
                    time.sleep(_POLL)
        finally:
            gc.unfreeze()
            self.fetcher.close()
        if self._unreachable is not None:
            raise self._unreachable

    def _pass(self) -> bool:
        """Go once through the series; True if somebody else still holds a cell."""
        others = False
        for checkpoint in self._order():
            if self.parent is not None and os.getppid() != self.parent:
                return False
            wanted = self._wanted(checkpoint)
            if not wanted or (self._unreachable is not None and here(checkpoint) is None):
                continue
            with self._claim(checkpoint, wanted) as claims:
                others |= not claims
                # Somebody may have finished between the look and the claim.
                still = set(self._wanted(checkpoint)) if claims else set()
                claims = {label: lease for label, lease in claims.items() if label in still}
                if claims:
                    self._visit(checkpoint, claims)
                    # A cell still wanted was taken over by somebody else meanwhile: wait for them.
                    others |= bool(self._wanted(checkpoint)) and self._unreachable is None
        return others

    def _order(self) -> list[Checkpoint]:
        """The series; where room is short, what is on this disk comes first and makes some."""
        series = list(self.plan.series.checkpoints)
        if self.plan.recipe.series.disk_budget is not None:
            series.sort(key=lambda checkpoint: here(checkpoint) is None)
        return series

    def _wanted(self, checkpoint: Checkpoint) -> list[str]:
        if checkpoint.label in self._settled:
            return []
        status = self.writer.row("status", checkpoint.label, self.plan.layouts)
        again = self.retry and checkpoint.label not in self._tried
        finished = (DONE,) if again else (DONE, FAILED)
        wanted = [label for label, value in status.items() if value not in finished]
        if not wanted:
            self._settled.add(checkpoint.label)
        return wanted

    @contextmanager
    def _claim(self, checkpoint: Checkpoint, wanted: Sequence[str]) -> Iterator[dict[str, Lease]]:
        """Leases on the cells, all or none: the first one decides who has the checkpoint."""
        with ExitStack() as stack:
            claims: dict[str, Lease] = {}
            for label in wanted:
                lease = self.writer.claim(f"{checkpoint.label}:{label}")
                if not lease.acquire():
                    break
                claims[label] = stack.enter_context(lease)
            yield claims if len(claims) == len(wanted) else {}

    def _visit(self, checkpoint: Checkpoint, claims: dict[str, Lease]) -> None:
        started = time.monotonic()
        total = sum(
            self.plan.specs[name].inputs.samples for name in {c.split("/")[0] for c in claims}
        )
        self.report(Event("start", checkpoint.label, total))
        try:
            weights, results = self.look(checkpoint, list(claims))
        except HubError as error:
            self._unreachable = error  # said once all that is on this disk is done
            return
        except Stopped:
            return  # somebody else has captured it meanwhile
        except (InputError, KeyboardInterrupt):
            raise
        except Exception as error:  # one checkpoint's fault must not stop the others
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            reason = str(error) if isinstance(error, CheckpointError) else f"{error!r:.500}"
            reason = _TOO_LARGE if _is_memory(error) else reason
            for label, lease in claims.items():
                if lease.held():
                    self.writer.set_cell(label, checkpoint.label, error=reason, status=FAILED)
            self.fetcher.finished(checkpoint)
            self.report(Event("failed", checkpoint.label, detail=reason))
            return
        finally:
            self._tried.add(checkpoint.label)  # not before: what is in hand is still to be fetched
            gc.collect()
        seconds = time.monotonic() - started
        for label, arrays in results.items():
            if not claims[label].held():
                continue  # taken over meanwhile: what lies there is somebody else's to write
            self.writer.write(label, checkpoint.label, arrays)
            if claims[label].held():
                self.writer.set_cell(
                    label,
                    checkpoint.label,
                    error="",
                    seconds=seconds,
                    digest=weights,
                    attempt=self._attempt(label, weights),
                    processor=processor(self.plan.recipe.capture.device),
                    status=DONE,
                )
        self.fetcher.finished(checkpoint)
        self.report(Event("done", checkpoint.label))

    def look(self, checkpoint: Checkpoint, labels: Sequence[str]) -> tuple[str, dict[str, Arrays]]:
        """Fetch, check, load and capture: a digest of the weights, and the arrays of each cell.

        All that is slow or needs a model is in here; benchmarks/scale.py puts a sleep in its place.
        """
        self.fetcher.ahead(self._upcoming(checkpoint))
        path = self.fetcher.bring(checkpoint)
        if checkpoint.repository and not checkpoint.commit:
            self.writer.pin(replace(checkpoint, commit=path.name))
        weights = self._pass_gate(checkpoint, path)
        capture = self.plan.recipe.capture
        loaded = load_model(
            path, dtype=capture.dtype, device=capture.device, device_map=capture.device_map
        )
        return weights, self._capture(checkpoint, self._open(checkpoint, loaded), labels)

    def _upcoming(self, current: Checkpoint) -> Iterator[Checkpoint]:
        """What is to be captured next: this one first, and none that another process has in hand."""
        yield current
        for checkpoint in self._order():
            wanted = self._wanted(checkpoint) if checkpoint.label != current.label else []
            if wanted and not self.writer.claim(f"{checkpoint.label}:{wanted[0]}").is_taken():
                yield checkpoint

    def _read(self, checkpoint: Checkpoint, path: Path) -> Fingerprint:
        """Digests of the weights; a file that is not the hub's bytes is fetched once more."""
        try:
            return fingerprint(path)
        except BytesError as error:
            if not checkpoint.repository:
                raise
            return fingerprint(self.fetcher.again(checkpoint, error))

    def _pass_gate(self, checkpoint: Checkpoint, path: Path) -> str:
        """Digest of the weights, once they are known to be their own."""
        found = self._read(checkpoint, path)
        self._same_weights(checkpoint, path, found.digest)
        gate.remember(self.writer, checkpoint, found)
        accept = self.plan.recipe.series.accept
        reason = gate.verdicts(self.writer, self.plan.whole, accept).get(checkpoint.label)
        if reason is not None:
            raise CheckpointError(reason)
        return found.digest

    def _attempt(self, label: str, weights: str) -> str:
        """Names a cell's content: what decided it, and which weights."""
        name = label.split("/")[0]
        keys = ("architecture", "dtype", "block", f"inputs {name}", f"product {label}")
        return digest([weights, *(self.plan.identity[key] for key in keys)])

    def _same_weights(self, checkpoint: Checkpoint, path: Path, weights: str) -> None:
        digests = self.writer.row("digest", checkpoint.label, self.writer.products())
        known = {str(d) for d in digests.values() if str(d)}
        if known - {weights}:
            raise CheckpointError(
                f"{path}: the weights are not those captured before; put them back, or "
                "capture into another store"
            )

    def _open(self, checkpoint: Checkpoint, loaded: LoadedModel) -> Backend:
        if loaded.shape != self.plan.shape:
            raise CheckpointError(
                f"{checkpoint.path}: is {loaded.shape}, the series is {self.plan.shape}"
            )
        capture = self.plan.recipe.capture
        view = None if self._checked else own_view(loaded)
        backend = open_backend(loaded, capture)
        if view is not None:
            products = {p for spec in self.plan.specs.values() for p in spec.capture.products}
            self_check(backend, view, [p for p in PRODUCTS if p in products])
            self._checked = True
        return backend

    def _capture(
        self, checkpoint: Checkpoint, backend: Backend, labels: Sequence[str]
    ) -> dict[str, Arrays]:
        while True:
            try:
                return {
                    label: arrays
                    for name in self.plan.specs
                    for label, arrays in self._capture_one(
                        name, backend, [c for c in labels if c.split("/")[0] == name]
                    ).items()
                }
            except (MemoryError, RuntimeError) as error:
                size = self._micro_batch or max(map(self._size, self.plan.specs))
                if size == 1 or not _is_memory(error):
                    raise
                self._micro_batch = size // 2
                self.report(
                    Event(
                        "start",
                        checkpoint.label,
                        detail=f"out of memory: now {size // 2} samples at a time",
                    )
                )

    def _size(self, name: str) -> int:
        """Samples a forward pass: as memory showed, as the recipe says, or as will fit."""
        spec, capture = self.plan.specs[name], self.plan.recipe.capture
        wanted = self._micro_batch or capture.micro_batch
        return wanted or fitting_micro_batch(spec, companions=self.companions)

    def _capture_one(self, name: str, backend: Backend, labels: Sequence[str]) -> dict[str, Arrays]:
        spec, loaded = self.plan.specs[name], backend.loaded
        products = [c for c in labels if c.split("/")[1] in PRODUCTS]
        collectors = {
            c: PRODUCTS[c.split("/")[1]].collector(spec, loaded.unembedding) for c in products
        }
        if collectors:
            capture_set(
                backend,
                spec.inputs,
                list(collectors.values()),
                block=spec.capture.block,
                micro_batch=self._size(name),
                attention="attention" in spec.capture.products,
                advance=lambda n: self.report(Event("advance", samples=n)),
            )
        results = {label: collector.finish() for label, collector in collectors.items()}
        for label in labels:
            if label not in collectors:
                found = VISITS[label.split("/")[1]].function(loaded, spec)
                results[label] = {str(k): np.asarray(v.values) for k, v in found.items()}
        if labels and not collectors:  # visits alone: no pass has told how far it is
            self.report(Event("advance", samples=spec.inputs.samples))
        return results


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        sign in str(error).lower() for sign in _NO_MEMORY
    )
