"""Seeing all states of a pass of an adapter, and putting others in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from runs.errors import CheckpointError
from runs.hooks import hidden_hooks
from runs.loaded import LoadedModel
from runs.vision.base import VisionAdapter

Edit = Callable[[int, torch.Tensor], torch.Tensor]


def states_of(
    loaded: LoadedModel, adapter: VisionAdapter, inputs: Mapping[str, torch.Tensor]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """States of layers 0 … L at every position, and of layers 0 … L+1 at the last one."""
    seen: list[torch.Tensor] = []
    layers = frozenset(range(loaded.shape.blocks + 1))
    with hidden_hooks(
        loaded.blocks, loaded.final_norm, lambda _, state: seen.append(state.clone()), layers
    ):
        last = adapter.final_states(inputs)
    return seen, last


@contextmanager
def edited(blocks: Sequence[nn.Module], edit: Edit) -> Iterator[None]:
    """Pass every state of layers 0 … L through `edit(layer, state)` during forward passes.

    What hooks registered later see, and what later blocks read, is the edited state.
    """

    def before(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (edit(0, args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": edit(0, kwargs["hidden_states"])}

    def after(layer: int) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (edit(layer, output[0]), *output[1:])
            return edit(layer, output)

        return hook

    handles = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [
        block.register_forward_hook(after(layer)) for layer, block in enumerate(blocks, start=1)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def image_positions(
    loaded: LoadedModel, inputs: Mapping[str, torch.Tensor], without: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Positions of one prompt that stand for its image.

    Parameters
    ----------
    inputs
        Of one sample, with its image.
    without
        Of the same words without an image: where an adapter gives embeddings and no ids, the image is
        what they lack.
    """
    if "input_ids" in inputs:
        signs: torch.Tensor = inputs["input_ids"][0] == loaded.model.config.image_token_id
        return signs.nonzero().flatten()
    whole, part = (given["inputs_embeds"][0] for given in (inputs, without))
    count = len(whole) - len(part)
    if count < 1:
        raise CheckpointError(f"{loaded.shape.architecture}: an image adds no position to a prompt")
    shared = (whole[: len(part)] == part).all(dim=-1).long().cumprod(0)
    start = int(shared.sum())
    return torch.arange(start, start + count, device=whole.device)
