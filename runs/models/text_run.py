"""What every training run on text has: documents, a tokenizer beside the checkpoints, and windows."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from runs.models.corpus import load_speeches
from runs.models.neox import Optimised, batch_rows, build_optimizer
from runs.models.tokenizer import has_tokenizer, save_tokenizer
from runs.models.training_run import Schedule


class TextSchedule(Schedule, Optimised, Protocol):
    """What every configuration of a run on text says; a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def batch(self) -> int:
        """Windows an update."""


Config = TypeVar("Config", bound=TextSchedule)


class TextRun(ABC, Generic[Config]):
    """A model on windows of text; half of `TrainingRun`.

    Parameters
    ----------
    config
        Hyper-parameters.
    texts
        Documents to train on; by default the training part of the corpus of speeches.
    """

    def __init__(self, config: Config, texts: Sequence[str] | None = None) -> None:
        if texts is None:
            texts = [speech.text for speech in load_speeches("train")]
        self.config = config
        self._texts = texts
        self._windows: NDArray[np.int64]

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the series."""

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A tokenizer made of the documents."""

    @abstractmethod
    def windows(self, documents: Sequence[Sequence[int]], end: int) -> NDArray[np.int64]:
        """Cut tokenised documents, with the id of the end token, into windows (window, token)."""

    def settings(self) -> dict[str, Any]:
        """Hyper-parameters, and the digest of the text."""
        return {
            **asdict(self.config),
            "betas": list(self.config.betas),
            "text_sha256": text_digest(self._texts),
        }

    def prepare(self, root: Path) -> None:
        """Make the tokenizer unless it is there, and cut the text into windows."""
        if not self.prepared(root):
            save_tokenizer(self.tokenizer(), root)
        tokenizer = AutoTokenizer.from_pretrained(root, local_files_only=True)
        documents = tokenizer(list(self._texts), add_special_tokens=False)["input_ids"]
        self._windows = self.windows(documents, tokenizer.eos_token_id)

    def prepared(self, root: Path) -> bool:
        """Whether the tokenizer is there."""
        return has_tokenizer(root)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Windows of update `step` (sample, token)."""
        config = self.config
        rows = batch_rows(step, batch=config.batch, count=len(self._windows), seed=config.seed)
        return self._windows[rows]

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """AdamW that decays matrices."""
        return build_optimizer(model, self.config)


def text_digest(texts: Sequence[str]) -> str:
    """SHA-256 over documents, one by one."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()
