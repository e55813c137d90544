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
    # Trained here, without attention.
    "LstmForCausalLM": _LLAMA_LIKE,
    "FeedForwardForCausalLM": _LLAMA_LIKE,
}

_LLAVA_LIKE = Architecture("model.language_model.layers", "model.language_model.norm")
_IDEFICS_LIKE = Architecture("model.text_model.layers", "model.text_model.norm")

# Models that read images too: the decoder of text, not the vision tower.
IMAGE_TEXT: dict[str, Architecture] = {
    "LlavaForConditionalGeneration": _LLAVA_LIKE,
    "LlavaNextForConditionalGeneration": _LLAVA_LIKE,
    "Qwen2VLForConditionalGeneration": _LLAVA_LIKE,
    "Qwen2_5_VLForConditionalGeneration": _LLAVA_LIKE,
    "InternVLForConditionalGeneration": _LLAVA_LIKE,
    "TinyVlmForConditionalGeneration": Architecture("language_model.layers", "language_model.norm"),
    "SmolVLMForConditionalGeneration": _IDEFICS_LIKE,
    "Idefics3ForConditionalGeneration": _IDEFICS_LIKE,  # the first SmolVLM
}
# Model types of our own; importing the module registers them with transformers.
OWN_TYPES = {
    "phasescope_tiny_vlm": ("runs.models.tiny_vlm", "TinyVlmForConditionalGeneration"),
    "phasescope_lstm": ("runs.models.recurrent", "LstmForCausalLM"),
    "phasescope_feedforward": ("runs.models.feedforward", "FeedForwardForCausalLM"),
}

_NORM = re.compile(r"norm|ln_?f|^ln")
_SIGHT = re.compile(r"visi|visual|image|patch")
ADD_A_ROW = "add its row to runs/architectures.py (see CONTRIBUTING.md)"


@dataclass(frozen=True)
class ModelShape:
    """The sizes that decide how arrays are laid out; of a model that reads images, its text decoder's."""

    architecture: str
    blocks: int
    width: int
    heads: int
    vocabulary: int
    reads_images: bool = False

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
    sight = None if known else image_text_name(config)
    sizes = config if sight is None else text_config(config)
    try:
        return ModelShape(
            architecture=known or sight or (names[0] if names else _causal_name(config)),
            blocks=int(sizes.num_hidden_layers),
            width=int(sizes.hidden_size),
            heads=int(sizes.num_attention_heads),
            vocabulary=int(sizes.vocab_size),
            reads_images=sight is not None,
        )
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"{where}: the configuration is not one of a decoder with attention ({error})"
        ) from None


def image_text_name(config: Any) -> str | None:
    """Name of the image-text-to-text architecture of a configuration; None if it is not one."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES,
    )

    kind = str(getattr(config, "model_type", ""))
    own = OWN_TYPES.get(kind)
    if own is not None:
        return None if own[1] in ARCHITECTURES else own[1]
    name: str | None = NAMES.get(kind)
    listed = list(getattr(config, "architectures", None) or [name])
    there = name in listed and getattr(config, "vision_config", None) is not None
    return name if there else None


def text_config(config: Any) -> Any:
    """The part of a configuration that has the decoder's sizes; the whole, if it has no parts."""
    part = getattr(config, "text_config", None)
    return config if part is None else part


def find_modules(model: nn.Module, architecture: str) -> tuple[list[nn.Module], nn.Module]:
    """The decoder blocks and the final norm of a model.

    Raises
    ------
    InputError
        If the table's names are not there, or an architecture without a row has no list of as many
        blocks as its configuration says with a norm beside it.
    """
    row = ARCHITECTURES.get(architecture) or IMAGE_TEXT.get(architecture)
    row = row or by_convention(model, architecture)
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

    In a model that reads images, what is named after them is passed over.

    The guess is not trusted: the self-check at load compares it with the model's own hidden states.

    Raises
    ------
    InputError
        If there is no such pair.
    """
    config: Any = model.config
    reads_images = image_text_name(config) is not None
    count = int((text_config(config) if reads_images else config).num_hidden_layers)
    for path, module in model.named_modules():
        if reads_images and _SIGHT.search(path):
            continue
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
