"""A block's attention weights head by head, checked against the queries and keys that it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from runs.attention_tap import AttentionTap
from runs.errors import CheckpointError, InputError
from runs.loaded import LoadedModel, materialised
from runs.projections import attention_module, output_matrix, projections

Floats = NDArray[np.float64]

_BEFORE = ("input_layernorm", "ln_1", "norm_1", "attention_norm")
_FULL, _HALF = 1e-3, 5e-2  # of the largest entry, in float32 and in 8 or 11 bits


@dataclass(frozen=True)
class Observed:
    """What one block computed of one sample.

    Attributes
    ----------
    x : tensor (position, d)
        What the projections read.
    state : tensor (position, d)
        What the block reads, before its norm.
    output : tensor (position, d)
        What attention adds.
    q, k, v : tensors (head or kv_head, position, feature)
        After rotary embedding and norms of q and k.
    rule, statistics : mappings
        As `runs.attention_tap.Inspector` has them, of this sample.
    rotary : tuple of tensors (position, rotary), or None
        Cosines and sines that the block was given.
    """

    x: torch.Tensor
    state: torch.Tensor
    output: torch.Tensor
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    rule: Mapping[str, Any]
    statistics: Mapping[str, torch.Tensor]
    rotary: tuple[torch.Tensor, torch.Tensor] | None


@dataclass(frozen=True)
class HeadWeights:
    """Projections of one block; biases are a last row, read by a column of ones.

    Attributes
    ----------
    q, k, v : float64 arrays (head, d + 1, feature)
        x W = q; key and value heads repeated for the query heads that read them.
    o : float64 array (head, feature, d)
    gain : float64 array (d,) or None
        Of the norm before them, which can be folded into q, k and v; None where there is none.
    """

    q: Floats
    k: Floats
    v: Floats
    o: Floats
    gain: Floats | None

    def folded(self, name: str) -> Floats:
        """One of q, k, v without the bias, the norm's gain folded in."""
        weight: Floats = getattr(self, name)[:, :-1]
        return weight if self.gain is None else weight * self.gain[:, None]


def observe(
    loaded: LoadedModel, tokens: NDArray[np.int32], take: Callable[[int, Observed], None]
) -> None:
    """Show one sample without padding to a model, and hand on what each block's attention computed.

    Parameters
    ----------
    loaded
        The model.
    tokens : int array (position,)
    take
        Called with the block's number, from 1, and what it computed.
    """
    seen: dict[int, _Seen] = {}
    ids = torch.as_tensor(tokens[None], dtype=torch.long, device=loaded.device)

    def inspect(
        block: int,
        query: Any,
        key: Any,
        value: Any,
        rule: Mapping[str, Any],
        statistics: Any,
        output: torch.Tensor,
    ) -> None:
        each = {name: numbers[0] for name, numbers in statistics.items()}
        seen[block].core = (query[0], key[0], value[0], rule, each)

    def finish(block: int, output: torch.Tensor) -> None:
        one = seen.pop(block)
        if one.core is None:
            raise InputError(
                f"block {block} computes its attention outside of transformers' interface"
            )
        q, k, v, rule, statistics = one.core
        take(block, Observed(one.x, one.state, output, q, k, v, rule, statistics, one.rotary))

    with ExitStack() as stack:
        for block, module in enumerate(loaded.blocks, start=1):
            stack.enter_context(_watched(module, block, seen, finish))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(AttentionTap(inspect=inspect))
        loaded.forward(ids)


@dataclass
class _Seen:
    state: torch.Tensor
    x: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    rotary: tuple[torch.Tensor, torch.Tensor] | None = None
    core: tuple[Any, Any, Any, Mapping[str, Any], Any] | None = None


