"""The adapter of the tiny vision-language model trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probes.cases import Image
from runs.errors import InputError
from runs.inputs import load_tokenizer
from runs.loaded import LoadedModel
from runs.models.tiny_vlm import IMAGE, PATCHES, pixel_values
from runs.vision.reading import DecoderReader


class TinyAdapter(DecoderReader):
    """Asks in the words it was trained on: patches, text, question, and nothing else.

    Parameters
    ----------
    loaded
        A checkpoint of `TinyVlmForConditionalGeneration`.
    tokenizer
        Folder of its tokenizer.

    Raises
    ------
    InputError
        If there is no tokenizer that can be read.
    """

    def __init__(self, loaded: LoadedModel, tokenizer: Path) -> None:
        super().__init__(loaded)
        self._tokenizer: Any = load_tokenizer(tokenizer)
        self._where = tokenizer

    @torch.inference_mode()
    def inputs(
        self, texts: Sequence[str], images: Sequence[Image] | None
    ) -> Mapping[str, torch.Tensor]:
        """States before the first block, padded on the left, with their mask and positions.

        The vision stem has run then, so that what follows is the decoder's.

        Raises
        ------
        InputError
            If a text has a word the model does not know, or an image is not 64 × 64.
        """
        ids, mask = self._ids(texts, 0 if images is None else PATCHES)
        pixels = None
        if images is not None:
            pixels = pixel_values(torch.from_numpy(self._pictures(images)))
        device, model = self.loaded.device, self.loaded.model
        kind = model.dtype
        seen = None if pixels is None else pixels.to(device, dtype=kind)
        mask = mask.to(device)
        return {
            "inputs_embeds": model.embed(ids.to(device), seen),
            "attention_mask": mask,
            "position_ids": (mask.cumsum(dim=1) - 1).clamp_min(0),
        }

    def first_token(self, word: str) -> int:
        """Id of a word.

        Raises
        ------
        InputError
            If the model does not know it.
        """
        return int(self._encoded([word])[0][0])

    def _ids(self, texts: Sequence[str], patches: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self._tokenizer.convert_tokens_to_ids(IMAGE)
        rows = [[image] * patches + words for words in self._encoded(texts)]
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), int(self._tokenizer.pad_token_id))
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, length - len(row) :] = torch.tensor(row)
            mask[number, length - len(row) :] = 1
        return ids, mask

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        for text, ids in zip(texts, found, strict=True):
            if self._tokenizer.unk_token_id in ids or not ids:
                raise InputError(
                    f"{self._where}: {text!r} has words the model does not know; use scenes with "
                    'style = "tiny"'
                )
        return found

    def _pictures(self, images: Sequence[Image]) -> Image:
        size = self.loaded.model.config.image_size
        for image in images:
            if image.shape != (size, size, 3):
                raise InputError(
                    f"{self._where}: the model sees images of {size} × {size}, not of "
                    f'{image.shape[1]} × {image.shape[0]}; use scenes with style = "tiny"'
                )
        return np.stack(images)
