"""Capture: one pass of one checkpoint over one set, with everything attached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from runs.attention_tap import AttentionTap
from runs.errors import CheckpointError
from runs.hooks import hidden_hooks
from runs.inputs import FOLDS, InputSet
from runs.loading import LoadedModel
from runs.products.base import Batch, Collector

Advance = Callable[[int], None]


def capture_set(
    loaded: LoadedModel,
    inputs: InputSet,
    collectors: Sequence[Collector],
    *,
    block: int,
    micro_batch: int | None = None,
    advance: Advance = lambda _: None,
) -> None:
    """Show one set to a model once and hand what is seen to the collectors.

    Samples go through fold by fold, in blocks of `block` samples; collectors see whole blocks, so what
    they sum does not depend on `micro_batch`.

    Parameters
    ----------
    loaded
        The checkpoint.
    inputs
        The set.
    collectors
        Fresh collectors of the products wanted.
    block
        Samples a block.
    micro_batch
        Samples a forward pass, at most `block`; smaller ones keep the block's states in memory until
        the block is whole ((L + 2) × block × length × d numbers).
    advance
        Called with the number of samples done.

    Raises
    ------
    CheckpointError
        If the final state is not finite, or memory runs out even sample by sample.
    """
    size = min(micro_batch or block, block)
    relay = _Relay(collectors)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        # A second BLAS thread would fight torch's own, which wait for work by spinning.
        stack.enter_context(threadpool_limits(1, user_api="blas"))
        stack.enter_context(
            hidden_hooks(loaded.blocks, loaded.final_norm, relay.hidden, relay.layers)
        )
        tap = stack.enter_context(
            AttentionTap(listener=relay.attention if relay.wants_attention else None)
        )
        for samples, fold in blocks(inputs.fold, block):
            whole = _batch(inputs, samples, fold, loaded.device)
            relay.begin(whole, parts=-(-len(samples) // size))
            for start in range(0, len(samples), size):
                part = slice(start, start + size)
                tap.key_mask = None if bool(whole.mask.all()) else whole.mask[part]
                final = loaded.forward(whole.tokens[part])
                # Rows of padding may hold anything; real rows must be numbers.
                if not bool(torch.isfinite(final[whole.mask[part]]).all()):
                    raise CheckpointError("the final hidden state holds NaN or Inf")
            relay.end()
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
    """Passes whole blocks on: at once when a block is one forward pass, else when it is complete."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self._collectors = collectors
        self._parts = 1
        self._batch: Batch
        self._states: dict[int, list[torch.Tensor]] = {}
        self._rows: dict[int, list[Mapping[str, torch.Tensor]]] = {}
        self.layers = frozenset[int]().union(*(c.layers() for c in collectors))
        self.wants_attention = any(c.wants_attention() for c in collectors)

    def begin(self, batch: Batch, parts: int) -> None:
        self._batch, self._parts = batch, parts

    def hidden(self, layer: int, state: torch.Tensor) -> None:
        if self._parts > 1:
            self._states.setdefault(layer, []).append(state.clone())
            return
        for collector in self._collectors:
            if layer in collector.layers():
                collector.hidden(layer, state, self._batch)

    def attention(self, block: int, rows: dict[str, torch.Tensor]) -> None:
        if self._parts > 1:
            self._rows.setdefault(block, []).append(rows)
            return
        for collector in self._collectors:
            if collector.wants_attention():
                collector.attention(block, rows, self._batch)

    def end(self) -> None:
        states, rows, self._parts = self._states, self._rows, 1
        self._states, self._rows = {}, {}
        for layer, pieces in states.items():
            self.hidden(layer, torch.cat(pieces))
        for block, parts in rows.items():
            self.attention(block, {k: torch.cat([p[k] for p in parts]) for k in parts[0]})