@contextmanager
def _watched(
    module: nn.Module,
    block: int,
    seen: dict[int, _Seen],
    finish: Callable[[int, torch.Tensor], None],
) -> Iterator[None]:
    """Hooks on a block and its attention for as long as this holds."""
    attention = attention_module(module)

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state = args[0] if args else kwargs["hidden_states"]
        seen[block] = _Seen(state[0])

    def read(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        seen[block].x = x[0]
        pair = kwargs.get("position_embeddings")
        if pair is None:
            pair = next((a for a in args[1:] if isinstance(a, tuple) and len(a) == 2), None)
        seen[block].rotary = None if pair is None else (pair[0][0], pair[1][0])

    def leave(_: nn.Module, args: Any, output: Any) -> None:
        finish(block, (output[0] if isinstance(output, tuple) else output)[0])

    handles = [
        module.register_forward_pre_hook(enter, with_kwargs=True),
        attention.register_forward_pre_hook(read, with_kwargs=True),
        attention.register_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def has_query_key_norm(block: nn.Module) -> bool:
    """Whether queries or keys are normalised, so that W_Q W_Kᵀ alone does not make the logits."""
    return any(
        "norm" in name and not isinstance(child, nn.Identity)
        for name, child in attention_module(block).named_children()
    )


def head_weights(loaded: LoadedModel, block: int, seen: Observed) -> HeadWeights:
    """Projections of one block, head by head.

    Parameters
    ----------
    loaded
        The model.
    block
        From 1.
    seen
        What that block computed of any sample of two tokens or more.

    Raises
    ------
    InputError
        If the projections have no known name.
    CheckpointError
        If they do not give the queries, keys, values and output that were seen: then something stands
        between (clipping, a norm) and they are not what decides.

    Notes
    -----
    Memory: a float64 copy of the block's attention weights.
    """
    module, heads = loaded.blocks[block - 1], seen.q.shape[0]
    q, k, v = (part.numpy() for part in projections(module, heads))
    output, o_bias = (part.numpy() for part in output_matrix(module, heads))
    ones = np.concatenate([_array(seen.x), np.ones((len(seen.x), 1))], axis=1)
    tolerance = _FULL if seen.x.dtype == torch.float32 else _HALF
    rows = [("values", ones @ v, seen.v)]
    if not has_query_key_norm(module):
        rows += [
            ("queries", _turned(ones @ q, seen), seen.q),
            ("keys", _turned(ones @ k, seen), seen.k),
        ]
    repeat = heads // k.shape[0]
    if seen.rule["sink"] is None:
        # The first query sees one key, so its output is that key's value.
        first = np.repeat(rows[0][1][:, 0], repeat, axis=0)
        made = np.einsum("hk,hkd->d", first, output) + o_bias
        rows.append(("output", made, seen.output[0]))
    for what, made, got in rows:
        wanted = _array(got)
        if not np.abs(made - wanted).max() <= tolerance * max(np.abs(wanted).max(), 1e-6):
            raise CheckpointError(
                f"block {block}: its weights do not give its {what}; something stands between (clipping, "
                "a norm), so leave `qk_norms` out of capture.visits"
            )
    k, v = (np.repeat(w, repeat, axis=0) for w in (k, v))
    return HeadWeights(q, k, v, output, _gain(module, seen, tolerance))


def _turned(rows: Floats, seen: Observed) -> Floats:
    """Queries or keys (head, position, feature) with the rotary embedding that the block was given."""
    if seen.rotary is None:
        return rows
    cosine, sine = (_array(x) for x in seen.rotary)
    width = cosine.shape[-1]
    part = rows[..., :width]
    half = np.concatenate([-part[..., width // 2 :], part[..., : width // 2]], axis=-1)
    return np.concatenate([part * cosine + half * sine, rows[..., width:]], axis=-1)


def _gain(block: nn.Module, seen: Observed, tolerance: float) -> Floats | None:
    """Gain of the norm before attention, if it is one that was seen to do just that."""
    norm = next(
        (
            getattr(block, name)
            for name in _BEFORE
            if isinstance(getattr(block, name, None), nn.Module)
        ),
        None,
    )
    weight = None if norm is None else getattr(norm, "weight", None)
    if norm is None or weight is None:
        return None
    state, x = _array(seen.state), _array(seen.x)
    bias = getattr(norm, "bias", None)
    if isinstance(norm, nn.LayerNorm):
        state = state - state.mean(-1, keepdims=True)
    state = state / np.sqrt(np.square(state).mean(-1, keepdims=True) + _epsilon(norm))
    x = x if bias is None else x - _array(materialised(norm, "bias"))
    for gain in (_array(materialised(norm, "weight")), 1 + _array(materialised(norm, "weight"))):
        if np.abs(state * gain - x).max() <= tolerance * max(np.abs(x).max(), 1e-6):
            return gain
    return None


def _epsilon(norm: nn.Module) -> float:
    return float(getattr(norm, "eps", getattr(norm, "variance_epsilon", 0.0)))


def _array(x: torch.Tensor) -> Floats:
    found: Floats = x.detach().float().cpu().double().numpy()
    return found
