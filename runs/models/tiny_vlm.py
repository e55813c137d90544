"""A vision-language model small enough to train here: 16 patches and words in one Llama decoder.

Importing this module registers `phasescope_tiny_vlm` with transformers, so that `AutoConfig` and
`AutoModelForImageTextToText` read what `save_pretrained` wrote.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    LlamaConfig,
    LlamaModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from probes.tiny_images import CELL, GRID, SIZE
from probes.tiny_texts import COLOURS, SHAPES, WORDS

PAD, END, IMAGE, UNKNOWN = "<pad>", "<eos>", "<image>", "<unk>"
SPECIAL = (PAD, END, IMAGE, UNKNOWN)
PATCHES = GRID**2
VOCABULARY = (*SPECIAL, *WORDS)


class TinyVlmConfig(PreTrainedConfig):  # type: ignore[misc]  # untyped
    """Sizes: those of the decoder in `text_config`, and the channels of the convolutions before it.

    Attributes
    ----------
    text_config : LlamaConfig
    channels : list of int
        After the first and the second convolution; the third has the decoder's width.
    image_token_id : int
        Id of the token that stands for one patch.
    """

    model_type = "phasescope_tiny_vlm"
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=LlamaConfig)
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    channels: list[int] | tuple[int, ...] = (24, 48)
    image_token_id: int = SPECIAL.index(IMAGE)
    image_size: int = SIZE
    patch_size: int = CELL
    initializer_range: float = 0.1
    tie_word_embeddings: bool = False


class VisionStem(nn.Module):
    """From pixels to one state a patch of 16 × 16: three convolutions, and where the patch is.

    Parameters
    ----------
    channels
        After the first and second convolution.
    width
        Of the decoder.
    """

    def __init__(self, channels: tuple[int, int], width: int) -> None:
        super().__init__()
        first, second = channels
        self.layers = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(second, width, 4, stride=4),
        )
        self.place = nn.Embedding(PATCHES, width)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """States (image, patch, feature) of pixels (image, 3, 64, 64), white 0 and black −1."""
        states: Tensor = self.layers(pixel_values).flatten(2).transpose(1, 2)
        return states + self.place.weight


class TinyVlmForConditionalGeneration(PreTrainedModel):  # type: ignore[misc]  # untyped
    """A vision stem, a Llama decoder and its unembedding.

    `<image>` tokens in `input_ids` are replaced by the patches' states, 16 an image, row by row. The two
    linear heads on the stem name the shape and the colour of the object in each patch (the last class is
    none): an aid in training, and not part of any answer.
    """

    config_class = TinyVlmConfig
    base_model_prefix = "language_model"
    input_modalities = ("image", "text")
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules: ClassVar[list[str]] = ["LlamaDecoderLayer"]

    def __init__(self, config: TinyVlmConfig) -> None:
        super().__init__(config)
        text = config.get_text_config()
        first, second = config.channels
        self.vision = VisionStem((first, second), text.hidden_size)
        self.language_model = LlamaModel(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.patch_shape = nn.Linear(text.hidden_size, len(SHAPES) + 1)
        self.patch_colour = nn.Linear(text.hidden_size, len(COLOURS) + 1)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Convolutions as torch has them; all else normal, as wide as the configuration says."""
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        """The words' embedding."""
        found: nn.Module = self.language_model.embed_tokens
        return found

    def get_output_embeddings(self) -> nn.Module:
        """The unembedding."""
        return self.lm_head

    def embed(self, input_ids: Tensor, pixel_values: Tensor | None = None) -> Tensor:
        """States before the first block (sample, position, feature).

        Raises
        ------
        ValueError
            If there are not 16 `<image>` tokens an image.
        """
        states: Tensor = self.get_input_embeddings()(input_ids)
        patches = input_ids == self.config.image_token_id
        given = 0 if pixel_values is None else len(pixel_values)
        if int(patches.sum()) != given * PATCHES:
            raise ValueError(f"{given} images need {given * PATCHES} {IMAGE} tokens")
        if pixel_values is None:
            return states
        seen = self.vision(pixel_values).to(states.dtype)
        return states.masked_scatter(patches[..., None], seen)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (sample, position, vocabulary) of words and images.

        Parameters
        ----------
        input_ids
            Tokens (sample, position), `<image>` where patches go; or give `inputs_embeds`.
        pixel_values
            Pixels (image, 3, 64, 64) in the order of the `<image>` tokens.
        attention_mask
            1 at real tokens (sample, position), or who sees whom (sample, 1, position, position).
        position_ids, options
            As Llama takes them.
        """
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = self.embed(input_ids, pixel_values)
        out: BaseModelOutputWithPast = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{"use_cache": False, **options},
        )
        return CausalLMOutputWithPast(
            logits=self.lm_head(out.last_hidden_state),
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )


def pixel_values(images: Tensor) -> Tensor:
    """Pictures uint8 (image, 64, 64, 3) as the model takes them: (image, 3, 64, 64), white 0."""
    return images.permute(0, 3, 1, 2).to(torch.float32) / 255 - 1


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The words of `probes.tiny_texts`, a token each, in lower case; any other word is `<unk>`."""
    ids = {word: number for number, word in enumerate(VOCABULARY)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[IMAGE],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


AutoConfig.register(TinyVlmConfig.model_type, TinyVlmConfig, exist_ok=True)
AutoModelForImageTextToText.register(TinyVlmConfig, TinyVlmForConditionalGeneration, exist_ok=True)
