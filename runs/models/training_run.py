"""A training run of any model: resumable, cached, and the same byte for byte after any interruption."""

from __future__ import annotations

import csv
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from runs.errors import InputError, PhasescopeError
from runs.models.atomic import whole
from runs.models.diverging import DivergedError, check_update, check_weights
from runs.models.neox import checkpoint_steps

Progress = Callable[[int, int, float], None]
Row = tuple[float, ...]

MANIFEST = "series.json"
LOG = "training.csv"
STATE = "resume.pt"
STATE_EVERY = 100

_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm")


class Schedule(Protocol):
    """What every configuration says of its run."""

    @property
    def steps(self) -> int:
        """Updates."""

    @property
    def per_octave(self) -> int:
        """Checkpoints kept to each doubling of the step."""

    @property
    def seed(self) -> int:
        """Of the initial weights and of the data order."""

    @property
    def lr(self) -> float:
        """Highest learning rate; named when the loss is no number."""

    @property
    def threads(self) -> int:
        """Threads of one operation."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens (or answers) predicted in one update."""


class TrainingRun(Protocol):
    """What is trained, and on what. Every method is a pure function of the configuration and the text.

    Attributes
    ----------
    name : str
        Of the series.
    config : Schedule
    """

    @property
    def name(self) -> str:
        """Of the series."""

    @property
    def config(self) -> Schedule:
        """Hyper-parameters."""

    def settings(self) -> dict[str, Any]:
        """Everything that decides the weights, as JSON has it; kept in the manifest and compared."""

    def prepare(self, root: Path) -> None:
        """Write what stands beside the checkpoints (a tokenizer); make ready what `update` reads."""

    def prepared(self, root: Path) -> bool:
        """Whether all that `prepare` writes is there."""

    def build(self) -> PreTrainedModel:
        """The model with its initial weights."""

    def optimizer(self, model: Any) -> torch.optim.Optimizer:
        """Its optimiser."""

    def update(
        self, model: Any, optimizer: torch.optim.Optimizer, step: int
    ) -> tuple[float, float, float]:
        """Take update `step`, 1 and up; gives loss, learning rate and gradient norm."""


@dataclass(frozen=True)
class Trainer:
    """A model that can be trained here.

    Attributes
    ----------
    config : type
        A frozen dataclass of its hyper-parameters, `seed` among them.
    run
        From a configuration to what is trained, on its own material.
    described : str
        The model in a few words, for the progress bar.
    """

    config: type
    run: Callable[[Any], TrainingRun]
    described: str


def train_run(root: Path, run: TrainingRun, *, progress: Progress | None = None) -> Path:
    """Train a model and keep checkpoints as a series.

    The folder gets what `run.prepare` writes, one folder `step000016` a checkpoint (as
    `save_pretrained` writes it), `training.csv` and the manifest `series.json`, which grows with the
    checkpoints. A run killed at any moment goes on from its last saved state when called again, and ends
    with the same bytes as one that was not (same machine and versions). A finished run is left as it is.
    A second process waits for the first.

    Parameters
    ----------
    root
        Made if needed; a new or empty folder, or that of the same run.
    run
        What to train.
    progress
        Called after every update with step, steps and loss.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the folder holds something else, or the same run with other settings; the line shows the
        difference.
    PhasescopeError
        If a loss, a gradient or a weight stops being a number.
    """
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        _claim(root, run.settings())
        if not finished(root, run):
            with threads_set(run.config.threads):
                _run(root, run, progress)
    return root


def finished(root: Path, run: TrainingRun) -> bool:
    """Whether a folder holds the whole run; its settings are not compared."""
    manifest = root / MANIFEST
    steps = _steps(run)
    return (
        manifest.is_file()
        and not (root / STATE).exists()
        and run.prepared(root)
        and (root / LOG).is_file()
        and _kept(root, run) == list(steps)
        and len(_read(manifest)["checkpoints"]) == len(steps)
    )


