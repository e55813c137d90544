"""Tasks of the LM Evaluation Harness, run from local files on a model in memory."""

from __future__ import annotations

import difflib
import hashlib
import io
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runs.errors import InputError
from runs.loaded import LoadedModel
from runs.packages import require_extra
from runs.products.base import ArraySpec, Spec
from runs.tables import CaptureTable, TasksTable

_KEY = "capture.lm_eval"
_FEWSHOT_SEED = 1234  # the harness's own
_NAMED = re.compile(r"^\s*(?:task|group):\s*['\"]?([\w./-]+)", re.MULTILINE)


@dataclass(frozen=True)
class TaskScores:
    """Scores of one model.

    Attributes
    ----------
    value, standard_error : float64 array (task, metric)
        In the metric's unit; NaN where a task has no such metric or no error of it.
    samples : int64 array (task,)
        Questions asked.
    """

    value: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    samples: NDArray[np.int64]


def score_tasks(loaded: LoadedModel, spec: Spec) -> TaskScores:
    """Run the recipe's tasks on a model in memory, without a network.

    Parameters
    ----------
    loaded
        A model; hooks on it stay, so an edited model is scored as edited.
    spec
        Its `capture.lm_eval` names the tasks; its tokenizer encodes them.

    Returns
    -------
    TaskScores

    Raises
    ------
    InputError
        If the harness is not installed, a task is not in the folder, or its files cannot be read.

    Notes
    -----
    Gao et al., the LM Evaluation Harness, through its `evaluate`: prompts, normalisation and errors
    are the harness's own, and so is its softmax over all rows of the unembedding, padding included.
    (`simple_evaluate` runs pip at every call, which takes longer than a small model's answers.) Costs
    a forward pass a choice.
    """
    table = spec.capture.lm_eval
    check_tasks(table)
    tokenizer = _tokenizer(spec)
    with _quiet():
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM

        model = HFLM(
            pretrained=loaded.model,
            backend="causal",
            tokenizer=tokenizer,
            batch_size=table.batch_size,
            max_length=getattr(loaded.model.config, "max_position_embeddings", None),
        )
        model._device = loaded.device
        try:
            found = evaluate(
                model,
                _tasks(table),
                limit=table.limit,
                log_samples=False,
                bootstrap_iters=1000,
            )
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"key `{_KEY}.tasks`: {', '.join(table.tasks)} cannot be run from "
                f"{table.include_path} ({error!r:.300})"
            ) from None
    return _collected(found or {}, table)


def check_tasks(table: TasksTable) -> None:
    """Refuse what cannot be run, before anything is loaded.

    Raises
    ------
    InputError
        If no task or folder is named, the folder has no such task, or the harness is not installed.
    """
    if not table.tasks or table.include_path is None:
        raise InputError(
            f"key `{_KEY}`: needs `tasks` and `include_path`, the folder of their YAML files; "
            "`phasescope corpus FILE --task FOLDER` writes one"
        )
    folder = table.include_path
    if not folder.is_dir():
        raise InputError(f"key `{_KEY}.include_path`: {folder}: no such folder")
    texts = [p.read_text("utf-8", "replace") for p in sorted(folder.rglob("*.yaml"))]
    names = sorted({name for text in texts for name in _NAMED.findall(text)})
    for task in table.tasks:
        word = re.compile(rf"(?<![\w./-]){re.escape(task)}(?![\w./-])")
        if not any(word.search(text) for text in texts):
            near = difflib.get_close_matches(task, names, n=1, cutoff=0.4)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(names) or 'none'}"
            raise InputError(f"key `{_KEY}.tasks`: no task `{task}` in {folder}; {hint}")
    if len(set(table.tasks)) < len(table.tasks):
        raise InputError(f"key `{_KEY}.tasks`: a task is named twice")
    require_extra("downstream", "lm-eval", where="key `capture.visits`: `lm_eval`")


