"""The linear maps of a block's attention: queries, keys, values and output, head by head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runs.errors import InputError
from runs.loaded import materialised

_APART = ("q_proj", "k_proj", "v_proj")
_FUSED = ("query_key_value", "c_attn")
_OUTPUTS = ("o_proj", "dense", "c_proj", "out_proj")
# Fused matrices whose rows are known to be (head, query-key-value, feature).
_FUSED_BY_HEAD = ("GPTNeoXAttention", "BloomAttention")
_MEND = "add it to runs/projections.py, or leave visits that read attention's weights out"


def attention_module(block: nn.Module) -> nn.Module:
    """The attention of a decoder block, known by the names of its projections.

    Raises
    ------
    InputError
        If there is none.
    """
    for module in block.modules():
        names = {name for name, _ in module.named_children()}
        if names.issuperset(_APART) or names.intersection(_FUSED):
            return module
    raise InputError(
        f"{type(block).__name__}: no projections of queries, keys and values by a known name; {_MEND}"
    )


def output_projection(block: nn.Module) -> nn.Module:
    """The linear map after a block's heads.

    Raises
    ------
    InputError
        If none of the known names is there.
    """
    attention = attention_module(block)
    for name in _OUTPUTS:
        if _has(attention, name):
            found: nn.Module = getattr(attention, name)
            return found
    raise InputError(f"{type(attention).__name__}: has none of {', '.join(_OUTPUTS)}; {_MEND}")


@torch.no_grad()
def projections(block: nn.Module, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """W_Q, W_K and W_V of a block.

    Parameters
    ----------
    block
        A decoder block.
    heads
        Query heads.

    Returns
    -------
    tuple of float64 tensors (head, d + 1, feature)
        As row vectors take them, the bias in the last row; as many heads of keys and values as there are.

    Raises
    ------
    InputError
        If they are not found, or the layout of a fused matrix is not known.
    """
    attention = attention_module(block)
    if _has(attention, "query_key_value"):
        if type(attention).__name__ not in _FUSED_BY_HEAD:
            raise InputError(
                f"{type(attention).__name__}: how its fused matrix is laid out is not known; {_MEND}"
            )
        whole = _with_bias(attention.query_key_value)
        each = whole.view(len(whole), heads, 3, -1)
        q, k, v = (each[:, :, part].transpose(0, 1) for part in range(3))
        return q, k, v
    if _has(attention, "c_attn"):
        parts = list(_with_bias(attention.c_attn).chunk(3, 1))
    else:
        parts = [_with_bias(getattr(attention, name)) for name in _APART]
    size = parts[0].shape[1] // heads
    q, k, v = (part.reshape(len(part), -1, size).transpose(0, 1) for part in parts)
    return q, k, v


@torch.no_grad()
def output_matrix(block: nn.Module, heads: int) -> tuple[Tensor, Tensor]:
    """W_O (head, feature, d) and its bias (d,) in float64.

    Raises
    ------
    InputError
        If it is not found.
    """
    whole = _with_bias(output_projection(block))
    return whole[:-1].view(heads, -1, whole.shape[1]), whole[-1]


def _with_bias(linear: nn.Module | Tensor) -> Tensor:
    """A linear map (in + 1, out) in float64, the bias in the last row."""
    assert isinstance(linear, nn.Module)
    weight = materialised(linear, "weight").detach().cpu().double()
    if type(linear).__name__ != "Conv1D":  # GPT-2 keeps (in, out), everybody else (out, in)
        weight = weight.T
    bias = weight.new_zeros(weight.shape[1])
    if getattr(linear, "bias", None) is not None:
        bias = materialised(linear, "bias").detach().cpu().double()
    return torch.cat([weight, bias[None]])


def _has(module: nn.Module, name: str) -> bool:
    return isinstance(getattr(module, name, None), nn.Module)
