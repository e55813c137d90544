"""Where a block keeps the matrices that carry values: W_V, W_O and the norms on their way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runs.errors import InputError
from runs.loaded import LoadedModel, materialised
from runs.projections import output_matrix, projections


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
    value = projections(module, heads)[2][:, :-1]
    value = value.repeat_interleave(heads // value.shape[0], 0)
    out, _ = output_matrix(module, heads)
    before, after = _norms(module)
    if before is not None:
        value = norm_matrix(before, value.shape[1]) @ value
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