def task_options(capture: CaptureTable) -> dict[str, object]:
    """What decides the scores: the table, the tasks' files and the harness's version."""
    table = capture.lm_eval
    check_tasks(table)
    try:
        harness = version("lm_eval")
    except PackageNotFoundError:
        harness = "unknown"
    # The files themselves and not where they lie; the batch size decides no more than the last bit.
    options = table.model_dump(exclude={"include_path", "batch_size"})
    return {**options, "files": _digest(table), "lm_eval": harness}


def task_layout(spec: Spec, *before: tuple[str, int]) -> dict[str, ArraySpec]:
    """Arrays of scores, with dimensions before `task` and `metric`."""
    table, nan = spec.capture.lm_eval, float("nan")
    shape = (*(size for _, size in before), len(table.tasks), len(table.metrics))
    dims = (*(name for name, _ in before), "task", "metric")
    count = len(table.tasks)
    return {
        "value": ArraySpec(dims, shape, "float64", nan, shape),
        "standard_error": ArraySpec(dims, shape, "float64", nan, shape),
        "questions": ArraySpec(("task",), (count,), "int64", 0, (count,)),
    }


def task_coordinates(spec: Spec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """Names of the tasks and metrics."""
    table = spec.capture.lm_eval
    return {
        "task": (("task",), np.array(table.tasks)),
        "metric": (("metric",), np.array(table.metrics)),
    }


def _digest(table: TasksTable) -> str:
    """SHA-256 over the names and bytes of the folder's task files."""
    state = hashlib.sha256()
    assert table.include_path is not None
    for path in sorted(p for p in table.include_path.rglob("*") if p.is_file()):
        if path.suffix not in (".yaml", ".yml", ".jsonl", ".json", ".csv", ".py"):
            continue
        state.update(path.relative_to(table.include_path).as_posix().encode())
        content = path.read_bytes()
        # A task moved with its data is the same task.
        state.update(content.replace(str(table.include_path.resolve()).encode(), b""))
    return state.hexdigest()


def _tokenizer(spec: Spec) -> Any:
    from transformers import AutoTokenizer

    from runs.loading import source_of

    if spec.tokenizer is None:
        raise InputError("visits with tasks need the series' tokenizer; set `series.tokenizer`")
    folder, options = source_of(spec.tokenizer)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)


def _tasks(table: TasksTable) -> Any:
    """Load the tasks as `simple_evaluate` does."""
    from lm_eval.tasks import TaskManager

    # Without the harness's own hundreds of tasks: they need a network, and five seconds to be listed.
    manager = TaskManager(include_path=str(table.include_path), include_defaults=False)
    loaded = manager.load(list(table.tasks))
    for task in loaded["tasks"].values():
        own = task.get_config("num_fewshot")
        # A task that says 0 itself means it.
        if own is None:
            task.set_config(key="num_fewshot", value=table.num_fewshot or 0)
        elif own != 0 and table.num_fewshot is not None:
            task.set_config(key="num_fewshot", value=table.num_fewshot)
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    return loaded


def _collected(found: Mapping[str, Any], table: TasksTable) -> TaskScores:
    results = found.get("results", {})
    asked = found.get("n-samples", {})
    value = np.full((len(table.tasks), len(table.metrics)), np.nan)
    error = np.full_like(value, np.nan)
    samples = np.zeros(len(table.tasks), np.int64)
    for row, task in enumerate(table.tasks):
        scores = results.get(task, {})
        samples[row] = int(asked.get(task, {}).get("effective", 0))
        for column, metric in enumerate(table.metrics):
            value[row, column] = _number(scores, metric)
            error[row, column] = _number(scores, f"{metric}_stderr")
    return TaskScores(value, error, samples)


def _number(scores: Mapping[str, Any], metric: str) -> float:
    """A metric of the first filter; the harness names them `METRIC,FILTER`."""
    for name, value in scores.items():
        if name.split(",")[0] == metric and isinstance(value, (int, float)):
            return float(value)
    return float("nan")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the harness's bars and remarks off the terminal, and its data sets off the network."""
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
