"""What the readouts ask of a model that reads images and text, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch

from probes.cases import Image

Conditions = Literal["image", "text", "both"]
CONDITIONS: tuple[Conditions, ...] = ("image", "text", "both")


class VisionAdapter(Protocol):
    """How one family's prompts are built and read; one instance a loaded checkpoint.

    The answer is read at the last position of every sample, so samples are padded on the left or are
    equally long.
    """

    def inputs(
        self, texts: Sequence[str], images: Sequence[Image] | None
    ) -> Mapping[str, torch.Tensor]:
        """Keyword arguments of the model's forward pass for a few prompts.

        Parameters
        ----------
        texts
            The words of each prompt: the text if there is one, then the question.
        images
            One image (height, width, 3) a prompt, or None for prompts without images.
        """
        ...

    def final_states(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """States at the last position (layer, sample, feature), layers 0 … L+1 of the decoder.

        Layer 0 is the embedding, layer i the residual stream after block i, layer L+1 after the final
        norm.
        """
        ...

    def lens_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits in float32 (…, vocabulary) of states of layers 0 … L: final norm, then unembedding."""
        ...

    def final_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits in float32 (…, vocabulary) of states of layer L+1."""
        ...

    def first_token(self, word: str) -> int:
        """Id of the token a one-word answer begins with."""
        ...
