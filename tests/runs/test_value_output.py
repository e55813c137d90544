"""Value and output matrices, norms as matrices and copying, against what blocks compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from runs.loaded import LoadedModel
from runs.projections import output_projection
from runs.value_output import norm_matrix, token_overlap, value_output
from runs.visits import VISITS
from tests.runs.test_repeated import EVERY, loaded_tiny, spec_of


@pytest.mark.parametrize("name", EVERY)
def test_values_and_outputs_are_what_the_block_computes(name: str) -> None:
    """Differences of two inputs of equal norm, so that biases and 1/rms fall out."""
    loaded = loaded_tiny(name)
    if name == "OLMo":  # it cuts its values off, which no matrix can
        loaded.model.config.clip_qkv = None
    heads, width = loaded.shape.heads, loaded.shape.width
    x = torch.randn(2, width, generator=torch.Generator().manual_seed(0))
    x -= x.mean(-1, keepdim=True)
    x *= (width**0.5) / x.norm(dim=-1, keepdim=True)
    block = loaded.blocks[1]
    attention = next(
        m
        for n, m in block.named_children()
        if n in ("attention", "attn", "self_attn", "self_attention")
    )
    seen: dict[str, torch.Tensor] = {}
    projection = output_projection(block)
    handles = [
        projection.register_forward_hook(
            lambda _, i, o: seen.update(z=i[0].detach(), o=o.detach())
        ),
    ]
    with torch.no_grad():
        hidden = x[:, None]  # two samples of one token, which attends to itself alone
        before = dict(block.named_children()).get("input_layernorm") or dict(
            block.named_children()
        ).get("ln_1")
        normed = hidden if before is None else before(hidden)
        _attend(loaded, attention, normed)
        after = dict(block.named_children()).get("post_attention_layernorm")
        if "post_feedforward_layernorm" not in dict(block.named_children()):
            after = None
    for handle in handles:
        handle.remove()
    found = value_output(loaded, 2)
    z = seen["z"][:, 0].double().view(2, heads, -1)
    delta = (x[0] - x[1]).double()
    if "GPT-OSS" not in name:  # its sink takes a part of the values
        np.testing.assert_allclose(
            torch.einsum("d,hdk->hk", delta, found.value), z[0] - z[1], atol=2e-5
        )
    o = seen["o"][:, 0].double()
    through = torch.einsum("hk,hkd->d", z[0] - z[1], found.output)
    wanted = o[0] - o[1]
    if after is not None:
        wanted = wanted @ norm_matrix(after, width)
    np.testing.assert_allclose(through, wanted, atol=3e-5)


def _attend(loaded: LoadedModel, attention: Any, normed: torch.Tensor) -> None:
    """One call of a block's attention, whatever it wants to be told."""
    kind = type(attention).__name__
    batch = normed.shape[0]
    if kind == "BloomAttention":
        attention(normed, torch.zeros_like(normed), torch.zeros(batch * 4, 1, 1), None)
        return
    if kind == "GPT2Attention":
        attention(normed)
        return
    rotary = next(m for n, m in loaded.model.named_modules() if n.endswith("rotary_emb"))
    places = torch.zeros(batch, 1, dtype=torch.long)
    try:
        positions = rotary(normed, places)
    except TypeError:
        positions = rotary(normed, places, loaded.model.config.layer_types[1])
    attention(normed, position_embeddings=positions, attention_mask=None)


@pytest.mark.parametrize("name", ["GPT-2", "Gemma-2", "OLMo", "OLMo-2"])
def test_a_norms_matrix_is_the_norm_on_inputs_of_unit_size(name: str) -> None:
    loaded = loaded_tiny(name)
    norm, width = loaded.final_norm, loaded.shape.width
    x = torch.randn(5, width, generator=torch.Generator().manual_seed(1)).double()
    centred = x - x.mean(-1, keepdim=True)
    layer = name in ("GPT-2", "OLMo")
    size = (centred if layer else x).square().mean(-1, keepdim=True).sqrt()
    with torch.no_grad():
        zero = norm(torch.zeros(width)).double()
        wanted = norm(x.float()).double() - zero
    np.testing.assert_allclose((x @ norm_matrix(norm, width)) / size, wanted, atol=2e-4)


def test_the_overlap_is_that_of_logits_centred_over_the_vocabulary() -> None:
    loaded = loaded_tiny("Llama")
    found = token_overlap(loaded, 90)
    embed = loaded.model.get_input_embeddings().weight[:90].detach().double()
    unembed = loaded.model.get_output_embeddings().weight[:90].detach().double()
    gain = loaded.final_norm.weight.detach().double()
    wanted = torch.diag(gain) @ (unembed - unembed.mean(0)).T @ embed
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_model_made_to_copy_scores_one_and_one_made_to_suppress_minus_one() -> None:
    loaded = loaded_tiny("Llama")
    with torch.no_grad():
        weight = loaded.model.get_input_embeddings().weight
        weight -= weight.mean(0)
        loaded.model.get_output_embeddings().weight.copy_(weight)
        loaded.final_norm.weight.fill_(1.0)
        for number, block in enumerate(loaded.blocks):
            attention: Any = block.self_attn
            block.input_layernorm.weight.fill_(1.0)
            width = attention.o_proj.weight.shape[1] // 4
            for head in range(4):
                rows = slice(width * (head // 2), width * (head // 2 + 1))
                sign = 1.0 if (number + head) % 2 else -1.0
                columns = slice(width * head, width * (head + 1))
                attention.o_proj.weight[:, columns] = sign * attention.v_proj.weight[rows].T
    found = VISITS["ov_copying"].function(loaded, spec_of(loaded))["score"].values
    sign = np.where((np.arange(3)[:, None] + np.arange(4)) % 2, 1.0, -1.0)
    np.testing.assert_allclose(found, sign, atol=1e-6)