def _read(manifest: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
    return content


def _claim(root: Path, settings: Mapping[str, Any]) -> None:
    """Write an empty manifest into a new folder, or compare with the one that is there."""
    manifest = root / MANIFEST
    if not manifest.is_file():
        other = next((p.name for p in sorted(root.iterdir()) if not p.name.startswith(".")), None)
        if other:
            raise InputError(f"{root}: holds `{other}` and no {MANIFEST}; give a new folder")
        write_json(manifest, {"training": dict(settings), "checkpoints": []})
        return
    try:
        there = dict(_read(manifest)["training"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{manifest}: is not of a run trained here; give a new folder") from None
    keys = [k for k in {**there, **settings} if there.get(k) != settings.get(k)]
    if keys:
        shown = ", ".join(f"{k} is {there.get(k)!r}, not {settings.get(k)!r}" for k in keys)
        raise InputError(
            f"{root}: holds another run: {shown}; give a new folder or remove this one"
        )


def _steps(run: TrainingRun) -> tuple[int, ...]:
    return checkpoint_steps(run.config.steps, run.config.per_octave)


def _kept(root: Path, run: TrainingRun) -> list[int]:
    return [step for step in _steps(run) if (root / _name(step)).is_dir()]


def _name(step: int) -> str:
    return f"step{step:06d}"


def _run(root: Path, run: TrainingRun, progress: Progress | None) -> None:
    run.prepare(root)
    config = run.config
    model = run.build()
    optimizer = run.optimizer(model)
    rows = _resume(root, model, optimizer)
    if not rows:
        _keep(root, run, model, 0)
    kept = _steps(run)
    for step in range(len(rows) + 1, config.steps + 1):
        saved = step % STATE_EVERY == 0 or step == config.steps
        try:
            loss, lr, norm = run.update(model, optimizer, step)
            check_update(step, loss, norm)
            if step in kept or saved:  # what is written is made of numbers
                check_weights(step, model)
        except DivergedError as error:
            raise PhasescopeError(f"{root}: {error}; lower lr {config.lr}") from None
        rows.append((step, loss, lr, norm))
        if step in kept:
            _keep(root, run, model, step)
        if saved:
            _save(root, model, optimizer, rows)
        if progress is not None:
            progress(step, config.steps, loss)
    _write_manifest(root, run, model)
    (root / STATE).unlink()


def _save(
    root: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, rows: list[Row]
) -> None:
    with whole(root / LOG) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
    with whole(root / STATE) as partial:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rows": rows}
        torch.save(state, partial)


def _resume(root: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[Row]:
    """Load the last saved state and return the log up to it; empty if there is none."""
    if not (root / STATE).is_file():
        return []
    try:
        state = torch.load(root / STATE, weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{root / STATE}: cannot be read ({line}); remove it to train from the start"
        ) from None
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return list(state["rows"])


def _keep(root: Path, run: TrainingRun, model: PreTrainedModel, step: int) -> None:
    target = root / _name(step)
    if not target.is_dir():
        with whole(target) as partial, no_bar():
            model.save_pretrained(partial)
    _write_manifest(root, run, model)


def _write_manifest(root: Path, run: TrainingRun, model: PreTrainedModel) -> None:
    manifest = root / MANIFEST
    training = _read(manifest)["training"]
    rate = run.config.tokens_per_step
    write_json(
        manifest,
        {
            "name": run.name,
            "architecture": type(model).__name__,
            "parameters": model.num_parameters(),
            "tokens_per_step": rate,
            "seed": run.config.seed,
            "training": training,
            "checkpoints": [
                {"path": _name(step), "step": step, "tokens": step * rate, "branch": "main"}
                for step in _kept(root, run)
            ],
        },
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small JSON file, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """One process a folder; the next one waits."""
    with (root / ".lock").open("a") as file:  # the system frees the lock if the process dies
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def threads_set(count: int) -> Iterator[None]:
    """Let torch use so many threads in an operation for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def no_bar() -> Iterator[None]:
    """Keep `save_pretrained` from drawing a progress bar for one small file."""
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()
