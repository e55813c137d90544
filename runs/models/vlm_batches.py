"""What one update of the tiny vision-language model reads: a pure function of settings, seed and step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from probes.tiny_images import GRID, TIERS, TinyPlans, draw_plans, render_many
from probes.tiny_texts import (
    COLOURS,
    LINKS,
    ONE_FACT,
    SECOND_FACT,
    SHAPES,
    Fact,
    question,
    supported_colours,
    text_of,
)
from runs.models.tiny_vlm import PATCHES, pixel_values

EASY_TIERS = 4  # those in which no shape is hidden for the most part


class Mix(Protocol):
    """What a configuration says of the training material."""

    @property
    def steps(self) -> int:
        """Updates."""

    @property
    def seed(self) -> int:
        """Of the data."""

    @property
    def images(self) -> int:
        """Pictures an update."""

    @property
    def vision_questions(self) -> int:
        """Questions without text a picture."""

    @property
    def text_questions(self) -> int:
        """Questions without a picture an update."""

    @property
    def easy_share(self) -> float:
        """Share of the updates, from the first, that see easy pictures only."""

    @property
    def irrelevant_share(self) -> float:
        """Share of texts beside a picture that do not speak of the shape asked for."""

    @property
    def text_facts(self) -> int:
        """Facts a text states."""


@dataclass(frozen=True)
class Batch:
    """Pictures with questions, questions about texts alone, and their answers.

    Attributes
    ----------
    pixels : float tensor (image, 3, 64, 64)
    patch_shape, patch_colour : int64 tensor (image, patch)
        What is in each patch; the last class is none.
    vision_ids : int64 tensor (image, question, token)
        Questions about the picture alone; the shape is the token before the last.
    both_ids : int64 tensor (image, token)
        A text and a question beside the picture, padded at the end.
    both_last : int64 tensor (image,)
        Where the last of its tokens is.
    text_ids, text_last : int64 tensor (text, token), (text,)
        The same without a picture.
    vision_answer, both_answer, text_answer : int64 tensor (image, question), (image,), (text,)
        Ids of the right answers.
    """

    pixels: Tensor
    patch_shape: Tensor
    patch_colour: Tensor
    vision_ids: Tensor
    both_ids: Tensor
    both_last: Tensor
    text_ids: Tensor
    text_last: Tensor
    vision_answer: Tensor
    both_answer: Tensor
    text_answer: Tensor


class Material:
    """Draws batches for one tokenizer.

    Parameters
    ----------
    tokenizer
        Knows every word of `probes.tiny_texts`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._pad = int(tokenizer.pad_token_id)
        self._colours = np.array(tokenizer.convert_tokens_to_ids(list(COLOURS)))
        self._questions = self._ids([question(shape) for shape in range(len(SHAPES))])

    def batch(self, step: int, mix: Mix) -> Batch:
        """What update `step`, 1 and up, reads."""
        rng = np.random.default_rng((mix.seed, step))
        easy = step <= mix.easy_share * mix.steps
        tiers = rng.integers(0, EASY_TIERS if easy else len(TIERS), mix.images)
        plans = draw_plans(rng, tiers)
        slots = _asked_slots(rng, plans, mix.vision_questions + 1)
        shapes = np.take_along_axis(plans.shape, slots, axis=1).astype(np.int64)
        colours = np.take_along_axis(plans.colour, slots, axis=1).astype(np.int64)
        both_ids, both_last = self._beside_pictures(rng, mix, plans, shapes[:, -1], colours[:, -1])
        alone = rng.integers(0, len(SHAPES), mix.text_questions)
        said = rng.integers(0, len(COLOURS), mix.text_questions)
        text_ids, text_last = self._alone(rng, mix, alone, said)
        return Batch(
            pixel_values(torch.from_numpy(render_many(plans))),
            _patches(plans, plans.shape, len(SHAPES)),
            _patches(plans, plans.colour, len(COLOURS)),
            torch.from_numpy(self._questions[shapes[:, :-1]]),
            both_ids,
            both_last,
            text_ids,
            text_last,
            torch.from_numpy(self._colours[colours[:, :-1]]),
            torch.from_numpy(self._colours[colours[:, -1]]),
            torch.from_numpy(self._colours[said]),
        )

    def _beside_pictures(
        self,
        rng: np.random.Generator,
        mix: Mix,
        plans: TinyPlans,
        shapes: NDArray[np.int64],
        colours: NDArray[np.int64],
    ) -> tuple[Tensor, Tensor]:
        """Texts that agree with the picture as far as their words go; no deterministic one ever errs."""
        true = _true_colours(rng, plans)
        true[np.arange(len(true)), shapes] = colours
        away = 1 + np.argsort(rng.random((len(true), len(SHAPES) - 1)), axis=1)
        others = (shapes[:, None] + away) % len(SHAPES)
        relevant = rng.random(len(true)) >= mix.irrelevant_share
        order = np.column_stack([shapes, others])
        spoken = np.where(relevant[:, None], order, np.roll(order, -1, axis=1))
        return self._asked(rng, mix, shapes, spoken[:, : mix.text_facts], true)

    def _alone(
        self,
        rng: np.random.Generator,
        mix: Mix,
        shapes: NDArray[np.int64],
        colours: NDArray[np.int64],
    ) -> tuple[Tensor, Tensor]:
        true = rng.integers(0, len(COLOURS), (len(shapes), len(SHAPES)))
        true[np.arange(len(true)), shapes] = colours
        other = (shapes + rng.integers(1, len(SHAPES), len(shapes))) % len(SHAPES)
        return self._asked(
            rng, mix, shapes, np.column_stack([shapes, other])[:, : mix.text_facts], true
        )

    def _asked(
        self,
        rng: np.random.Generator,
        mix: Mix,
        asked: NDArray[np.int64],
        spoken: NDArray[np.int64],
        true: NDArray[np.int64],
    ) -> tuple[Tensor, Tensor]:
        """Texts about shapes (text, fact) of known colours (text, shape), and questions."""
        tiers = rng.choice(ONE_FACT, len(asked))
        colours = np.take_along_axis(true, spoken, axis=1)
        colours = supported_colours(rng, colours, np.broadcast_to(tiers[:, None], colours.shape))
        links = np.argsort(rng.random((len(asked), len(LINKS))), axis=1)
        turned = rng.random(len(asked)) < 0.5
        tiers = tiers + (SECOND_FACT if mix.text_facts > 1 else 0)
        texts = []
        for row, tier in enumerate(tiers):
            facts = tuple(map(Fact, spoken[row], colours[row], links[row]))
            texts.append(text_of(facts[::-1] if turned[row] else facts, int(tier)))
        ids = self._ids([f"{t} {question(s)}" for t, s in zip(texts, asked, strict=True)])
        return torch.from_numpy(ids), torch.from_numpy((ids != self._pad).sum(axis=1) - 1)

    def _ids(self, texts: list[str]) -> NDArray[np.int64]:
        """Token ids (text, token), padded at the end."""
        found = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        ids = np.full((len(found), max(map(len, found))), self._pad, np.int64)
        for row, tokens in zip(ids, found, strict=True):
            row[: len(tokens)] = tokens
        return ids


