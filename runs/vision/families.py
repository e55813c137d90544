"""Families of models that read images: what processes their input, and how they are asked."""

from __future__ import annotations

from dataclasses import dataclass

PICTURE = "{picture}"
WORDS = "{words}"


@dataclass(frozen=True)
class Family:
    """What a checkpoint of a family does not say itself.

    Attributes
    ----------
    processor : str
        Name of the processor's class in transformers.
    prompt : str
        The prompt its authors document, for checkpoints without a chat template; `{picture}` is
        replaced by `picture`, or by nothing where there is no image.
    picture : str
        What stands for an image, with what surrounds it.
    without_video : str or None
        Class that processes images in the same way and needs nothing for video; None if `processor`
        itself can be had without.
    """

    processor: str
    prompt: str
    picture: str
    without_video: str | None = None


_CHATML = "<|im_start|>user\n{picture}{words}<|im_end|>\n<|im_start|>assistant\n"
_SMOL = "<|im_start|>User:{picture}{words}<end_of_utterance>\nAssistant:"
_QWEN = Family(
    "Qwen2VLProcessor",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + _CHATML,
    "<|vision_start|><|image_pad|><|vision_end|>",
)

# By architecture. Prompts are those of the published model cards; LLaVA-1.6 has a Vicuna here, and its
# variants on other language models say theirs in a chat template.
FAMILIES: dict[str, Family] = {
    "LlavaForConditionalGeneration": Family(
        "LlavaProcessor", "USER: {picture}{words} ASSISTANT:", "<image>\n"
    ),
    "LlavaNextForConditionalGeneration": Family(
        "LlavaNextProcessor",
        "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the human's questions. "
        "USER: {picture}{words} ASSISTANT:",
        "<image>\n",
    ),
    "Qwen2VLForConditionalGeneration": _QWEN,
    "Qwen2_5_VLForConditionalGeneration": Family(
        "Qwen2_5_VLProcessor", _QWEN.prompt, _QWEN.picture
    ),
    "InternVLForConditionalGeneration": Family("InternVLProcessor", _CHATML, "<IMG_CONTEXT>\n"),
    "SmolVLMForConditionalGeneration": Family(
        "SmolVLMProcessor", _SMOL, "<image>", without_video="Idefics3Processor"
    ),
    # The first SmolVLM.
    "Idefics3ForConditionalGeneration": Family("Idefics3Processor", _SMOL, "<image>"),
}
