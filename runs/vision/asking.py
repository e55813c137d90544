"""What the visits over scenes share: checks, candidate answers, and questions asked only once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.cases import Cases, Image
from runs.errors import CheckpointError, InputError
from runs.inputs import Scenes
from runs.loaded import LoadedModel
from runs.products.base import Spec
from runs.vision.adapters import adapter_of, first_tokens
from runs.vision.base import Conditions, VisionAdapter


@dataclass(frozen=True)
class Answers:
    """Candidate answers of every sample.

    Attributes
    ----------
    token : int32 array (sample, candidate)
        First token of each candidate, −1 where the sample's subset has fewer.
    image, text : int32 array (sample,)
        Which candidate the image supports, and which the text; −1 for none.
    """

    token: NDArray[np.int32]
    image: NDArray[np.int32]
    text: NDArray[np.int32]


@dataclass(frozen=True)
class Questions:
    """What one condition asks, each distinct input once.

    Attributes
    ----------
    texts : list of str
        Words of each distinct input.
    images : list of int, or None
        Number of its image, where the condition shows one.
    row : int array (sample,)
        The distinct input of each sample.
    """

    texts: list[str]
    images: list[int] | None
    row: NDArray[np.intp]


def scenes_of(spec: Spec, visit: str) -> Scenes:
    """The scenes of a set, if it has any and the model can see.

    Raises
    ------
    InputError
        With the mend.
    """
    inputs, shape = spec.inputs, spec.shape
    if inputs.scenes is None:
        raise InputError(
            f"key `inputs.{inputs.name}.mode`: the visit `{visit}` asks about scenes; set "
            f'mode = "scenes", or leave the visit to another set with `inputs.{inputs.name}.visits`'
        )
    if not shape.reads_images:
        raise InputError(
            f"key `capture.visits`: `{visit}` asks about images, and {shape.architecture} reads none; "
            "use a model that reads images"
        )
    if spec.capture.backend != "torch":
        raise InputError(
            f'key `capture.backend`: `{visit}` works with torch hooks alone; set backend = "torch"'
        )
    return inputs.scenes


def answers_of(spec: Spec, cases: Cases) -> Answers:
    """Tokens of the candidate answers, and which of them are supported.

    Raises
    ------
    InputError
        If candidates share a first token, or an answer is no candidate.
    """
    words = {subset: spoken(spec, cases.candidates[subset]) for subset in np.unique(cases.subset)}
    widest = max(len(found) for found in words.values())
    token = np.full((len(cases), widest), -1, np.int32)
    image, text = (np.full(len(cases), -1, np.int32) for _ in range(2))
    command = spec.capture.answers.command
    for subset, found in words.items():
        rows = cases.subset == subset
        ids = first_tokens(spec.shape.architecture, spec.tokenizer, found, command=command)
        token[np.ix_(rows, range(len(found)))] = ids
        for column, said in ((image, cases.answer_image), (text, cases.answer_text)):
            column[rows] = _places(said[rows], cases.candidates[subset], spec.inputs.name)
    return Answers(token, image, text)


def _places(said: NDArray[np.str_], candidates: Sequence[str], name: str) -> list[int]:
    """Places of answers among the candidates; an empty answer is none."""
    strange = sorted({str(word) for word in said} - {*candidates, ""})
    if strange:
        raise InputError(
            f"key `inputs.{name}`: the answer {strange[0]!r} is not among the candidates "
            f"{', '.join(candidates)}; mend the set's file"
        )
    return [candidates.index(str(word)) if word else -1 for word in said]


def spoken(spec: Spec, words: Sequence[str]) -> list[str]:
    """Answers as the recipe expects them to be written."""
    return [word.capitalize() if spec.capture.answers.capitalised else word for word in words]


def open_adapter(loaded: LoadedModel, spec: Spec, cases: Cases, answers: Answers) -> VisionAdapter:
    """The checkpoint's adapter, once its answers are known to be those the store is laid out for."""
    adapter = adapter_of(loaded, spec.tokenizer, command=spec.capture.answers.command)
    for subset in np.unique(cases.subset):
        words = spoken(spec, cases.candidates[subset])
        row = answers.token[int(np.flatnonzero(cases.subset == subset)[0])]
        if [adapter.first_token(word) for word in words] != row[: len(words)].tolist():
            raise CheckpointError(
                f"the adapter of {loaded.shape.architecture} begins the answers {', '.join(words)} with "
                "other tokens than its tokenizer"
            )
    return adapter


def questions(cases: Cases, condition: Conditions) -> Questions:
    """The distinct inputs of a condition: an image or a text is asked about once, however many cases."""
    seen: dict[tuple[str, int], int] = {}
    row = np.empty(len(cases), np.intp)
    for sample in range(len(cases)):
        said = "" if condition == "image" else str(cases.text[sample])
        words = f"{said} {cases.question[sample]}".strip()
        picture = -1 if condition == "text" else int(cases.image[sample])
        row[sample] = seen.setdefault((words, picture), len(seen))
    texts = [words for words, _ in seen]
    images = None if condition == "text" else [picture for _, picture in seen]
    return Questions(texts, images, row)


def batches(
    spec: Spec, scenes: Scenes, asked: Questions
) -> Iterator[tuple[slice, list[str], list[Image] | None]]:
    """Micro-batches of distinct inputs; each image of a batch is rendered once."""
    size = spec.capture.micro_batch or spec.capture.block
    for start in range(0, len(asked.texts), size):
        part = slice(start, min(start + size, len(asked.texts)))
        yield part, asked.texts[part], shown(scenes, asked.images and asked.images[part])


def shown(scenes: Scenes, numbers: Sequence[int] | None) -> list[Image] | None:
    """Images by number, each rendered once."""
    if numbers is None:
        return None
    made = {number: scenes.image(number) for number in dict.fromkeys(numbers)}
    return [made[number] for number in numbers]


def case_columns(cases: Cases, answers: Answers) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """Constant columns along the samples."""
    along = ("sample",)
    return {
        "candidate_token": (("sample", "candidate"), answers.token),
        "image_candidate": (along, answers.image),
        "text_candidate": (along, answers.text),
        "visual_tier": (along, cases.visual_tier),
        "text_tier": (along, cases.text_tier),
        "typicality": (along, cases.typicality),
    }
