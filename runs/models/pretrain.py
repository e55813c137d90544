"""The training run of the demo: a GPT-NeoX and its tokenizer, on text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, GPTNeoXForCausalLM

from runs.models.corpus import load_speeches
from runs.models.neox import (
    TrainConfig,
    batch_rows,
    build_model,
    build_optimizer,
    learning_rate,
    pack,
    update,
)
from runs.models.tokenizer import has_tokenizer, save_tokenizer, train_tokenizer
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
        If the loss stops being a number.
    """
    return train_run(Path(folder), NeoxRun(config, texts), progress=progress)


class NeoxRun:
    """A GPT-NeoX on packed windows of text.

    Parameters
    ----------
    config
        Hyper-parameters.
    texts
        Documents to train on; by default the training part of the corpus of speeches.
    """

    def __init__(self, config: TrainConfig, texts: Sequence[str] | None = None) -> None:
        if texts is None:
            texts = [speech.text for speech in load_speeches("train")]
        self.config = config
        self.name = f"neox-{config.layers}x{config.width}"
        self._texts = texts
        self._windows: NDArray[Any]

    def settings(self) -> dict[str, Any]:
        """Hyper-parameters, and the digest of the text."""
        return {
            **asdict(self.config),
            "betas": list(self.config.betas),
            "text_sha256": text_digest(self._texts),
        }

    def prepare(self, root: Path) -> None:
        """Train the tokenizer unless it is there, and cut the text into windows."""
        if not self.prepared(root):
            save_tokenizer(train_tokenizer(self._texts, vocabulary=self.config.vocabulary), root)
        tokenizer = AutoTokenizer.from_pretrained(root, local_files_only=True)
        documents = tokenizer(list(self._texts), add_special_tokens=False)["input_ids"]
        self._windows = pack(documents, length=self.config.length, end=tokenizer.eos_token_id)

    def prepared(self, root: Path) -> bool:
        """Whether the tokenizer is there."""
        return has_tokenizer(root)

    def build(self) -> GPTNeoXForCausalLM:
        """The model with its initial weights."""
        return build_model(self.config)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """AdamW that decays matrices."""
        return build_optimizer(model, self.config)

    def update(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int
    ) -> tuple[float, float, float]:
        """One batch of windows."""
        config = self.config
        rows = batch_rows(step, batch=config.batch, count=len(self._windows), seed=config.seed)
        lr = learning_rate(step, config)
        loss, norm = update(model, optimizer, self._windows[rows], lr=lr, clip=config.clip)
        return loss, lr, norm


TRAINER = Trainer(TrainConfig, NeoxRun, "a GPT-NeoX on two centuries of speeches")


def text_digest(texts: Sequence[str]) -> str:
    """SHA-256 over documents, one by one."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()
