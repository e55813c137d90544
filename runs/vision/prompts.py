"""Prompts of a checkpoint that reads images, and the token a one-word answer begins with."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from probes.cases import Image
from runs.errors import InputError, line_of
from runs.packages import require_extra
from runs.vision.families import FAMILIES, PICTURE, WORDS, Family

COMMAND = "Please use one word to answer this question."


class Prompts:
    """A checkpoint's processor, and how it is asked.

    Parameters
    ----------
    processor
        A transformers processor.
    family
        For checkpoints without a chat template.
    command
        Said after the question; empty for nothing.
    """

    def __init__(self, processor: Any, family: Family, command: str = COMMAND) -> None:
        self.processor = processor
        self.family = family
        self.command = command

    def render(self, words: str, *, image: bool) -> str:
        """The prompt as text, a picture's sign in it if there is one; the answer comes next."""
        said = " ".join(part for part in (words, self.command) if part)
        if self.processor.chat_template:
            content = [{"type": "image"}] if image else []
            message = {"role": "user", "content": [*content, {"type": "text", "text": said}]}
            prompt: str = self.processor.apply_chat_template(
                [message], add_generation_prompt=True, tokenize=False
            )
            return prompt
        picture = self.family.picture if image else ""
        return self.family.prompt.replace(PICTURE, picture).replace(WORDS, said)

    def encode(self, texts: Sequence[str], images: Sequence[Image] | None) -> Mapping[str, Any]:
        """What the model takes, padded on the left, images as the checkpoint wants them."""
        import PIL.Image

        prompts = [self.render(text, image=images is not None) for text in texts]
        options: dict[str, Any] = {"padding": True, "padding_side": "left"}
        if self._begun(prompts[0]):
            options["add_special_tokens"] = False
        if images is not None:
            options["images"] = [PIL.Image.fromarray(image, mode="RGB") for image in images]
        found: Mapping[str, Any] = self.processor(text=prompts, return_tensors="pt", **options)
        return found

    def first_token(self, word: str) -> int:
        """Id of the token an answer begins with, after a space where the prompt ends in a word.

        Raises
        ------
        InputError
            If the answer's letters join the prompt's last token.
        """
        prompt = self.render("", image=False)
        answer = word if prompt[-1:].isspace() else f" {word}"
        special = not self._begun(prompt)
        encode = self.processor.tokenizer.encode
        before = encode(prompt, add_special_tokens=special)
        after = encode(prompt + answer, add_special_tokens=special)
        if after[: len(before)] != before or len(after) == len(before):
            raise InputError(
                f"the answer {word!r} does not begin with a token of its own after this checkpoint's "
                f"prompt, which ends in {prompt[-12:]!r}; use another word"
            )
        return int(after[len(before)])

    def _begun(self, prompt: str) -> bool:
        """Whether the prompt has its own beginning-of-text token, which must not be there twice."""
        start = self.processor.tokenizer.bos_token
        return bool(start) and prompt.startswith(start)


@cache
def open_prompts(path: Path, architecture: str, command: str = COMMAND) -> Prompts:
    """Prompts of a local checkpoint folder.

    Raises
    ------
    InputError
        If the family is not known, or its processor cannot be read.
    """
    family = FAMILIES.get(architecture)
    if family is None:
        raise InputError(
            f"{path}: how to ask {architecture} about an image is not known; known: "
            f"{', '.join(FAMILIES)}; add its row to runs/vision/families.py"
        )
    return Prompts(open_processor(path, family), family, command)


def open_processor(path: Path, family: Family) -> Any:
    """The processor of a local checkpoint folder.

    What some families need for video alone (torchvision, num2words) may be missing: then the same
    processor is put together from its tokenizer and image processor.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from transformers import AutoProcessor

    require_extra("vision", "pillow", where=f"{path}: images")

    try:
        try:
            return AutoProcessor.from_pretrained(path, local_files_only=True)
        except (ImportError, ValueError, OSError):  # which of them depends on what is missing
            return _image_only(path, family)
    except Exception as error:  # every processor fails in its own way
        raise InputError(
            f"{path}: the image processor cannot be read ({line_of(error)}); set `series.tokenizer` to a "
            "folder with preprocessor_config.json beside the tokenizer"
        ) from None


def _image_only(path: Path, family: Family) -> Any:
    import transformers
    from transformers import AutoImageProcessor, AutoTokenizer

    whole = getattr(transformers, family.without_video or family.processor)

    class ImageOnly(whole):  # type: ignore[misc, valid-type]  # a class known at run time
        """The processor without its video part: transformers reads the parts off this signature."""

        def __init__(self, image_processor: Any, tokenizer: Any, **options: Any) -> None:
            super().__init__(image_processor, tokenizer, **options)

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    images = AutoImageProcessor.from_pretrained(path, local_files_only=True)
    known = set(inspect.signature(whole.__init__).parameters)
    known -= {"image_processor", "tokenizer", "video_processor", "kwargs", "self"}
    options = {name: value for name, value in _settings(path).items() if name in known}
    options.setdefault("chat_template", _template(path, tokenizer))
    return ImageOnly(images, tokenizer, **options)


def _settings(path: Path) -> dict[str, Any]:
    file = path / "processor_config.json"
    if not file.is_file():
        return {}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _template(path: Path, tokenizer: Any) -> str | None:
    """A chat template in its own file, old or new, or the tokenizer's."""
    plain, listed = path / "chat_template.jinja", path / "chat_template.json"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    if listed.is_file():
        return str(json.loads(listed.read_text(encoding="utf-8"))["chat_template"])
    found: str | None = tokenizer.chat_template
    return found
