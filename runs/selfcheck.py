"""The self-check at load: what a backend reports must be what the model itself reports."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from runs.architectures import ADD_A_ROW
from runs.attention_tap import attention_as
from runs.backends.base import Backend
from runs.errors import InputError
from runs.loaded import LoadedModel

_TOKENS = 12
# Largest difference in float32, and mean difference where a forward pass rounds to 8 or 11 bits.
_FULL, _HALF = 1e-4, 5e-2


@dataclass(frozen=True)
class OwnView:
    """What a model says of itself about a few tokens, with eager attention.

    Attributes
    ----------
    tokens : int64 tensor (1, position)
    hidden : tuple of tensors
        L + 1 entries, of which the last is after the final norm.
    patterns : tuple of tensors (1, head, position, position)
        Empty if the model gives none.
    logits : tensor (1, position, vocabulary)
    """

    tokens: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    patterns: tuple[torch.Tensor, ...]
    logits: torch.Tensor


def own_view(loaded: LoadedModel) -> OwnView:
    """Ask a model for its own hidden states, patterns and logits; ask before a backend changes it."""
    ids = _words(loaded)[None]
    with torch.inference_mode(), attention_as(loaded.model, "eager"):
        found: Any = loaded.model(
            input_ids=ids, use_cache=False, output_hidden_states=True, output_attentions=True
        )
    return OwnView(ids, found.hidden_states, tuple(found.attentions or ()), found.logits)


def _words(loaded: LoadedModel) -> torch.Tensor:
    """A few token ids; none that stands for a picture, which a model looks for and does not find."""
    config, count = loaded.model.config, loaded.shape.vocabulary
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    signs = {getattr(config, name, None) for name in names} if loaded.shape.reads_images else set()
    words = [i for i in range(min(count, _TOKENS + len(signs))) if i not in signs]
    return torch.tensor(words, device=loaded.device)[torch.arange(_TOKENS) % len(words)]


def self_check(backend: Backend, view: OwnView, products: Collection[str]) -> None:
    """Compare a backend's states, attention rows and logits with the model's own.

    Parameters
    ----------
    backend
        The backend, on the model that `view` is of.
    view
        From `own_view`.
    products
        What will be captured: attention and unembedding are checked only if they will be used.

    Raises
    ------
    InputError
        If a layer differs, attention rows are not those of the model's own patterns, or the logits are
        not the unembedding of the final state.
    """
    seen: dict[int, torch.Tensor] = {}
    rows: dict[int, torch.Tensor] = {}
    shape = backend.loaded.shape
    with torch.inference_mode():
        final = backend.observe(
            view.tokens,
            None,
            layers=frozenset(range(shape.layers)),
            hidden=lambda layer, state: seen.update({layer: state.clone()}),
            attention=(lambda block, s: rows.update({block: s["entropy"]}))
            if "attention" in products
            else None,
        )
        _check_hidden(seen, view, shape.architecture)
        if "attention" in products:
            _check_attention(rows, view, shape.architecture)
        unembedded = [p for p in ("tokens", "fisher", "contexts") if p in products]
        if unembedded:
            _check_logits(final, backend.loaded, view, unembedded)


def _check_hidden(seen: dict[int, torch.Tensor], view: OwnView, architecture: str) -> None:
    blocks = len(view.hidden) - 1
    wanted = {**{i: view.hidden[i] for i in range(blocks)}, blocks + 1: view.hidden[blocks]}
    for layer, own in wanted.items():
        got = seen.get(layer)
        if got is None or got.shape != own.shape:
            raise InputError(
                f"self-check: layer {layer} of {architecture} was not seen; {ADD_A_ROW}"
            )
        scale = own.abs().max().clamp_min(1.0)
        if not _close(got / scale, own.to(got.device) / scale):
            raise InputError(
                f"self-check: layer {layer} of {architecture} differs from the model's own hidden "
                f"state; {ADD_A_ROW}"
            )


def _check_attention(rows: dict[int, torch.Tensor], view: OwnView, architecture: str) -> None:
    for block, pattern in enumerate(view.patterns, start=1):
        p = pattern.double()
        rest = (1 - p.sum(-1)).clamp_min(0)  # a learned sink's mass, or rounding
        entropy = torch.special.entr(p).sum(-1) + torch.special.entr(rest)
        got = rows.get(block)
        if got is None or not _close(got, entropy.to(got.device).to(got.dtype), view.logits.dtype):
            raise InputError(
                f"self-check: attention rows of block {block} of {architecture} are not those of the "
                "model's own patterns, so this kind of attention cannot be captured; leave `attention` "
                'out of capture.products, or set capture.backend = "transformer_lens"'
            )
    if not view.patterns:
        raise InputError(
            f"self-check: {architecture} gives no attention patterns to check against; leave "
            "`attention` out of capture.products"
        )


def _check_logits(
    final: torch.Tensor, loaded: LoadedModel, view: OwnView, products: list[str]
) -> None:
    logits = loaded.unembedding.on(final.device).logits(final)
    own = view.logits.to(logits.device)
    scale = own.abs().max().clamp_min(1.0)
    if not _close(logits / scale, own / scale, view.logits.dtype):
        also = "".join(f", and `{p}`" for p in products[1:])
        raise InputError(
            f"self-check: the logits of {loaded.shape.architecture} are not the unembedding of its final "
            f"state (it scales or bends them in its own way); leave `{products[0]}` out of "
            f"capture.products{also}"
        )


def _close(got: torch.Tensor, own: torch.Tensor, dtype: torch.dtype | None = None) -> bool:
    difference = (got.float() - own.float()).abs()
    if (dtype or got.dtype) == torch.float32:
        return bool(difference.max() <= _FULL)
    return bool(difference.mean() <= _HALF)
