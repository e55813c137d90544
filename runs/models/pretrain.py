"""The training run of the demo: a GPT-NeoX and its tokenizer, on text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from runs.models.neox import TrainConfig, build_model, learning_rate, pack, update
from runs.models.text_run import TextRun
from runs.models.tokenizer import train_tokenizer
from runs.models.training_run import Progress, Trainer, train_run

_DEFAULT = TrainConfig()


def train(
    folder: str | Path,
    config: TrainConfig = _DEFAULT,
    *,
    texts: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a tokenizer and a GPT-NeoX, and keep checkpoints as a series: see `train_run`.

    Parameters
    ----------
    folder
        Made if needed; a new or empty one, or that of the same run.
    config
        Hyper-parameters; the default takes about two minutes on two cores and 215 MB of disk.
    texts
        Documents to train on; by default the training part of the corpus of speeches.
    progress
        Called after every update with step, steps and loss.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the folder holds something else, or the same run with other hyper-parameters or text. If the
        default corpus is not installed.
    ValueError
        If the texts are too short for the vocabulary or for one sequence.
    PhasescopeError
        If a loss, a gradient or a weight stops being a number.
    """
    return train_run(Path(folder), NeoxRun(config, texts), progress=progress)


class NeoxRun(TextRun[TrainConfig]):
    """A GPT-NeoX on packed windows of text."""

    @property
    def name(self) -> str:
        """By its sizes."""
        return f"neox-{self.config.layers}x{self.config.width}"

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Of bytes and their merges."""
        return train_tokenizer(self._texts, vocabulary=self.config.vocabulary)

    def windows(self, documents: Sequence[Sequence[int]], end: int) -> NDArray[np.int64]:
        """Windows that overlap in one token."""
        return pack(documents, length=self.config.length, end=end)

    def build(self) -> GPTNeoXForCausalLM:
        """The model with its initial weights."""
        return build_model(self.config)

    def update(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int
    ) -> tuple[float, float, float]:
        """One batch of windows."""
        config = self.config
        lr = learning_rate(step, config)
        loss, norm = update(model, optimizer, self.batch(step), lr=lr, clip=config.clip)
        return loss, lr, norm


TRAINER = Trainer(TrainConfig, NeoxRun, "a GPT-NeoX on two centuries of speeches")
