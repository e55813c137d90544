"""Variants of the small GPT-NeoX: σReparam, fewer nonlinearities, regularised attention entropy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import GPTNeoXForCausalLM

from runs.attention_tap import register
from runs.models.neox import TrainConfig, build_model
from runs.models.sigma_reparam import reparametrise
from runs.models.tempered import add_temperatures

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "none": nn.Identity,
}


@dataclass(frozen=True)
class Regulariser:
    """Learned temperatures and thresholds, and the penalty that ties entropies to these.

    Attributes
    ----------
    convention : str
        A key of `attention.regularisation.PENALTIES`; empty for temperatures without a penalty.
    strength, margin : float
        λ, and γ as a share of E_max.
    reference : str
        E_max, a key of `attention.regularisation.REFERENCES`.
    temperature, threshold : float
        Initial t and θ.
    """

    convention: str = "jha2025_paper"
    strength: float = 1e-5
    margin: float = 0.2
    reference: str = "log_length"
    temperature: float = 0.1
    threshold: float = 0.5


@dataclass(frozen=True)
class Variant:
    """What distinguishes a model from the plain GPT-NeoX with the same initial weights.

    Attributes
    ----------
    name, about : str
        A word, and what it is.
    reparametrisation : str
        Of every linear layer: a key of `runs.models.sigma_reparam.INITIALISATIONS`, or empty.
    norms : bool
        Whether the norms stay, the final one too; otherwise they are the identity.
    activation : str
        Of the MLP, a key of `ACTIVATIONS`.
    regulariser : Regulariser or None
    """

    name: str
    about: str
    reparametrisation: str = ""
    norms: bool = True
    activation: str = "gelu"
    regulariser: Regulariser | None = None


def build_variant(config: TrainConfig, variant: Variant) -> GPTNeoXForCausalLM:
    """Make the model of a variant; its initial weights are those of `build_model`.

    Parameters
    ----------
    config
        Sizes and seed.
    variant
        What to change.

    Returns
    -------
    GPTNeoXForCausalLM
        With the attention function that capture listens to.
    """
    model = build_model(config)
    model.set_attn_implementation(register())
    for layer in model.gpt_neox.layers:
        layer.mlp.act = ACTIVATIONS[variant.activation]()
        if not variant.norms:
            layer.input_layernorm = nn.Identity()
            layer.post_attention_layernorm = nn.Identity()
    if not variant.norms:
        model.gpt_neox.final_layer_norm = nn.Identity()
    if variant.reparametrisation:
        reparametrise(model, initialisation=variant.reparametrisation)
    if variant.regulariser is not None:
        rule = variant.regulariser
        add_temperatures(model, temperature=rule.temperature, threshold=rule.threshold)
    return model


def head_matrices(layer: torch.nn.Module, heads: int) -> dict[str, torch.Tensor]:
    """The effective W_Q, W_K, W_V and W_O of a block's heads.

    Parameters
    ----------
    layer
        A block of a GPT-NeoX; in evaluation, else σReparam takes a step.
    heads
        Heads of the block.

    Returns
    -------
    dict of tensors (head, head feature, width)
        `query`, `key`, `value`, and `output` transposed: all of the width of the residual stream.
    """
    attention = layer.attention
    assert isinstance(attention, nn.Module)
    fused = attention.query_key_value
    dense = attention.dense
    assert isinstance(fused, nn.Linear)
    assert isinstance(dense, nn.Linear)
    width = fused.in_features
    weight = fused.weight.detach().view(heads, 3, width // heads, width)
    output = dense.weight.detach().T.view(heads, width // heads, width)
    return {"query": weight[:, 0], "key": weight[:, 1], "value": weight[:, 2], "output": output}


def spectral_norms(matrices: torch.Tensor) -> torch.Tensor:
    """Largest singular value of each matrix (…, row, column), in float64.

    Weights of a run that diverges are finite long before they are NaN, and their products and squares
    overflow float32: then some libraries' SVD gives NaN and others raise.

    Parameters
    ----------
    matrices : tensor (…, row, column)

    Returns
    -------
    float64 tensor (…)
        NaN where an entry is no number.
    """
    exact = matrices.double()
    there = exact.isfinite().all(dim=-1).all(dim=-1)
    norms = torch.linalg.matrix_norm(torch.where(there[..., None, None], exact, 0.0), 2)
    found: torch.Tensor = norms.masked_fill(~there, torch.nan)
    return found


def qk_norms(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """‖W_Qᵀ W_K‖₂ / √d_h of each head, through the two QR factors, never (width, width).

    Parameters
    ----------
    query, key : tensors (head, head feature, width)

    Returns
    -------
    float64 tensor (head,)
        Bare weights: the norm before them and rotary embedding, which turns W_Q against W_K by an
        orthogonal matrix a position, are left out. NaN where a weight is no number.
    """
    _, q = torch.linalg.qr(query.double().transpose(1, 2))
    _, k = torch.linalg.qr(key.double().transpose(1, 2))
    norms: torch.Tensor = spectral_norms(q @ k.transpose(1, 2)) / query.shape[1] ** 0.5
    return norms
