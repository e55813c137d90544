"""Tiny random models of every architecture in the table, and some that are not."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf

VOCABULARY = 97
LENGTH = 20
WINDOW = 5  # shorter than a sample, so that it hides keys

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_WINDOWED = {"sliding_window": WINDOW}
_EXPERTS = {"num_experts_per_tok": 2}

KNOWN: dict[str, tuple[Any, dict[str, Any]]] = {
    "GPT-NeoX parallel": (tf.GPTNeoXConfig, {**_SIZES, "rotary_pct": 0.5}),
    "GPT-NeoX sequential": (
        tf.GPTNeoXConfig,
        {**_SIZES, "rotary_pct": 0.5, "use_parallel_residual": False},
    ),
    "OLMo": (tf.OlmoConfig, {**_SIZES, "clip_qkv": 0.5}),
    "OLMo-2": (tf.Olmo2Config, _GROUPED),
    "OLMo-3": (
        tf.Olmo3Config,
        {
            **_GROUPED,
            **_WINDOWED,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "Llama": (tf.LlamaConfig, _GROUPED),
    "Qwen2": (
        tf.Qwen2Config,
        {**_GROUPED, **_WINDOWED, "use_sliding_window": True, "max_window_layers": 1},
    ),
    "Qwen3": (tf.Qwen3Config, {**_GROUPED, "head_dim": 16}),
    "Gemma-2": (
        tf.Gemma2Config,
        {
            **_GROUPED,
            **_WINDOWED,
            "head_dim": 8,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "GPT-2": (
        tf.GPT2Config,
        {
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 128,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "scale_attn_by_inverse_layer_idx": True,
        },
    ),
    "Mistral": (tf.MistralConfig, {**_GROUPED, **_WINDOWED}),
    "OLMoE": (tf.OlmoeConfig, {**_GROUPED, **_EXPERTS, "num_experts": 4}),
}

UNKNOWN: dict[str, tuple[Any, dict[str, Any]]] = {
    "Phi": (tf.PhiConfig, _SIZES),
    # A learned sink in every head; YaRN left out, as its warning is not about capture.
    "GPT-OSS": (
        tf.GptOssConfig,
        {
            **_GROUPED,
            **_WINDOWED,
            **_EXPERTS,
            "head_dim": 8,
            "num_local_experts": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    # ALiBi, and attention that does not go through transformers' interface.
    "BLOOM": (
        tf.BloomConfig,
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 3, "n_head": 4},
    ),
}


def tiny(name: str, **changes: Any) -> Any:
    """A random model whose every parameter matters, in evaluation mode."""
    kind, options = {**KNOWN, **UNKNOWN}[name]
    torch.manual_seed(0)
    model = tf.AutoModelForCausalLM.from_config(kind(**{**options, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3 / parameter.shape[-1] ** 0.5)
    return model


def batch(padding: str = "none") -> tuple[torch.Tensor, torch.Tensor | None]:
    """Token ids (sample, position) and their mask; one sample is shorter if there is padding."""
    ids = torch.randint(3, VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    if padding == "none":
        return ids, None
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, :6] = padding != "left"
    mask[1, -6:] = padding != "right"
    return ids, mask
