"""Tiny random models that read images, one of every family, with tokenizers and processors made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf
from numpy.typing import NDArray

from runs.loading import quiet_transformers
from runs.models.tokenizer import train_tokenizer

SENTENCE = (
    "what colour is the circle? the square is red, green, blue or yellow. Please use one word"
)
_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
# As many blocks as the decoder: a search by their number must not end here.
_SIGHT: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}


@dataclass(frozen=True)
class Made:
    """What a family needs to be made."""

    config: Callable[[int, Callable[[str], int]], Any]
    signs: tuple[str, ...]
    images: Callable[[], Any]
    settings: dict[str, Any]
    extra: dict[str, str]


def _clip() -> dict[str, Any]:
    return {"model_type": "clip_vision_model", "image_size": 16, "patch_size": 8, **_SIGHT}


def _llava(words: int, sign: Callable[[str], int]) -> Any:
    return tf.LlavaConfig(
        vision_config=_clip() | {"projection_dim": 24},
        text_config={"model_type": "llama", "vocab_size": words, **_TEXT},
        image_token_index=sign("<image>"),
        vision_feature_layer=-2,
    )


def _llava_next(words: int, sign: Callable[[str], int]) -> Any:
    return tf.LlavaNextConfig(
        vision_config=_clip() | {"projection_dim": 24},
        text_config={"model_type": "mistral", "vocab_size": words, "sliding_window": None, **_TEXT},
        image_token_index=sign("<image>"),
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
    )


def _qwen2(words: int, sign: Callable[[str], int]) -> Any:
    return tf.Qwen2VLConfig(
        vision_config={
            "depth": 3,
            "embed_dim": 24,
            "hidden_size": 32,
            "num_heads": 2,
            "patch_size": 4,
        },
        text_config={"vocab_size": words, "rope_parameters": dict(_MROPE), **_TEXT},
        image_token_id=sign("<|image_pad|>"),
        video_token_id=sign("<|video_pad|>"),
        vision_start_token_id=sign("<|vision_start|>"),
        vision_end_token_id=sign("<|vision_end|>"),
    )


def _qwen2_5(words: int, sign: Callable[[str], int]) -> Any:
    return tf.Qwen2_5_VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 24,
            "intermediate_size": 32,
            "out_hidden_size": 32,
            "num_heads": 2,
            "patch_size": 4,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        },
        text_config={"vocab_size": words, "rope_parameters": dict(_MROPE), **_TEXT},
        image_token_id=sign("<|image_pad|>"),
        video_token_id=sign("<|video_pad|>"),
        vision_start_token_id=sign("<|vision_start|>"),
        vision_end_token_id=sign("<|vision_end|>"),
    )


def _internvl(words: int, sign: Callable[[str], int]) -> Any:
    return tf.InternVLConfig(
        vision_config={"image_size": [16, 16], "patch_size": [4, 4], **_SIGHT},
        text_config={"model_type": "qwen2", "vocab_size": words, **_TEXT},
        image_token_id=sign("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )


def _smolvlm(words: int, sign: Callable[[str], int]) -> Any:
    return tf.SmolVLMConfig(
        vision_config={"image_size": 16, "patch_size": 4, **_SIGHT},
        text_config={"model_type": "llama", "vocab_size": words, **_TEXT},
        image_token_id=sign("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )


def _idefics3(words: int, sign: Callable[[str], int]) -> Any:
    return tf.Idefics3Config(
        vision_config={"image_size": 16, "patch_size": 4, **_SIGHT},
        text_config={"model_type": "llama", "vocab_size": words, **_TEXT},
        image_token_id=sign("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )


_CHAT = ("<|im_start|>", "<|im_end|>")
_PADS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_SMALL = {"shortest_edge": 16}
_SQUARE = {"height": 16, "width": 16}


def _qwen_images() -> Any:
    return tf.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 24 * 24}
    )


FAMILIES: dict[str, Made] = {
    "LLaVA-1.5": Made(
        _llava,
        ("<image>",),
        lambda: tf.CLIPImageProcessorPil(size=_SMALL, crop_size=_SQUARE),
        {
            "processor_class": "LlavaProcessor",
            "patch_size": 8,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        {},
    ),
    "LLaVA-1.6": Made(
        _llava_next,
        ("<image>",),
        lambda: tf.LlavaNextImageProcessorPil(
            size=_SMALL, crop_size=_SQUARE, image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]]
        ),
        {
            "processor_class": "LlavaNextProcessor",
            "patch_size": 8,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        {},
    ),
    "Qwen2-VL": Made(
        _qwen2, (*_CHAT, *_PADS), _qwen_images, {"processor_class": "Qwen2VLProcessor"}, {}
    ),
    "Qwen2.5-VL": Made(
        _qwen2_5, (*_CHAT, *_PADS), _qwen_images, {"processor_class": "Qwen2_5_VLProcessor"}, {}
    ),
    "InternVL": Made(
        _internvl,
        (*_CHAT, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        lambda: tf.GotOcr2ImageProcessorPil(
            size=_SQUARE, crop_to_patches=True, min_patches=1, max_patches=3
        ),
        {"processor_class": "InternVLProcessor", "image_seq_length": 4},
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "SmolVLM": Made(
        _smolvlm,
        (
            "<|im_start|>",
            "<end_of_utterance>",
            "<fake_token_around_image>",
            "<global-img>",
            "<image>",
            *(f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)),
        ),
        lambda: tf.SmolVLMImageProcessorPil(
            size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, do_image_splitting=True
        ),
        {"processor_class": "SmolVLMProcessor", "image_seq_len": 4},
        {},
    ),
    "SmolVLM-1": Made(
        _idefics3,
        (
            "<|im_start|>",
            "<end_of_utterance>",
            "<fake_token_around_image>",
            "<global-img>",
            "<image>",
            *(f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)),
        ),
        lambda: tf.Idefics3ImageProcessorPil(
            size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, do_image_splitting=True
        ),
        {"processor_class": "Idefics3Processor", "image_seq_len": 4},
        {},
    ),
}


def save_tiny(name: str, folder: Path, *, seed: int = 0, template: str | None = None) -> Path:
    """A checkpoint folder as published ones are: config, weights, tokenizer, processor settings."""
    made = FAMILIES[name]
    tokenizer = train_tokenizer([SENTENCE] * 4, vocabulary=300)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": list(made.signs)}, replace_extra_special_tokens=False
    )
    if made.extra:
        tokenizer = tf.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer,
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
            pad_token=tokenizer.pad_token,
            extra_special_tokens=made.extra,
        )
    config = made.config(len(tokenizer), tokenizer.convert_tokens_to_ids)
    torch.manual_seed(seed)
    model = tf.AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3 / parameter.shape[-1] ** 0.5)
    with quiet_transformers():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    made.images().save_pretrained(folder)
    images = folder / "preprocessor_config.json"
    # Published folders name the class without its backend.
    images.write_text(images.read_text().replace('ImageProcessorPil"', 'ImageProcessor"'))
    (folder / "processor_config.json").write_text(json.dumps(made.settings))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def pictures(count: int, *, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Random images of several shapes."""
    generator = np.random.default_rng(seed)
    sizes = [(24, 24), (20, 40), (48, 24)]
    return [generator.integers(0, 256, (*sizes[i % len(sizes)], 3), np.uint8) for i in range(count)]