def branch_mask(questions: int, asked: int, more: int) -> tuple[Tensor, Tensor]:
    """Who sees whom, and positions, where branches follow one picture and do not see one another.

    Parameters
    ----------
    questions, asked
        Questions about the picture alone, and their tokens.
    more
        Tokens of the last branch.

    Returns
    -------
    bool tensor (1, 1, position, position), int64 tensor (1, position)
        Every branch goes on where the patches end.
    """
    lengths = [asked] * questions + [more]
    branch = torch.cat([torch.full((n,), i) for i, n in enumerate([PATCHES, *lengths])])
    places = torch.cat([torch.arange(PATCHES), *(PATCHES + torch.arange(n) for n in lengths)])
    own = branch[:, None] == branch[None, :]
    order = torch.arange(len(branch))
    seen = (own | (branch == 0)[None, :]) & (order[None, :] <= order[:, None])
    return seen[None, None], places[None]


def _asked_slots(rng: np.random.Generator, plans: TinyPlans, count: int) -> NDArray[np.intp]:
    """Objects asked about (image, question): different ones as far as there are any."""
    present = plans.present
    order = np.argsort(np.where(present, rng.random(present.shape), np.inf), axis=1)
    places = np.arange(count) % present.sum(axis=1, keepdims=True)
    return np.take_along_axis(order, places, axis=1)


def _true_colours(rng: np.random.Generator, plans: TinyPlans) -> NDArray[np.int64]:
    """Colour of each shape (image, shape): as drawn, and any where it is not in the picture."""
    true = rng.integers(0, len(COLOURS), (len(plans), len(SHAPES)))
    image, slot = np.nonzero(plans.present)
    true[image, plans.shape[image, slot]] = plans.colour[image, slot]
    return true


def _patches(plans: TinyPlans, classes: NDArray[np.int8], none: int) -> Tensor:
    """Class of the object in each patch (image, patch)."""
    found = np.full((len(plans), GRID**2), none, np.int64)
    image, slot = np.nonzero(plans.present)
    found[image, plans.cell[image, slot]] = classes[image, slot]
    return torch.from_numpy(found)
