"""Many short training runs at once: resumable run by run, and kept as one store of measures."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import shlex
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
import torch
import xarray as xr
import zarr
from numpy.typing import NDArray
from rich.console import Console

from runs.damage import named_errors
from runs.errors import InputError, PhasescopeError
from runs.measures import write_node
from runs.models.atomic import whole
from runs.models.corpus import load_speeches
from runs.models.neox import TrainConfig, pack
from runs.models.tokenizer import train_tokenizer
from runs.models.training_run import locked, threads_set
from runs.models.trial import Log, Trial, run_trial
from runs.progress import simple_bar
from runs.store import open_store
from runs.writing import SCHEMA, StoreWriter, digest

HELD_OUT = 32
_VERSION = "2"  # raised when a run's numbers change
_FOLDER = "runs"
_Arrays = dict[str, NDArray[Any]]


class Experiment(Protocol):
    """A set of runs that are shown together."""

    @property
    def kind(self) -> str:
        """The store's kind and its file's name without `.zarr`; the set of its measures."""

    @property
    def settings(self) -> Mapping[str, str]:
        """Every setting as it is typed, by the option's name without dashes."""

    def trials(self) -> list[Trial]:
        """All runs, the same sizes in each."""

    def nodes(self, logs: Sequence[tuple[Trial, Log]]) -> dict[str, xr.Dataset]:
        """Measures as "NAME/CONVENTION"."""

    def sentences(self, nodes: Mapping[str, xr.Dataset]) -> list[str]:
        """What is seen, in words."""


def command_of(experiment: Experiment, out: Path) -> str:
    """What to type to make the store again."""
    options = " ".join(f"--{key} {value}" for key, value in experiment.settings.items())
    return f"phasescope {experiment.kind} --out {shlex.quote(str(out))} {options}"


