"""The attention function that capture registers with transformers.

It sees q and k after rotary embedding and query-key norms on every architecture, so row statistics
are computed where the probabilities are made, and no (position, position) matrix leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from attention.streaming import attend_with_statistics

NAME = "phasescope"

Listener = Callable[[int, dict[str, torch.Tensor]], None]


@dataclass
class AttentionTap:
    """What the registered function does while a tap is active.

    Attributes
    ----------
    listener
        Called with (block, statistics of (sample, head, position)); None computes none.
    key_mask
        (sample, position) bool, True at real tokens; None where no token is padding.
    zero_head
        (block, head) whose output is set to zero, or None.
    """

    listener: Listener | None = None
    key_mask: torch.Tensor | None = None
    zero_head: tuple[int, int] | None = None

    _active: Any = None

    def __enter__(self) -> AttentionTap:
        global _ACTIVE
        self._active, _ACTIVE = _ACTIVE, self
        return self

    def __exit__(self, *_: object) -> None:
        global _ACTIVE
        _ACTIVE = self._active


_ACTIVE: AttentionTap | None = None


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    tap = _ACTIVE or AttentionTap()
    block = int(module.layer_idx) + 1  # type: ignore[arg-type]  # nn.Module types attributes loosely
    if tap.listener is not None:
        output, statistics = attend_with_statistics(
            query,
            key,
            value,
            scaling=float(query.shape[-1] ** -0.5 if scaling is None else scaling),
            key_mask=tap.key_mask,
            window=kwargs.get("sliding_window"),
            softcap=kwargs.get("softcap"),
        )
        tap.listener(block, statistics)
    else:
        # Padding is on the right, so under a causal mask no real query sees it.
        output = F.scaled_dot_product_attention(
            query,
            key,
            value,
            is_causal=True,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    if tap.zero_head is not None and tap.zero_head[0] == block:
        output = output.clone()
        output[:, tap.zero_head[1]] = 0
    return output.transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Keep transformers from building a (position, position) mask: the tap has the key mask."""


def register() -> str:
    """Make the function known to transformers; returns the name to load models with."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME
