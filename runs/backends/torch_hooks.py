"""The core backend: torch hooks on the decoder blocks, attention through transformers' interface."""

from __future__ import annotations

import torch

from runs.attention_tap import AttentionTap, attention_as, register
from runs.backends.base import AttentionListener, HiddenListener
from runs.hooks import hidden_hooks
from runs.loaded import LoadedModel


class TorchHooks:
    """Hooks for one forward pass at a time; the model is left as it was.

    Parameters
    ----------
    loaded
        The model.
    fused_within
        As `AttentionTap`.
    """

    def __init__(self, loaded: LoadedModel, *, fused_within: float | None = None) -> None:
        self.loaded = loaded
        self._fused_within = fused_within

    def observe(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        layers: frozenset[int],
        hidden: HiddenListener,
        attention: AttentionListener | None = None,
    ) -> torch.Tensor:
        """As `Backend.observe`; attention rows are streamed, no (position, position) matrix is made."""
        loaded = self.loaded
        with (
            hidden_hooks(loaded.blocks, loaded.final_norm, hidden, layers),
            attention_as(loaded.model, register()),
            AttentionTap(attention, mask, fused_within=self._fused_within),
        ):
            return loaded.forward(tokens, mask)
