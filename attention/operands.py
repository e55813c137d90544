"""Queries, keys and values laid out for row statistics, and which keys each query sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """What turns q·k into logits and says which of them count."""

    scaling: float
    causal: bool
    window: int | None
    softcap: float | None
    bias: Tensor | None
    sink: Tensor | None

    @property
    def linear(self) -> bool:
        """Whether logits are linear in k, so that their mean is the logit of the mean key."""
        return self.softcap is None and self.bias is None

    def keys(self, start: int, stop: int, length: int) -> tuple[int, int]:
        """Range of keys that some query in start … stop − 1 sees."""
        low = 0 if self.window is None else max(0, start - self.window + 1)
        return low, stop if self.causal else length

    def zero_hidden(self, block: Tensor, start: int, low: int) -> None:
        """Set entries outside the causal band to zero; block is (…, row, key) from (start, low)."""
        if not self.causal:
            return
        place = torch.arange(block.shape[-2], device=block.device)
        # Filled, not `tril_`, which copies what is not contiguous.
        later = block[..., start - low :]
        later.masked_fill_(place > place[:, None], 0)
        if self.window is not None:
            earlier = block[..., : len(place)]
            reach = place[: earlier.shape[-1]] + self.window
            earlier.masked_fill_(reach <= place[:, None] + start - low, 0)

    def band_sum(self, x: Tensor) -> Tensor:
        """Sum over visible positions of x (batch, …, position, feature), for each query."""
        if not self.causal:
            return x.sum(-2, keepdim=True).expand_as(x)
        total = x.cumsum(-2)
        if self.window is None or self.window >= x.shape[-2]:
            return total
        out = total.clone()
        out[..., self.window :, :] -= total[..., : -self.window, :]
        return out


@dataclass(frozen=True)
class Operands:
    """Copies of the input, laid out for one product a block.

    q (batch, kv_head, group, position, feature), k and values (batch, kv_head, position, …);
    offset (batch, kv_head, group, position), what centring took off each row, None if not linear;
    padding (batch, position) or None; visible (batch, position), at least 1.
    """

    q: Tensor
    k: Tensor
    values: Tensor
    offset: Tensor | None
    padding: Tensor | None
    visible: Tensor


def operands(q: Tensor, k: Tensor, v: Tensor | None, mask: Tensor | None, rule: Rule) -> Operands:
    """Copy the input into float32 (float64 if it is), keys centred and padding zero."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    grouped = q.view(q.shape[0], k.shape[1], -1, *q.shape[2:])
    padding, real = real_keys(mask, q, dtype)
    visible = rule.band_sum(real).clamp(min=1)
    values = _values(v, k, real)
    if not rule.linear:
        scaled = grouped.to(dtype) * rule.scaling
        return Operands(scaled, k.to(dtype), values, None, padding, visible[..., 0])
    features = k.shape[-1]
    queries = q.new_empty(*grouped.shape[:-1], features + 1, dtype=dtype)
    queries[..., :-1] = grouped
    queries[..., :-1] *= rule.scaling
    keys = k.new_empty(*k.shape[:-1], features + 1, dtype=dtype)
    keys[..., :-1] = k
    keys[..., -1] = 1
    centre = centre_keys(keys, features, padding, real)
    # The mean of the visible logits, without and with the centre that every key lost.
    mean = rule.band_sum(keys[..., :-1]) / visible[:, None]
    inner = (queries[..., :-1] * mean[:, :, None]).sum(-1)
    offset = inner + (queries[..., :-1] @ centre[:, :, None].transpose(-1, -2)).squeeze(-1)
    queries[..., -1] = -inner
    return Operands(queries, keys, values, offset, padding, visible[..., 0])


def real_keys(mask: Tensor | None, q: Tensor, dtype: torch.dtype) -> tuple[Tensor | None, Tensor]:
    """Padding (batch, position), True there or None; and (batch, position, 1) with 1 elsewhere."""
    real = q.new_ones(q.shape[0], q.shape[2], 1, dtype=dtype)
    if mask is None:
        return None, real
    padding = ~mask.bool()
    return padding, real.masked_fill_(padding[..., None], 0)


