"""Attention with a learned temperature a head and position, whose row entropies carry a gradient.

Jha & Reagen 2025, arXiv 2501.03489, section 4: softmax(z / (t √d)) with t of (head, position), and
thresholds θ of (block, head) for the penalty of `attention.regularisation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from runs.attention_tap import register

NAME = "phasescope_tempered"
_LOWEST = 1e-3  # a temperature below this counts as this: the paper has no guard against 0

_COLLECTED: list[Tensor] | None = None


@contextmanager
def collecting() -> Iterator[list[Tensor]]:
    """Collect (batch, head, position) row entropies of every block, in order, with gradient."""
    global _COLLECTED
    before, _COLLECTED = _COLLECTED, []
    try:
        yield _COLLECTED
    finally:
        _COLLECTED = before


def attend_with_entropy(
    query: Tensor, key: Tensor, value: Tensor, *, scaling: float
) -> tuple[Tensor, Tensor]:
    """Causal attention and the entropy of its rows, both differentiable.

    Parameters
    ----------
    query, key, value : float tensors (batch, head, position, feature)
    scaling
        Factor on q·k.

    Returns
    -------
    output : tensor (batch, head, position, feature)
    entropy : tensor (batch, head, position)
        In nats.

    Notes
    -----
    H = ln Σ exp s − E[s] (arXiv 2501.03489, Eq. 9–10), exact where rows are centred by their largest
    logit. Training needs the probabilities for the gradient, so memory is (batch, head, position,
    position): this is for small models; capture uses `attention.streaming`.
    """
    length = query.shape[2]
    hidden = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
    scores = (query @ key.transpose(2, 3) * scaling).masked_fill(hidden, float("-inf"))
    logs = scores.log_softmax(dim=-1)
    p = logs.exp()
    entropy = -(p * logs.masked_fill(hidden, 0.0)).sum(dim=-1)
    return p @ value, entropy


def _tempered(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    temperature = module.temperature
    assert isinstance(temperature, Tensor)
    # s / t: as q carries it, every other attention function can be used behind it.
    query = query / temperature[:, : query.shape[2], None].clamp_min(_LOWEST)
    if _COLLECTED is None:
        plain = ALL_ATTENTION_FUNCTIONS[register()]
        found: tuple[Tensor, None] = plain(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found
    factor = float(query.shape[-1] ** -0.5 if scaling is None else scaling)
    output, entropy = attend_with_entropy(query, key, value, scaling=factor)
    _COLLECTED.append(entropy)
    return output.transpose(1, 2), None


def add_temperatures(model: Any, *, temperature: float, threshold: float) -> None:
    """Give each attention module its temperatures and thresholds, in place.

    Parameters
    ----------
    model
        A GPT-NeoX for causal language modelling.
    temperature, threshold
        Initial t of every head and position, and θ of every head. The paper starts t at 0.01 or
        0.1; where θ starts is not stated in what was read.
    """
    AttentionInterface.register(NAME, _tempered)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    shape = (model.config.num_attention_heads, model.config.max_position_embeddings)
    for layer in model.gpt_neox.layers:
        layer.attention.temperature = nn.Parameter(torch.full(shape, temperature))
        layer.attention.threshold = nn.Parameter(torch.full(shape[:1], threshold))
    model.set_attn_implementation(NAME)


def thresholds_of(model: Any) -> Tensor:
    """θ of all heads, (block, head), with gradient."""
    return torch.stack([layer.attention.threshold for layer in model.gpt_neox.layers])
