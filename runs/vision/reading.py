"""How every adapter reads a decoder: states at the last position, and logits of states."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from runs.attention_tap import attention_as
from runs.hooks import hidden_hooks
from runs.loaded import LoadedModel


class DecoderReader:
    """States and logits of a loaded checkpoint; what an adapter needs beside its inputs.

    Parameters
    ----------
    loaded
        A model whose samples are padded on the left, or equally long.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    @torch.inference_mode()
    def final_states(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """States at the last position (layer, sample, feature), layers 0 … L+1."""
        seen: list[torch.Tensor] = []

        def keep(_: int, state: torch.Tensor) -> None:
            seen.append(state[:, -1].clone())

        loaded = self.loaded
        with hidden_hooks(loaded.blocks, loaded.final_norm, keep):
            self.run(inputs)
        return torch.stack([state.to(seen[-1].device) for state in seen])

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """One forward pass without the unembedding, for what hooks see.

        Attention is the model's own, with the model's own mask: padding lies on the left, and some
        models let the patches of an image see one another.
        """
        with attention_as(self.loaded.model, "sdpa"):
            self.loaded.model.base_model(**inputs, use_cache=False)

    @torch.inference_mode()
    def lens_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits in float32 (…, vocabulary) of states of layers 0 … L: final norm, then unembedding."""
        normed: torch.Tensor = self.loaded.final_norm(states)
        return self.final_logits(normed)

    @torch.inference_mode()
    def final_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits in float32 (…, vocabulary) of states of layer L+1."""
        return self.loaded.unembedding.on(states.device).logits(states)
