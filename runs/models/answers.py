"""Questions with answers as batches of tokens, and answers that a model draws itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probes.arithmetic import Problem
from runs.models.diverging import DivergedError


@dataclass(frozen=True)
class AnswerBatch:
    """Prompts with what follows them, an end of text after each.

    Attributes
    ----------
    tokens : int64 tensor (sequence, position)
        Filled up with the end of text.
    mask : bool tensor (sequence, position)
        True at the answer and the end of text after it.
    start : int64 tensor (sequence,)
        Tokens of the prompt.
    end : int
        Id of the end of text.
    """

    tokens: Tensor
    mask: Tensor
    start: Tensor
    end: int

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, index: NDArray[np.int64]) -> AnswerBatch:
        """Some of the sequences."""
        at = torch.as_tensor(index)
        return AnswerBatch(self.tokens[at], self.mask[at], self.start[at], self.end)

    def equal(self, right: AnswerBatch) -> Tensor:
        """Whether each answer is the same, its end included, as that of the same prompt."""
        width = max(self.tokens.shape[1], right.tokens.shape[1])
        mine, theirs = (_answers(b, width) for b in (self, right))
        return (mine == theirs).all(dim=1)


def encode(tokenizer: Any, problems: Sequence[Problem]) -> AnswerBatch:
    """Tokenise problems; prompt and answer apart, as a model sees them when it is asked."""
    prompts = tokenizer([p.prompt for p in problems], add_special_tokens=False)["input_ids"]
    answers = tokenizer([p.answer for p in problems], add_special_tokens=False)["input_ids"]
    end = int(tokenizer.eos_token_id)
    rows = [[*p, *a, end] for p, a in zip(prompts, answers, strict=True)]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [end] * (width - len(row)) for row in rows])
    start = torch.tensor([len(p) for p in prompts])
    place = torch.arange(width)
    length = torch.tensor([len(row) for row in rows])
    mask = (place >= start[:, None]) & (place < length[:, None])
    return AnswerBatch(tokens, mask, start, end)


@torch.no_grad()
def draw(
    model: Any, asked: AnswerBatch, *, generator: torch.Generator, longest: int = 6
) -> AnswerBatch:
    """Let a model answer at temperature 1.

    Parameters
    ----------
    model
        A causal language model.
    asked
        Prompts; their answers are not looked at.
    generator
        Of the draws.
    longest
        Tokens after which an answer without an end is cut.

    Returns
    -------
    AnswerBatch
        The same prompts with what was drawn.

    Raises
    ------
    DivergedError
        If a probability is no number.
    """
    count, width = len(asked), int(asked.start.max()) + longest
    tokens = torch.full((count, width), asked.end)
    there = torch.arange(min(width, asked.tokens.shape[1]))
    prompt = there < asked.start[:, None]
    tokens[:, there] = torch.where(prompt, asked.tokens[:, there], asked.end)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    row, going = torch.arange(count), torch.ones(count, dtype=torch.bool)
    for step in range(longest):
        place = asked.start + step
        logits = model(tokens[:, : int(place.max())]).logits[row, place - 1]
        chances = logits.softmax(-1)
        if not bool(chances.isfinite().all()):
            raise DivergedError("a probability of the model's own answers is no number")
        picked = torch.multinomial(chances, 1, generator=generator)[:, 0]
        tokens[row, place] = torch.where(going, picked, asked.end)
        mask[row, place] = going
        going = going & (picked != asked.end)
        if not bool(going.any()):
            break
    return AnswerBatch(tokens, mask, asked.start, asked.end)


def _answers(batch: AnswerBatch, width: int) -> Tensor:
    """Answers moved to the left, −1 after their end, (sequence, width)."""
    place = batch.start[:, None] + torch.arange(width)
    inside = place < batch.tokens.shape[1]
    at = place.clamp_max(batch.tokens.shape[1] - 1)
    kept = inside & batch.mask.gather(1, at)
    return torch.where(kept, batch.tokens.gather(1, at), -1)
