"""Torch hooks on the residual stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

Listener = Callable[[int, torch.Tensor], None]


@contextmanager
def hidden_hooks(
    blocks: Sequence[nn.Module],
    final_norm: nn.Module,
    listener: Listener,
    layers: frozenset[int] | None = None,
) -> Iterator[None]:
    """Call `listener(layer, state)` for every layer during a forward pass.

    Layer 0 is what block 1 reads, layer i what block i writes, layer L+1 the final norm's output. The
    state (sample, position, feature) is the model's own tensor: clone what is kept.

    Parameters
    ----------
    blocks, final_norm
        From the architecture table.
    listener
        Called in order of the layers.
    layers
        Layers wanted; None for all.
    """

    def reader(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        listener(0, args[0] if args else kwargs["hidden_states"])

    def writer(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            listener(layer, output[0] if isinstance(output, tuple) else output)

        return hook

    def wanted(layer: int) -> bool:
        return layers is None or layer in layers

    handles = []
    if wanted(0):
        handles.append(blocks[0].register_forward_pre_hook(reader, with_kwargs=True))
    for layer, module in enumerate([*blocks, final_norm], start=1):
        if wanted(layer):
            handles.append(module.register_forward_hook(writer(layer)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
