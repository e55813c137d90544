"""From a loaded checkpoint to what asks it about images: one adapter, built on its own processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from probes.cases import Image
from runs.architectures import OWN_TYPES
from runs.errors import InputError
from runs.loaded import LoadedModel
from runs.vision.base import VisionAdapter
from runs.vision.prompts import COMMAND, Prompts, open_prompts
from runs.vision.reading import DecoderReader

_OWN = {name for _, name in OWN_TYPES.values()}


class ProcessorAdapter(DecoderReader):
    """Asks through the checkpoint's processor; LLaVA, LLaVA-1.6, Qwen2-VL, Qwen2.5-VL, InternVL, SmolVLM.

    Parameters
    ----------
    loaded
        The checkpoint.
    prompts
        Its processor and how it is asked.
    """

    def __init__(self, loaded: LoadedModel, prompts: Prompts) -> None:
        super().__init__(loaded)
        self.prompts = prompts

    def inputs(
        self, texts: Sequence[str], images: Sequence[Image] | None
    ) -> Mapping[str, torch.Tensor]:
        """As `VisionAdapter.inputs`; the command follows each question."""
        found = self.prompts.encode(texts, images)
        kind = self.loaded.model.dtype
        return {
            name: value.to(self.loaded.device, dtype=kind if value.is_floating_point() else None)
            for name, value in found.items()
        }

    def first_token(self, word: str) -> int:
        """As `VisionAdapter.first_token`."""
        return self.prompts.first_token(word)


def adapter_of(
    loaded: LoadedModel, tokenizer: Path | None, *, command: str = COMMAND
) -> VisionAdapter:
    """The adapter of a loaded checkpoint.

    Parameters
    ----------
    loaded
        A checkpoint that reads images.
    tokenizer
        Folder with its tokenizer and processor.
    command
        Said after every question, where the family is asked in words.

    Raises
    ------
    InputError
        If it reads no images, or how to ask it is not known.
    """
    name = loaded.shape.architecture
    if not loaded.shape.reads_images:
        raise InputError(f"{name} reads text only; scenes need a model that reads images")
    if tokenizer is None:
        raise InputError(f"{name}: no tokenizer is known; set `series.tokenizer`")
    if name in _OWN:
        from runs.vision.tiny import TinyAdapter

        own: VisionAdapter = TinyAdapter(loaded, tokenizer)
        return own
    return ProcessorAdapter(loaded, open_prompts(tokenizer, name, command))


def first_tokens(
    architecture: str, tokenizer: Path | None, words: Sequence[str], *, command: str = COMMAND
) -> list[int]:
    """Ids of the tokens that one-word answers begin with, before any checkpoint is loaded.

    Raises
    ------
    InputError
        If two words begin with one token, or a word with none of its own.
    """
    if tokenizer is None:
        raise InputError(f"{architecture}: no tokenizer is known; set `series.tokenizer`")
    if architecture in _OWN:
        found = _own_tokens(tokenizer, words)
    else:
        prompts = open_prompts(tokenizer, architecture, command)
        found = [prompts.first_token(word) for word in words]
    for number, token in enumerate(found):
        if token in found[:number]:
            other = words[found.index(token)]
            raise InputError(
                f"{tokenizer}: the answers {other!r} and {words[number]!r} begin with the same token "
                f"({token}), so they cannot be told apart; leave one out, or use another tokenizer"
            )
    return found


def _own_tokens(tokenizer: Path, words: Sequence[str]) -> list[int]:
    """Of a word-level vocabulary, where an answer is one token and no space is part of it."""
    from runs.inputs import load_tokenizer

    encoded = load_tokenizer(tokenizer)(list(words), add_special_tokens=False)["input_ids"]
    for word, ids in zip(words, encoded, strict=True):
        if len(ids) != 1:
            raise InputError(f"{tokenizer}: the answer {word!r} is not one word of the vocabulary")
    return [int(ids[0]) for ids in encoded]
