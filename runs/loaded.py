"""A model in memory, and the few things capture asks of it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from runs.architectures import ModelShape, find_modules, model_shape, text_config
from runs.attention_tap import AttentionTap
from runs.errors import InputError


@dataclass(frozen=True)
class Unembedding:
    """From final states to logits.

    Attributes
    ----------
    weight : tensor (vocabulary, feature)
    bias : tensor (vocabulary,) or None
    softcap : float or None
        The c of c·tanh(logit / c) that some models apply.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    softcap: float | None = None

    def on(self, device: torch.device) -> Unembedding:
        """The same where states are."""
        if self.weight.device == device:
            return self
        bias = None if self.bias is None else self.bias.to(device)
        return Unembedding(self.weight.to(device), bias, self.softcap)

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """All logits of a few states (…, feature) in float32, or float64 if the states are."""
        found = torch.nn.functional.linear(state, self.weight, self.bias)
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        return found if self.softcap is None else self.softcap * torch.tanh(found / self.softcap)


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory, with the modules that hooks attach to.

    Attributes
    ----------
    model
        A Hugging Face causal language model, or one that reads images too, in evaluation mode.
    blocks, final_norm
        Where hooks attach.
    shape : ModelShape
    device : torch.device
        Where inputs go; a model spread by a device map moves its states itself.
    """

    model: Any
    blocks: list[nn.Module]
    final_norm: nn.Module
    shape: ModelShape
    device: torch.device

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Final hidden states (sample, position, feature); the unembedding is not computed.

        Parameters
        ----------
        tokens : int64 tensor (sample, position)
        mask : bool tensor (sample, position), optional
            True at real tokens, which must lie together; padding may be on either side.
        """
        base = self.model.base_model
        state: torch.Tensor = base(
            input_ids=tokens, use_cache=False, **padding_options(base, mask)
        ).last_hidden_state
        return state

    @property
    def unembedding(self) -> Unembedding:
        """The output embedding and what follows it."""
        head = self.model.get_output_embeddings()
        bias = None if getattr(head, "bias", None) is None else materialised(head, "bias")
        sizes = text_config(self.model.config)
        softcap = getattr(sizes, "final_logit_softcapping", None)
        return Unembedding(materialised(head, "weight"), bias, softcap)

    def ablated_losses(
        self,
        tokens: NDArray[np.int32],
        length: NDArray[np.int32],
        head: tuple[int, int] | None,
        *,
        vocabulary: int | None = None,
    ) -> NDArray[np.float64]:
        """Mean surprisal in nats of each sample, with one (block, head) silenced or none.

        Entries of the unembedding beyond `vocabulary` are padding and left out.
        """
        silent = frozenset() if head is None else frozenset({head})
        found = self.surprisals(tokens, length, zero_heads=silent, vocabulary=vocabulary)
        means: NDArray[np.float64] = np.nanmean(found, axis=1)
        return means

    def surprisals(
        self,
        tokens: NDArray[np.int32],
        length: NDArray[np.int32],
        *,
        zero_heads: frozenset[tuple[int, int]] = frozenset(),
        vocabulary: int | None = None,
    ) -> NDArray[np.float64]:
        """Surprisal in nats of tokens 1 … of each sample (sample, position − 1); NaN at padding.

        Heads (block, head) of `zero_heads` are silenced together. Entries of the unembedding beyond
        `vocabulary` are padding and left out.
        """
        with torch.inference_mode(), AttentionTap(zero_heads=zero_heads):
            return self.predicted(tokens, length, vocabulary=vocabulary)

    @torch.inference_mode()
    def predicted(
        self,
        tokens: NDArray[np.int32],
        length: NDArray[np.int32],
        *,
        vocabulary: int | None = None,
    ) -> NDArray[np.float64]:
        """As `surprisals`, under whatever tap the caller holds."""
        from probes.tokens import token_statistics

        ids = torch.as_tensor(tokens, dtype=torch.long, device=self.device)
        valid = torch.arange(ids.shape[1]) < torch.as_tensor(length)[:, None]
        state = self.forward(ids)[:, :-1]
        head_of = self.unembedding.on(state.device)
        targets = torch.where(valid[:, 1:].to(ids.device), ids[:, 1:], -1).to(state.device)
        losses = token_statistics(
            state,
            head_of.weight,
            targets,
            bias=head_of.bias,
            vocab_size=vocabulary,
            softcap=head_of.softcap,
        )
        found: NDArray[np.float64] = losses["surprisal"].cpu().double().numpy()
        return found


def wrap(model: Any, *, device: torch.device | None = None, where: str = "model") -> LoadedModel:
    """Make a model that somebody has in memory ready for capture.

    Parameters
    ----------
    model
        A Hugging Face causal language model.
    device
        Where inputs go; by default where its first parameter is.
    where
        Named in errors.

    Raises
    ------
    InputError
        If it is no causal language model, or its blocks are not found.
    """
    if not hasattr(model, "config") or _head(model) is None:
        raise InputError(
            f"{where}: {type(model).__name__} is not a Hugging Face causal language model with its "
            "output embedding; give what AutoModelForCausalLM.from_pretrained(…) returns"
        )
    shape = model_shape(model.config, where=where)
    blocks, final_norm = find_modules(model, shape.architecture)
    target = device or next(model.parameters()).device
    return LoadedModel(model, blocks, final_norm, shape, target)


def _head(model: Any) -> Any:
    try:
        return model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None


def padding_options(base: Any, mask: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Arguments that tell a model about padding on the left.

    Padding on the right needs none: under a causal mask no real query sees it.
    """
    if mask is None or bool(mask[:, 0].all()):
        return {}
    places = (mask.long().cumsum(1) - 1).clamp_min(0)
    options = {"attention_mask": mask.long(), "position_ids": places}
    known = inspect.signature(base.forward).parameters
    return {name: value for name, value in options.items() if name in known}


def materialised(module: nn.Module, name: str) -> torch.Tensor:
    """A parameter's values, also if a device map keeps them on disk until they are used."""
    found: torch.Tensor = getattr(module, name)
    if not found.is_meta:
        return found
    hook: Any = getattr(module, "_hf_hook", None)
    values: torch.Tensor = hook.weights_map[name]
    return values
