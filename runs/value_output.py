"""Where a block keeps the matrices that carry values: W_V, W_O and the norms on their way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runs.errors import InputError
from runs.loaded import LoadedModel, materialised

_ATTENTION = ("attention", "self_attn", "attn", "self_attention")
_OUTPUT = ("o_proj", "dense", "c_proj", "out_proj")
# Fused matrices whose rows are known to be (head, query-key-value, feature).
_FUSED_BY_HEAD = ("GPTNeoXAttention", "BloomAttention")


@dataclass(frozen=True)
class ValueOutput:
    """The OV matrices of one block, norms folded in.

    Attributes
    ----------
    value : float64 tensor (head, feature, head_feature)
    output : float64 tensor (head, head_feature, feature)
    """

    value: Tensor
    output: Tensor


def output_projection(block: nn.Module) -> nn.Module:
    """The linear map after a block's heads.

    Raises
    ------
    InputError
        If none of the known names is there.
    """
    attention = _child(block, _ATTENTION)
    return _child(attention, _OUTPUT)


@torch.no_grad()
def value_output(loaded: LoadedModel, block: int) -> ValueOutput:
    """W_V and W_O of every head of a block, with the gains of its norms.

    Parameters
    ----------
    loaded
        A model whose attention is one of the known kinds.
    block
        From 1.

    Returns
    -------
    ValueOutput
        The norm before attention (its gain, and the centring of a LayerNorm) is in `value`, a norm after
        it (OLMo-2, Gemma-2) in `output`. The factor 1/rms of each token is positive and left out, as
        are biases and everything the block does besides attention. Grouped heads read their group's
        values.

    Raises
    ------
    InputError
        If the matrices are not found.
    """
    module, heads = loaded.blocks[block - 1], loaded.shape.heads
    attention = _child(module, _ATTENTION)
    value = _value_matrix(attention, heads)
    output = _matrix(_child(attention, _OUTPUT))
    width = output.shape[0] // heads
    value = value.view(value.shape[0], -1, width).transpose(0, 1)
    value = value.repeat_interleave(heads // value.shape[0], 0)
    before, after = _norms(module)
    if before is not None:
        value = norm_matrix(before, value.shape[1]) @ value
    out = output.view(heads, width, -1)
    if after is not None:
        out = out @ norm_matrix(after, out.shape[-1])
    return ValueOutput(value, out)


@torch.no_grad()
def token_overlap(loaded: LoadedModel, vocabulary: int) -> Tensor:
    """W_U W_E (feature, feature) in float64, with the final norm folded in.

    Logits are centred over the vocabulary, which the softmax does not see. Entries beyond `vocabulary`
    are left out. Costs vocabulary · feature² multiplications.
    """
    embedding = materialised(loaded.model.get_input_embeddings(), "weight")[:vocabulary]
    unembedding = loaded.unembedding.weight[:vocabulary]
    if embedding.shape[1] != unembedding.shape[1]:
        raise InputError(
            f"{loaded.shape.architecture}: embedding and unembedding have different widths; "
            "`ov_copying` cannot compare them"
        )
    mean = unembedding.double().mean(0)
    found = torch.zeros(unembedding.shape[1], embedding.shape[1], dtype=torch.float64)
    for start in range(0, len(embedding), 8192):
        rows = slice(start, start + 8192)
        centred = unembedding[rows].cpu().double() - mean.cpu()
        found += centred.T @ embedding[rows].cpu().double()
    return norm_matrix(loaded.final_norm, found.shape[0]) @ found


@torch.no_grad()
def norm_matrix(norm: nn.Module, width: int) -> Tensor:
    """The linear part (feature, feature) of a LayerNorm or RMSNorm, for row vectors from the left.

    Found by asking the norm, so that gains stored as γ − 1 or not at all need no table.
    """
    like = next(norm.parameters(), torch.zeros(1))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(width, generator=generator).to(like.device, like.dtype)
    odd = (norm(x) - norm(-x)).double().cpu() / 2  # without bias
    moved = (norm(x + 3) - norm(-x + 3)).double().cpu() / 2
    plain = x.double().cpu()
    centring = torch.eye(width, dtype=torch.float64)
    if torch.allclose(odd, moved, rtol=1e-2, atol=1e-3 * float(odd.abs().max() + 1e-30)):
        centring -= 1 / width
        plain = plain - plain.mean()
    found: Tensor = centring * (odd / plain * plain.square().mean().sqrt())
    return found


def _norms(block: nn.Module) -> tuple[nn.Module | None, nn.Module | None]:
    """The norm a block's attention reads through, and the one its output goes through."""
    there = dict(block.named_children())
    before = there.get("input_layernorm") or there.get("ln_1")
    after = None
    if "post_feedforward_layernorm" in there:  # then the other post-norm is of attention
        after = there.get("post_attention_layernorm")
    if before is None and after is None:
        raise InputError(
            f"{type(block).__name__}: the norm around attention is not found; add it to "
            "runs/value_output.py"
        )
    return before, after


def _value_matrix(attention: nn.Module, heads: int) -> Tensor:
    """W_V (feature, values), row vectors from the left."""
    there = dict(attention.named_children())
    if "v_proj" in there:
        return _matrix(there["v_proj"])
    if "c_attn" in there:
        whole = _matrix(there["c_attn"])
        return whole[:, whole.shape[1] * 2 // 3 :]
    if "query_key_value" in there and type(attention).__name__ in _FUSED_BY_HEAD:
        whole = _matrix(there["query_key_value"])
        return whole.view(whole.shape[0], heads, 3, -1)[:, :, 2].reshape(whole.shape[0], -1)
    raise InputError(
        f"{type(attention).__name__}: the values' matrix is not found; add it to runs/value_output.py"
    )


def _matrix(module: nn.Module) -> Tensor:
    """A linear map's matrix in float64, (in, out) as row vectors take it."""
    weight = materialised(module, "weight").detach().cpu().double()
    return weight if type(module).__name__ == "Conv1D" else weight.T.contiguous()


def _child(module: nn.Module, names: tuple[str, ...]) -> nn.Module:
    there = dict(module.named_children())
    for name in names:
        if name in there:
            return there[name]
    raise InputError(
        f"{type(module).__name__}: has none of {', '.join(names)}; add its name to runs/value_output.py"
    )
