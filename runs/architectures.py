"""Architectures: where a model keeps its decoder blocks, by table or by convention."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from runs.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """Names of the modules that hooks attach to.

    Attributes
    ----------
    blocks : str
        Path of the list of decoder blocks. Block i writes layer i; block 1 reads layer 0.
    final_norm : str
        Path of the norm before the unembedding; its output is layer L+1.
    """

    blocks: str
    final_norm: str


_LLAMA_LIKE = Architecture("model.layers", "model.norm")

ARCHITECTURES: dict[str, Architecture] = {
    "GPTNeoXForCausalLM": Architecture("gpt_neox.layers", "gpt_neox.final_layer_norm"),
    "GPT2LMHeadModel": Architecture("transformer.h", "transformer.ln_f"),
    "OlmoForCausalLM": _LLAMA_LIKE,
    "Olmo2ForCausalLM": _LLAMA_LIKE,
    "Olmo3ForCausalLM": _LLAMA_LIKE,
    "OlmoeForCausalLM": _LLAMA_LIKE,
    "LlamaForCausalLM": _LLAMA_LIKE,
    "MistralForCausalLM": _LLAMA_LIKE,
    "Qwen2ForCausalLM": _LLAMA_LIKE,
    "Qwen3ForCausalLM": _LLAMA_LIKE,
    "Gemma2ForCausalLM": _LLAMA_LIKE,
}

_NORM = re.compile(r"norm|ln_?f|^ln")
ADD_A_ROW = "add its row to runs/architectures.py (see CONTRIBUTING.md)"


@dataclass(frozen=True)
class ModelShape:
    """The sizes that decide how arrays are laid out."""

    architecture: str
    blocks: int
    width: int
    heads: int
    vocabulary: int

    @property
    def layers(self) -> int:
        """Number of layers L + 2: embedding, L blocks, after the final norm."""
        return self.blocks + 2

    @property
    def layer_names(self) -> list[str]:
        """Names of layers 0 … L+1."""
        return ["embedding", *(str(i) for i in range(1, self.blocks + 1)), "final"]


def model_shape(config: Any, *, where: str) -> ModelShape:
    """Read the sizes from a Hugging Face configuration.

    Raises
    ------
    InputError
        If a size is not there.
    """
    names = list(getattr(config, "architectures", None) or [])
    known = next((name for name in names if name in ARCHITECTURES), None)
    try:
        return ModelShape(
            architecture=known or (names[0] if names else _causal_name(config)),
            blocks=int(config.num_hidden_layers),
            width=int(config.hidden_size),
            heads=int(config.num_attention_heads),
            vocabulary=int(config.vocab_size),
        )
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"{where}: the configuration is not one of a decoder with attention ({error})"
        ) from None


def find_modules(model: nn.Module, architecture: str) -> tuple[list[nn.Module], nn.Module]:
    """The decoder blocks and the final norm of a model.

    Raises
    ------
    InputError
        If the table's names are not there, or an architecture without a row has no list of as many
        blocks as its configuration says with a norm beside it.
    """
    row = ARCHITECTURES.get(architecture) or by_convention(model, architecture)
    try:
        blocks = list(model.get_submodule(row.blocks).children())
        final_norm = model.get_submodule(row.final_norm)
    except AttributeError as error:
        raise InputError(
            f"{architecture}: {error}; mend its row in runs/architectures.py"
        ) from None
    return blocks, final_norm


def by_convention(model: nn.Module, architecture: str) -> Architecture:
    """Guess the row of an unknown architecture: a list of L blocks and the last norm beside it.

    The guess is not trusted: the self-check at load compares it with the model's own hidden states.

    Raises
    ------
    InputError
        If there is no such pair.
    """
    count = int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]  # a HF config
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            parent, _, _ = path.rpartition(".")
            beside = [name for name, _ in model.get_submodule(parent).named_children()]
            norms = [name for name in beside if _NORM.search(name)]
            if norms:
                return Architecture(path, f"{parent}.{norms[-1]}" if parent else norms[-1])
    raise InputError(
        f"architecture {architecture} is not known, and no list of {count} blocks with a norm beside it "
        f"was found; {ADD_A_ROW}"
    )


def _causal_name(config: Any) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    name: str = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, config.model_type)
    return name
