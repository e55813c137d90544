"""One pass of one checkpoint over one set, with everything attached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from runs.backends.base import Backend
from runs.errors import CheckpointError
from runs.inputs import FOLDS, InputSet
from runs.products.base import Batch, Collector

Advance = Callable[[int], None]


def capture_set(
    backend: Backend,
    inputs: InputSet,
    collectors: Sequence[Collector],
    *,
    block: int,
    micro_batch: int | None = None,
    attention: bool = False,
    advance: Advance = lambda _: None,
) -> None:
    """Show one set to a model once and hand what is seen to the collectors.

    Samples go through fold by fold, in blocks of `block` samples; collectors that sum see whole blocks,
    so what they sum does not depend on `micro_batch`.

    Parameters
    ----------
    backend
        The checkpoint, in a backend.
    inputs
        The set.
    collectors
        Fresh collectors of the products wanted.
    block
        Samples a block.
    micro_batch
        Samples a forward pass, at most `block`; smaller ones keep what summing collectors need in memory
        until the block is whole (layers × block × length × d numbers for moments).
    attention
        Compute attention rows even if no collector takes them: the function that gives them rounds its
        output otherwise than the plain one, and what else is seen shall not depend on which collectors
        are there.
    advance
        Called with the number of samples done.

    Raises
    ------
    CheckpointError
        If the final state is not finite, or memory runs out even sample by sample.
    """
    size = min(micro_batch or block, block)
    relay = _Relay(collectors)
    rows = relay.attention if attention or relay.wants_attention else None
    # A second BLAS thread would fight torch's own, which wait for work by spinning.
    with torch.inference_mode(), threadpool_limits(1, user_api="blas"):
        for samples, fold in blocks(inputs.fold, block):
            whole = _batch(inputs, samples, fold, backend.loaded.device)
            padded = not bool(whole.mask.all())
            relay.begin(whole)
            for start in range(0, len(samples), size):
                part = whole.part(slice(start, start + size))
                relay.take(part, last=start + size >= len(samples))
                final = backend.observe(
                    part.tokens,
                    part.mask if padded else None,
                    layers=relay.layers,
                    hidden=relay.hidden,
                    attention=rows,
                )
                # Rows of padding may hold anything; real rows must be numbers.
                if not bool(torch.isfinite(final[part.mask.to(final.device)]).all()):
                    raise CheckpointError("the final hidden state holds NaN or Inf")
            advance(len(samples))


def blocks(fold: NDArray[np.uint8], size: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Blocks of samples in capture order: fold 1 to 8, none crossing a fold."""
    for number in range(1, FOLDS + 1):
        members = np.flatnonzero(fold == number)
        for start in range(0, len(members), size):
            yield members[start : start + size], number


def _batch(inputs: InputSet, samples: NDArray[np.int64], fold: int, device: torch.device) -> Batch:
    length = inputs.length[samples]
    longest = int(length.max())
    tokens = torch.as_tensor(inputs.tokens[samples, :longest], dtype=torch.long, device=device)
    mask = torch.arange(longest) < torch.as_tensor(length)[:, None]
    return Batch(samples, fold, tokens, mask.to(device))


class _Relay:
    """Passes on what one forward pass shows; to collectors that sum, when the block is complete."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self._collectors = collectors
        self._whole: Batch
        self._part: Batch
        self._last = True
        self._states: dict[int, list[torch.Tensor]] = {}
        self._rows: dict[int, list[Mapping[str, torch.Tensor]]] = {}
        self.layers = frozenset[int]().union(*(c.layers() for c in collectors))
        self.wants_attention = any(c.wants_attention() for c in collectors)

    def begin(self, whole: Batch) -> None:
        self._whole = whole
        self._states, self._rows = {}, {}

    def take(self, part: Batch, *, last: bool) -> None:
        self._part, self._last = part, last

    def hidden(self, layer: int, state: torch.Tensor) -> None:
        state = _accumulable(state)
        summing = []
        for collector in self._collectors:
            if layer not in collector.layers():
                continue
            if collector.sums:
                summing.append(collector)
            else:
                collector.hidden(layer, state, self._part.on(state.device))
        if not summing:
            return
        if len(self._part.samples) < len(self._whole.samples):
            pieces = self._states.setdefault(layer, [])
            pieces.append(state if self._last else state.clone())
            if not self._last:
                return
            state = torch.cat(self._states.pop(layer))
        for collector in summing:
            collector.hidden(layer, state, self._whole.on(state.device))

    def attention(self, block: int, rows: dict[str, torch.Tensor]) -> None:
        rows = {name: _accumulable(row) for name, row in rows.items()}
        if len(self._part.samples) < len(self._whole.samples):
            parts = self._rows.setdefault(block, [])
            parts.append(rows)
            if not self._last:
                return
            parts = self._rows.pop(block)
            rows = {name: torch.cat([part[name] for part in parts]) for name in rows}
        for collector in self._collectors:
            if collector.wants_attention():
                device = rows["visible"].device
                collector.attention(block, rows, self._whole.on(device))


def _accumulable(state: torch.Tensor) -> torch.Tensor:
    """Where sums in float64 can be made: MPS has none, so it does the forward pass only."""
    return state.cpu() if state.device.type == "mps" else state
