"""The training run: resumable, cached, and the same byte for byte after any interruption."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GPTNeoXForCausalLM
from transformers.utils import logging as transformers_logging

from runs.errors import InputError, PhasescopeError
from runs.models.atomic import whole
from runs.models.corpus import load_speeches
from runs.models.neox import (
    TrainConfig,
    batch_rows,
    build_model,
    build_optimizer,
    checkpoint_steps,
    learning_rate,
    pack,
    update,
)
from runs.models.tokenizer import has_tokenizer, save_tokenizer, train_tokenizer

Progress = Callable[[int, int, float], None]

MANIFEST = "series.json"
LOG = "training.csv"
STATE = "resume.pt"
STATE_EVERY = 100

_DEFAULT = TrainConfig()
_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm")


def train(
    folder: str | Path,
    config: TrainConfig = _DEFAULT,
    *,
    texts: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a tokenizer and a GPT-NeoX, and keep checkpoints as a series.

    The folder gets the tokenizer, one folder `step000016` a checkpoint (as `save_pretrained` writes
    it), `training.csv` and the manifest `series.json`, which grows with the checkpoints. A run killed
    at any moment goes on from its last saved state when called again, and ends with the same bytes as
    one that was not (same machine and versions). A finished run is left as it is. A second process
    waits for the first.

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
        If the folder holds something else, or the same run with other hyper-parameters or text; the
        line shows the difference. If the default corpus is not installed.
    ValueError
        If the texts are too short for the vocabulary or for one sequence.
    PhasescopeError
        If the loss stops being a number.
    """
    root = Path(folder)
    if texts is None:
        texts = [speech.text for speech in load_speeches("train")]
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        _claim(root, _training(config, texts))
        if not _finished(root, config):
            with threads_set(config.threads):
                _run(root, config, texts, progress)
    return root


def _training(config: TrainConfig, texts: Sequence[str]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return {**asdict(config), "betas": list(config.betas), "text_sha256": digest.hexdigest()}


def _claim(root: Path, training: dict[str, Any]) -> None:
    """Write an empty manifest into a new folder, or compare with the one that is there."""
    manifest = root / MANIFEST
    if not manifest.is_file():
        other = next((p.name for p in sorted(root.iterdir()) if not p.name.startswith(".")), None)
        if other:
            raise InputError(f"{root}: holds `{other}` and no {MANIFEST}; give a new folder")
        write_json(manifest, {"training": training, "checkpoints": []})
        return
    try:
        there = dict(json.loads(manifest.read_text(encoding="utf-8"))["training"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{manifest}: is not of a run trained here; give a new folder") from None
    keys = [k for k in {**there, **training} if there.get(k) != training.get(k)]
    if keys:
        shown = ", ".join(f"{k} is {there.get(k)!r}, not {training.get(k)!r}" for k in keys)
        raise InputError(
            f"{root}: holds another run: {shown}; give a new folder or remove this one"
        )


def _finished(root: Path, config: TrainConfig) -> bool:
    steps = checkpoint_steps(config.steps, config.per_octave)
    return (
        not (root / STATE).exists()
        and has_tokenizer(root)
        and (root / LOG).is_file()
        and _kept(root, config) == list(steps)
        and len(json.loads((root / MANIFEST).read_text(encoding="utf-8"))["checkpoints"])
        == len(steps)
    )


def _kept(root: Path, config: TrainConfig) -> list[int]:
    steps = checkpoint_steps(config.steps, config.per_octave)
    return [step for step in steps if (root / _name(step)).is_dir()]


def _name(step: int) -> str:
    return f"step{step:06d}"


def _run(root: Path, config: TrainConfig, texts: Sequence[str], progress: Progress | None) -> None:
    windows = _windows(root, config, texts)
    model = build_model(config)
    optimizer = build_optimizer(model, config)
    rows = _resume(root, model, optimizer)
    if not rows:
        _keep(root, config, model, 0)
    kept = checkpoint_steps(config.steps, config.per_octave)
    for step in range(len(rows) + 1, config.steps + 1):
        chosen = batch_rows(step, batch=config.batch, count=len(windows), seed=config.seed)
        lr = learning_rate(step, config)
        loss, norm = update(model, optimizer, windows[chosen], lr=lr, clip=config.clip)
        if not math.isfinite(loss + norm):
            raise PhasescopeError(f"{root}: loss {loss} at step {step}; lower lr {config.lr}")
        rows.append((step, loss, lr, norm))
        if step in kept:
            _keep(root, config, model, step)
        if step % STATE_EVERY == 0 or step == config.steps:
            _save(root, model, optimizer, rows)
        if progress is not None:
            progress(step, config.steps, loss)
    _write_manifest(root, config, model)
    (root / STATE).unlink()


def _windows(root: Path, config: TrainConfig, texts: Sequence[str]) -> Any:
    if not has_tokenizer(root):
        save_tokenizer(train_tokenizer(texts, vocabulary=config.vocabulary), root)
    tokenizer = AutoTokenizer.from_pretrained(root, local_files_only=True)
    documents = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return pack(documents, length=config.length, end=tokenizer.eos_token_id)


def _save(
    root: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: list[tuple[int, float, float, float]],
) -> None:
    with whole(root / LOG) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
    with whole(root / STATE) as partial:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rows": rows}
        torch.save(state, partial)


def _resume(
    root: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> list[tuple[int, float, float, float]]:
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


def _keep(root: Path, config: TrainConfig, model: GPTNeoXForCausalLM, step: int) -> None:
    target = root / _name(step)
    if not target.is_dir():
        with whole(target) as partial, no_bar():
            model.save_pretrained(partial)
    _write_manifest(root, config, model)


def _write_manifest(root: Path, config: TrainConfig, model: GPTNeoXForCausalLM) -> None:
    manifest = root / MANIFEST
    training = json.loads(manifest.read_text(encoding="utf-8"))["training"]
    rate = config.tokens_per_step
    write_json(
        manifest,
        {
            "name": f"neox-{config.layers}x{config.width}",
            "architecture": type(model).__name__,
            "parameters": model.num_parameters(),
            "tokens_per_step": rate,
            "seed": config.seed,
            "training": training,
            "checkpoints": [
                {"path": _name(step), "step": step, "tokens": step * rate, "branch": "main"}
                for step in _kept(root, config)
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
