"""nnsight as a backend: a trace reads the states, the registered attention function the rows."""

from __future__ import annotations

import inspect
from operator import attrgetter
from typing import Any

import torch

from runs.attention_tap import AttentionTap, attention_as, register
from runs.backends.base import AttentionListener, HiddenListener
from runs.loaded import LoadedModel, padding_options, wrap


class NNsightTraces:
    """One trace a forward pass, through a user's own `NNsight` model or one made here.

    Parameters
    ----------
    loaded
        The model.
    traced
        An `NNsight` around it or around its base model; interventions that were set on it take part.
    fused_within
        As `AttentionTap`.
    """

    def __init__(
        self, loaded: LoadedModel, traced: Any = None, *, fused_within: float | None = None
    ) -> None:
        from nnsight import NNsight

        self.loaded = loaded
        self._fused_within = fused_within
        # Around the base model, so that no unembedding is computed.
        self._traced = NNsight(loaded.model.base_model) if traced is None else traced
        self._root: Any = self._traced._module
        paths = {id(module): path for path, module in self._root.named_modules()}
        self._blocks = [self._envoy(paths[id(block)]) for block in loaded.blocks]
        self._norm = self._envoy(paths[id(loaded.final_norm)])

    def observe(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        layers: frozenset[int],
        hidden: HiddenListener,
        attention: AttentionListener | None = None,
    ) -> torch.Tensor:
        """As `Backend.observe`."""
        options = padding_options(self._root, mask)
        if "logits_to_keep" in inspect.signature(self._root.forward).parameters:
            options["logits_to_keep"] = 1  # type: ignore[assignment]  # an option, not a tensor
        final: list[torch.Tensor] = []
        last = len(self._blocks) + 1
        with (
            attention_as(self.loaded.model, register()),
            AttentionTap(attention, mask, fused_within=self._fused_within),
            # Reads must come in the order of execution.
            self._traced.trace(input_ids=tokens, use_cache=False, **options),
        ):
            if 0 in layers:
                hidden(0, self._blocks[0].input)
            for layer, block in enumerate(self._blocks, start=1):
                if layer in layers:
                    hidden(layer, _first(block.output))
            final.append(self._norm.output)
            if last in layers:
                hidden(last, final[0])
        return final[0]

    def _envoy(self, path: str) -> Any:
        return attrgetter(path)(self._traced)


def load_nnsight(traced: Any, fused_within: float | None = None) -> NNsightTraces:
    """A backend around a user's `NNsight` model.

    Raises
    ------
    InputError
        If what it wraps is not a Hugging Face causal language model.
    """
    return NNsightTraces(wrap(traced._module, where="NNsight"), traced, fused_within=fused_within)


def _first(output: Any) -> torch.Tensor:
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found