def make_store(
    out: Path,
    experiment: Experiment,
    console: Console,
    *,
    workers: int,
    texts: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Path:
    """Train all runs of an experiment and keep what was logged; a second call writes nothing.

    Each finished run is a file in `out/runs`; a command that was stopped goes on with the runs that are
    missing. A run is a function of its settings and seed alone, whoever computes it.

    Parameters
    ----------
    out
        Folder for the store and the runs.
    experiment
        What to train.
    console
        Where progress and sentences are shown.
    workers
        Processes, of one thread each.
    texts
        Documents to train on and held-out ones; by default the corpus of speeches.

    Returns
    -------
    Path
        The store `KIND.zarr`: `/measures/NAME/CONVENTION/KIND`, an empty `/checkpoints`, and on the root
        `kind`, `command` and `told`.

    Raises
    ------
    InputError
        If the folder holds a store made with other settings, or the corpus is not installed.
    PhasescopeError
        If a process dies.
    """
    path = out / f"{experiment.kind}.zarr"
    told = _kept(path, experiment)
    if told is None:
        with named_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            told = _make(path, experiment, console, workers=workers, texts=texts)
    for line in told:
        console.print(line, soft_wrap=True, highlight=False)
    shown = shlex.quote(str(path))
    console.print(
        f"{path}: `phasescope figures {shown}`, `phasescope report {shown}`", soft_wrap=True
    )
    return path


def _identity(experiment: Experiment) -> dict[str, str]:
    return {
        "schema": str(SCHEMA),
        f"{experiment.kind} version": _VERSION,
        **experiment.settings,
    }


def _kept(path: Path, experiment: Experiment) -> list[str] | None:
    """The sentences of a store that is whole; None if it is to be made."""
    if not (path / "zarr.json").is_file():
        return None
    with named_errors(path):
        root = zarr.open_group(path, mode="r")
        known = root.attrs.get("identity", {})
        found = known if isinstance(known, dict) else {}
        mark = f"{experiment.kind} version"
        if mark not in found and len(list(root.members())):
            raise InputError(f"{path}: is a store of another kind; give another --out")
    different = [
        f"{key}: {found[key]} there, {value} asked"
        for key, value in _identity(experiment).items()
        if key in found and found[key] != value
    ]
    if different:
        raise InputError(
            f"{path}: was made with other settings ({'; '.join(different)}); give another --out"
        )
    told, names = root.attrs.get("told"), root.attrs.get("names")
    if not isinstance(told, list) or not isinstance(names, list):  # killed while it was written
        return None
    nodes = {node.path for node in open_store(path).subtree}
    return [str(line) for line in told] if {f"/{n}" for n in names} <= nodes else None


def _make(
    path: Path,
    experiment: Experiment,
    console: Console,
    *,
    workers: int,
    texts: tuple[Sequence[str], Sequence[str]] | None,
) -> list[str]:
    trials = experiment.trials()
    logs = run_all(path.parent / _FOLDER, trials, console, workers=workers, texts=texts)
    nodes = experiment.nodes(list(zip(trials, logs, strict=True)))
    told = experiment.sentences(nodes)
    command = command_of(experiment, path.parent)
    recipe = "".join(f"{key} = {value}\n" for key, value in experiment.settings.items())
    identity = _identity(experiment)
    writer = StoreWriter(path)
    writer.remember(name=experiment.kind, recipe=f"# {command}\n{recipe}", identity=identity)
    writer.add_checkpoints([])  # there are none, and the store says so
    names = [f"measures/{name}/{experiment.kind}" for name in nodes]
    for place, (name, data) in zip(names, nodes.items(), strict=True):
        lineage = digest([name, _VERSION, identity])
        write_node(path, place, data.assign_attrs(set=experiment.kind, lineage=lineage))
    with named_errors(path), writer.claim("store").wait():
        root = zarr.open_group(path, mode="r+")
        root.attrs.update(
            {"kind": experiment.kind, "command": command, "names": names, "told": told}
        )
    return told


def run_all(
    folder: Path,
    trials: Sequence[Trial],
    console: Console,
    *,
    workers: int,
    texts: tuple[Sequence[str], Sequence[str]] | None = None,
) -> list[Log]:
    """Train what is not in the folder yet.

    Parameters
    ----------
    folder
        Made if needed; one file a run, named by a digest of all that decides its numbers.
    trials
        Of one vocabulary and length.
    console, workers, texts
        As in `make_store`.

    Returns
    -------
    list of logs, in order
    """
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    data = _windows(folder, trials[0].config, texts)
    mark = digest([_VERSION, *(hashlib.sha256(array.tobytes()).hexdigest() for array in data)])
    files = [folder / f"{digest([mark, t.deciding])}.npz" for t in trials]
    logs = [_read(file) for file in files]
    missing = [at for at, log in enumerate(logs) if log is None]
    with simple_bar(console) as bar:
        task = bar.add_task(
            "runs", total=len(trials), completed=len(trials) - len(missing), note=""
        )

        def keep(at: int, log: Log) -> None:
            _write(files[at], log)
            logs[at] = log
            bar.update(task, advance=1, note=trials[at].label)

        if workers == 1 or len(missing) < 2:
            with threads_set(1):
                for at in missing:
                    keep(at, run_trial(trials[at], *data))
        else:
            _parallel([(at, trials[at]) for at in missing], data, keep, workers)
    return [log for log in logs if log is not None]


def _parallel(
    todo: Sequence[tuple[int, Trial]],
    data: tuple[NDArray[np.int64], NDArray[np.int64]],
    keep: Callable[[int, Log], None],
    workers: int,
) -> None:
    """Train in processes of one thread; the first error stops what has not begun."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=data)
    try:
        waiting: dict[Future[Log], int] = {pool.submit(_work, t): at for at, t in todo}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                keep(waiting.pop(future), future.result())
    except BrokenProcessPool:
        raise PhasescopeError(
            "a training process was killed (out of memory?); the same command goes on from the runs "
            "that are finished, with --workers 1 in one process"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_DATA: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None


def _begin(windows: NDArray[np.int64], held_out: NDArray[np.int64]) -> None:
    global _DATA
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent says that it was stopped
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _DATA = windows, held_out


def _leave_with_parent() -> None:
    """A pool's processes would wait for ever for work from a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(trial: Trial) -> Log:
    assert _DATA is not None
    return run_trial(trial, *_DATA)


def _write(file: Path, arrays: _Arrays) -> None:
    held = io.BytesIO()
    np.savez(held, **arrays)  # type: ignore[arg-type]  # its stub takes `allow_pickle` only
    with named_errors(file), whole(file) as partial:
        partial.write_bytes(held.getvalue())


def _read(file: Path) -> _Arrays | None:
    """A finished run; None if it is missing or damaged."""
    try:
        with np.load(io.BytesIO(file.read_bytes())) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return None


def _windows(
    folder: Path, config: TrainConfig, texts: tuple[Sequence[str], Sequence[str]] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training windows and held-out ones, kept beside the runs."""
    given = "" if texts is None else "-" + digest([list(part) for part in texts])[:12]
    file = folder / f"text-{config.vocabulary}-{config.length}{given}.npz"
    kept = _read(file)
    if kept is None:
        kept = _tokenise(config, texts or _speeches())
        _write(file, kept)
    return kept["windows"].astype(np.int64), kept["held_out"].astype(np.int64)


def _speeches() -> tuple[list[str], list[str]]:
    train, held = load_speeches("train"), load_speeches("held_out")
    return [speech.text for speech in train], [speech.text for speech in held]


def _tokenise(config: TrainConfig, texts: tuple[Sequence[str], Sequence[str]]) -> _Arrays:
    tokenizer = train_tokenizer(texts[0], vocabulary=config.vocabulary)
    end = int(tokenizer.eos_token_id)
    parts = []
    for part in texts:
        ids = tokenizer(list(part), add_special_tokens=False)["input_ids"]
        parts.append(pack(ids, length=config.length, end=end).astype(np.int32))
    # Held-out windows lie evenly over all held-out documents.
    count = min(HELD_OUT, len(parts[1]))
    places = np.linspace(0, len(parts[1]) - 1, count).round().astype(int)
    return {"windows": parts[0], "held_out": parts[1][places]}


def gather_logs(
    logs: Sequence[tuple[Trial, Log]],
    names: Mapping[str, tuple[str, ...]],
    *,
    coords: Mapping[str, Sequence[str | int]],
) -> xr.Dataset:
    """Set logs side by side along the dimensions of their cells.

    Parameters
    ----------
    logs
        Runs whose cells have the same dimensions and fill a grid, or part of one.
    names
        What to take of each log, with its dimensions after `step`.
    coords
        Labels of these dimensions.

    Returns
    -------
    xarray.Dataset
        Every name over (cell's dimensions, step, …); NaN where there is no run.
    """
    dims = [name for name, _ in logs[0][0].cell]
    axes = {d: list(dict.fromkeys(dict(t.cell)[d] for t, _ in logs)) for d in dims}
    shape = tuple(len(labels) for labels in axes.values())
    data = {}
    for name, rest in names.items():
        first = logs[0][1][name]
        filled = np.full((*shape, *first.shape), np.nan)
        for trial, log in logs:
            filled[tuple(axes[d].index(label) for d, label in trial.cell)] = log[name]
        data[name] = ((*dims, "step", *rest), filled)
    steps = logs[0][1]["step"].astype(int)
    used = {d for rest in names.values() for d in rest}
    told = {d: list(labels) for d, labels in coords.items() if d in used}
    return xr.Dataset(data, {**axes, "step": steps, **told})


def one_variable(whole: xr.Dataset, name: str) -> xr.Dataset:
    """One of the gathered logs as `value`, with the coordinates of its own dimensions."""
    data = whole[[name]].rename({name: "value"})
    return data.drop_vars([c for c in data.coords if c not in data.dims])


def check_counts(seeds: int, steps: int, warmup: int) -> None:
    """Refuse counts that no run can have."""
    if seeds < 1 or steps < 1 or not 0 <= warmup <= steps:
        raise InputError("--seeds and --steps must be at least 1, --warmup from 0 to --steps")


def small_config(steps: int, learning_rate: float, warmup: int, seed: int) -> TrainConfig:
    """Sizes and optimiser of one run: small enough for dozens in minutes."""
    return TrainConfig(
        layers=4,
        width=64,
        mlp=256,
        vocabulary=1024,
        length=64,
        batch=16,
        steps=steps,
        lr=learning_rate,
        warmup=max(1, warmup),  # 1: the first update has the whole rate
        seed=seed,
        threads=1,
    )


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Numbers with commas between.

    Raises
    ------
    InputError
        If one is none; names the option.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} is {text}; give numbers with commas between") from None


def sizes_of(config: TrainConfig) -> str:
    """What a run is, in words, for captions."""
    return (
        f"GPT-NeoX of {config.layers} blocks, {config.heads} heads, width {config.width}; {config.steps} "
        f"steps of {config.batch} × {config.length} tokens of speeches, no dropout"
    )
