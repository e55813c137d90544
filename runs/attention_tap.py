"""The attention function that capture registers with transformers.

It sees q and k after rotary embedding and query-key norms on every architecture, so row statistics
are computed where the probabilities are made, and no (position, position) matrix leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from attention.fused import attend_with_fused_statistics, usable
from attention.streaming import attend_with_statistics
from runs.errors import InputError

NAME = "phasescope"

Listener = Callable[[int, dict[str, torch.Tensor]], None]


class Inspector(Protocol):
    """Sees one block's attention before it leaves."""

    def __call__(
        self,
        block: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rule: Mapping[str, Any],
        statistics: Mapping[str, torch.Tensor],
        output: torch.Tensor,
    ) -> None:
        """Take what one block computed.

        Parameters
        ----------
        block
            From 1.
        query, key, value : (sample, head or kv_head, position, feature)
            After rotary embedding and query-key norms.
        rule
            Keyword arguments of `attention.streaming.row_statistics`: scaling, key_mask, window, softcap,
            bias, sink.
        statistics
            Of that function, (sample, head, position); with `log_normaliser` any p_ij can be had.
        output : (sample, head, position, feature)
            Before the output projection, of all heads.
        """


@dataclass
class AttentionTap:
    """What the registered function does while a tap is active.

    Attributes
    ----------
    listener
        Called with (block, statistics of (sample, head, position)); None computes none.
    key_mask
        (sample, position) bool, True at real tokens; None where no token is padding.
    inspect
        Called with what each block computed, or None; its statistics are never a fused kernel's.
    zero_heads
        (block, head) whose outputs are set to zero together.
    fused_within
        Error in nats up to which statistics come from a fused kernel, without `max_logit`; None for
        the streaming kernel always.
    """

    listener: Listener | None = None
    key_mask: torch.Tensor | None = None
    inspect: Inspector | None = None
    zero_heads: frozenset[tuple[int, int]] = frozenset()
    fused_within: float | None = None

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
    block = _block(module)
    window = kwargs.get("sliding_window")
    rule: dict[str, Any] = {
        "scaling": float(query.shape[-1] ** -0.5 if scaling is None else scaling),
        "key_mask": tap.key_mask,
        "window": None if window is None or window >= query.shape[2] else int(window),
        "softcap": kwargs.get("softcap"),
        "bias": kwargs.get("position_bias"),
        "sink": kwargs.get("s_aux"),
    }
    if tap.listener is None and tap.inspect is None and _plain(rule):
        output = F.scaled_dot_product_attention(
            query,
            key,
            value,
            is_causal=True,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    else:
        within = tap.fused_within if tap.inspect is None else None
        output, statistics = _with_statistics(query, key, value, rule, within)
        if tap.inspect is not None:
            tap.inspect(block, query, key, value, rule, statistics, output)
        if tap.listener is not None:
            tap.listener(block, statistics)
    heads = [head for where, head in tap.zero_heads if where == block]
    if heads:
        output = output.clone()
        output[:, heads] = 0
    return output.transpose(1, 2), None


def _with_statistics(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rule: dict[str, Any],
    fused_within: float | None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    if fused_within is not None and usable(query, key, **rule, tolerance=fused_within):
        kept = {name: rule[name] for name in ("scaling", "key_mask", "window")}
        return attend_with_fused_statistics(query, key, value, **kept, tolerance=fused_within)
    return attend_with_statistics(query, key, value, **rule)


def _plain(rule: dict[str, Any]) -> bool:
    """Whether attention is causal softmax and nothing else for every real query.

    Padding on the right is no matter: no real query sees it.
    """
    mask = rule["key_mask"]
    left = mask is not None and not bool(mask[:, 0].all())
    return not left and all(rule[n] is None for n in ("window", "softcap", "bias", "sink"))


def _block(module: torch.nn.Module) -> int:
    index = getattr(module, "layer_idx", None)
    if not isinstance(index, int):
        raise InputError(
            f"{type(module).__name__} does not say which block it is in (`layer_idx`), so its attention "
            "cannot be captured; leave `attention` out of capture.products"
        )
    return index + 1


def _no_mask(*_: Any, **__: Any) -> None:
    """Keep transformers from building a (position, position) mask: the tap has the key mask."""


def register() -> str:
    """Make the function known to transformers; returns the name to load models with."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME


def set_attention(model: Any, name: str) -> None:
    """Let a model compute its attention by another function; the vision tower, if any, keeps its own."""
    if "text_config" in model.config.sub_configs:
        model.set_attn_implementation({"text_config": name})
    else:
        model.set_attn_implementation(name)


@contextmanager
def attention_as(model: Any, name: str) -> Iterator[None]:
    """Let a model compute its attention by another function for a while, as `set_attention` does."""
    before = getattr(model.config, "text_config", model.config)._attn_implementation
    if before == name:
        yield
        return
    set_attention(model, name)
    try:
        yield
    finally:
        set_attention(model, before)
