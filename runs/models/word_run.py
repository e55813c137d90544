"""Training of predictors of words: the next one, or the discounted distribution of those to come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from runs.models.neox import learning_rate
from runs.models.text_run import TextRun
from runs.models.word_tokenizer import train_word_tokenizer


@dataclass(frozen=True)
class WordTrainConfig(ABC):
    """Everything but the text that decides the weights of a run.

    Attributes
    ----------
    layers, width : int
        Layers after the embedding, and width of embedding and layers.
    vocabulary, length : int
        Words known to the tokenizer, and words in a sequence.
    target : str
        `next`: the next word; `successor`: the distribution of future words, word k ahead weighted by
        discount^(k − 1) (after arXiv 2605.24585, of which only the abstract could be read).
    discount, horizon : float, int
        Of `successor`; words further ahead than `horizon` are left out and the rest weighted up.
    batch, steps : int
        Sequences an update, and updates.
    lr, lr_floor, warmup, betas, weight_decay, clip, per_octave, seed, threads
        As `runs.models.neox.TrainConfig`.

    Raises
    ------
    ValueError
        If a value makes no model or no run.
    """

    layers: int = 2
    width: int = 128
    vocabulary: int = 8192
    length: int = 9
    target: Literal["next", "successor"] = "next"
    discount: float = 0.5
    horizon: int = 8
    batch: int = 64
    steps: int = 2000
    lr: float = 3e-3
    lr_floor: float = 0.1
    warmup: int = 30
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    per_octave: int = 2
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        sizes = ("layers", "width", "length", "horizon", "batch", "steps", "warmup", "per_octave")
        for name in (*sizes, "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if not 0 < self.discount < 1:
            raise ValueError(f"discount must be between 0 and 1, not {self.discount}")

    @property
    def tokens_per_step(self) -> int:
        """Positions at which a prediction is made in one update."""
        return self.batch * self.length

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weight of each future word (ahead,), the next one first; they sum to 1."""
        if self.target == "next":
            return np.ones(1)
        falling = np.power(self.discount, np.arange(self.horizon))
        found: NDArray[np.float64] = falling / falling.sum()
        return found

    @abstractmethod
    def build(self) -> PreTrainedModel:
        """The model, with weights as torch's generator stands."""


class WordRun(TextRun[WordTrainConfig]):
    """A predictor of words on windows of consecutive words, punctuation left out."""

    @property
    def name(self) -> str:
        """By its kind and sizes."""
        kind = type(self.config).__name__.removesuffix("TrainConfig").lower()
        return f"{kind}-{self.config.layers}x{self.config.width}"

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Of the commonest words."""
        return train_word_tokenizer(self._texts, vocabulary=self.config.vocabulary)

    def windows(self, documents: Sequence[Sequence[int]], end: int) -> NDArray[np.int64]:
        """Windows side by side, each with the words that follow it."""
        config = self.config
        return word_windows(documents, length=config.length, ahead=len(config.weights), end=end)

    def build(self) -> PreTrainedModel:
        """The model with its initial weights, a pure function of the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return self.config.build()

    def update(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int
    ) -> tuple[float, float, float]:
        """One batch of windows."""
        config = self.config
        words = torch.from_numpy(self.batch(step))
        lr = learning_rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = lr
        logits = model(words[:, : config.length]).logits
        loss = future_loss(logits, words, torch.tensor(config.weights, dtype=logits.dtype))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        return loss.item(), lr, norm.item()


def word_windows(
    documents: Sequence[Sequence[int]], *, length: int, ahead: int, end: int
) -> NDArray[np.int64]:
    """Join documents, an end token after each, and cut them into windows with what follows each.

    Parameters
    ----------
    documents
        Word ids of each document.
    length, ahead
        Words a window shows, and words after it that are predicted.
    end
        Id of the end token.

    Returns
    -------
    int64 array (window, length + ahead)
        A window shows the words right after those that the one before shows.

    Raises
    ------
    ValueError
        If the documents do not fill one window.
    """
    stream = np.array([word for document in documents for word in (*document, end)], np.int64)
    count = (len(stream) - ahead) // length
    if count < 1:
        raise ValueError(
            f"documents have {len(stream)} words, fewer than length + those ahead = {length + ahead}; "
            "give more"
        )
    starts = np.arange(count)[:, None] * length
    windows: NDArray[np.int64] = stream[starts + np.arange(length + ahead)]
    return windows


def future_loss(logits: Tensor, words: Tensor, weights: Tensor) -> Tensor:
    """Mean divergence of the predicted distribution from that of the words to come, in nats.

    KL(target ‖ model), where the target gives word t + k the k-th weight and a word that comes twice both
    of its weights. With one weight it is the surprisal of the next word.

    Parameters
    ----------
    logits : (sample, position, vocabulary)
    words : int64 (sample, position + ahead)
        What was shown, and what follows.
    weights : (ahead,)
        Of the next word, the one after it, …; they sum to 1.

    Returns
    -------
    scalar tensor
        Memory: one copy of the logits.
    """
    ahead, length = len(weights), logits.shape[1]
    future = words.unfold(1, ahead, 1)[:, 1 : length + 1]  # (sample, position, ahead)
    picked = logits.gather(2, future) - logits.logsumexp(2, keepdim=True)
    same = (future[..., :, None] == future[..., None, :]).to(weights.dtype)
    target = same @ weights  # the probability the target gives each future word
    return (weights * (target.log() - picked)).sum(-1).mean()