def centre_keys(keys: Tensor, features: int, padding: Tensor | None, real: Tensor) -> Tensor:
    """Take the mean of the real keys off the first `features` columns, in place; padding is zero.

    keys is (batch, kv_head, position, at least features); returns (batch, kv_head, 1, features).
    """
    _clear(keys, padding)
    inner = keys[..., :features]
    centre = inner.sum(-2, keepdim=True) / real.sum(-2).clamp(min=1)[:, None, :, None]
    inner -= centre
    _clear(keys, padding)
    return centre


def _clear(x: Tensor, padding: Tensor | None) -> None:
    """Zero x (batch, head, position, feature) at padding; NaN there does not survive."""
    if padding is not None:
        x.masked_fill_(padding[:, None, :, None], 0)


def _values(v: Tensor | None, k: Tensor, real: Tensor) -> Tensor:
    """V with three more columns: position, 1 at the first real key, 1. Zero rows at padding."""
    batch, kv_heads, length, _ = k.shape
    width = 0 if v is None else v.shape[-1]
    values = k.new_zeros(batch, kv_heads, length, width + 3, dtype=real.dtype)
    if v is not None:
        values[..., :-3] = v
    values[..., -3:-1] = landmarks(real)[:, None]
    values[..., -1] = 1
    values.masked_fill_(real[:, None] == 0, 0)
    return values


def landmarks(real: Tensor) -> Tensor:
    """Two columns of values, (batch, position, 2): position, and 1 at the first real key.

    real is (batch, position, 1), 0 at padding.
    """
    first = real[..., 0].argmax(-1)
    place = torch.arange(real.shape[1], device=real.device)
    return torch.stack([place.expand(len(real), -1), place == first[:, None]], -1).to(real)


def check(
    q: Tensor, k: Tensor, v: Tensor | None, mask: Tensor | None, rule: Rule, chunk: int | None
) -> None:
    """Raise ValueError if the arguments do not fit each other."""
    if q.ndim != 4 or k.ndim != 4 or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"q {tuple(q.shape)} and k {tuple(k.shape)} must be (batch, head, position, feature) "
            "with head a multiple of kv_head"
        )
    if (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]):
        raise ValueError(
            f"k {tuple(k.shape)} must have the batch, positions and features of q {tuple(q.shape)}"
        )
    if v is not None and v.shape[:-1] != k.shape[:-1]:
        raise ValueError(f"v {tuple(v.shape)} must be {tuple(k.shape[:-1])} and a value feature")
    if mask is not None and mask.shape != (q.shape[0], q.shape[2]):
        raise ValueError(
            f"key_mask {tuple(mask.shape)} must be (batch, position) {(q.shape[0], q.shape[2])}"
        )
    if rule.window is not None and not (rule.causal and rule.window >= 1):
        raise ValueError(f"window={rule.window} must be at least 1 and needs causal=True")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk} must be at least 1, or None for the default")
    full = (*q.shape[:3], q.shape[2])
    shape = () if rule.bias is None or rule.bias.ndim == 1 else rule.bias.shape
    if len(shape) > 4 or any(
        n not in (1, m) for n, m in zip(shape[::-1], full[::-1], strict=False)
    ):
        raise ValueError(f"bias {tuple(shape)} must broadcast to {full}, or be one slope a head")
    for name, vector in (("sink", rule.sink), ("bias", rule.bias)):
        if vector is not None and vector.ndim == 1 and len(vector) != q.shape[1]:
            raise ValueError(
                f"{name} of length {len(vector)} must have one value a head: {q.shape[1]}"
            )


def check_normaliser(q: Tensor, log_normaliser: Tensor) -> None:
    """Raise ValueError if a normaliser is not one number a query."""
    if log_normaliser.shape != q.shape[:3]:
        raise ValueError(
            f"log_normaliser {tuple(log_normaliser.shape)} must be (batch, head, position) "
            f"{tuple(q.shape[:3])}"
        )
