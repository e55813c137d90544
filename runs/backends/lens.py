"""TransformerLens as a backend: its hook points give states and attention patterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from attention.patterns import pattern_statistics
from runs.backends.base import AttentionListener, HiddenListener
from runs.errors import InputError, line_of
from runs.loaded import LoadedModel, padding_options


class LensBridge:
    """Hook points of a `TransformerBridge`, a user's own or one made here.

    Attention is materialised: two (sample, head, position, position) matrices of one block at a time.

    Parameters
    ----------
    loaded
        The model. A bridge made here changes it in place, and forces eager attention on it.
    bridge
        A `TransformerBridge`; hooks that were set on it take part.

    Raises
    ------
    InputError
        If TransformerLens does not know the architecture.
    """

    def __init__(self, loaded: LoadedModel, bridge: Any = None) -> None:
        self.loaded = loaded
        self._sink = any(n.endswith("sinks") for n, _ in loaded.model.named_parameters())
        self._bridge = _bridged(loaded) if bridge is None else bridge

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
        count = self.loaded.shape.blocks
        final: list[torch.Tensor] = []
        scores: dict[int, torch.Tensor] = {}
        hooks: list[tuple[str, Callable[..., None]]] = []

        def reader(layer: int) -> Callable[..., None]:
            def read(state: torch.Tensor, hook: Any) -> None:
                if layer == count + 1:
                    final.append(state)
                if layer in layers:
                    hidden(layer, state)

            return read

        def score(block: int) -> Callable[..., None]:
            # Eager attention may overwrite what it hands over.
            return lambda state, hook: scores.update({block: state.clone()})

        def pattern(block: int) -> Callable[..., None]:
            def read(state: torch.Tensor, hook: Any) -> None:
                assert attention is not None
                rows = pattern_statistics(state, scores.pop(block), key_mask=mask, sink=self._sink)
                attention(block, rows)

            return read

        if 0 in layers:
            hooks.append(("blocks.0.hook_in", reader(0)))
        for block in range(1, count + 1):
            if attention is not None:
                hooks.append((f"blocks.{block - 1}.attn.hook_attn_scores", score(block)))
                hooks.append((f"blocks.{block - 1}.attn.hook_pattern", pattern(block)))
            if block in layers:
                hooks.append((f"blocks.{block - 1}.hook_out", reader(block)))
        hooks.append(("ln_final.hook_out", reader(count + 1)))
        # Unknown names would be passed over in silence.
        missing = [name for name, _ in hooks if name not in self._bridge.hook_dict]
        if missing:
            raise InputError(
                f"TransformerLens has no hook `{missing[0]}` on {self.loaded.shape.architecture}; use "
                'capture.backend = "torch"'
            )
        options = padding_options(self.loaded.model, mask)
        self._bridge.run_with_hooks(tokens, fwd_hooks=hooks, return_type=None, **options)
        return final[0]


def load_bridge(bridge: Any) -> LensBridge:
    """A backend around a user's `TransformerBridge`."""
    from runs.architectures import model_shape

    model = bridge.original_model
    shape = model_shape(model.config, where="TransformerBridge")
    device = next(model.parameters()).device
    # The bridge has put its own modules in place of the blocks: only hook points are used.
    return LensBridge(LoadedModel(model, [], model, shape, device), bridge)


def _bridged(loaded: LoadedModel) -> Any:
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    name = loaded.shape.architecture
    try:
        return build_bridge_from_module(loaded.model, name, hf_config=loaded.model.config)
    except Exception as error:  # it raises what it likes for what it does not know
        raise InputError(
            f'TransformerLens cannot bridge {name} ({line_of(error)}); use capture.backend = "torch"'
        ) from None
