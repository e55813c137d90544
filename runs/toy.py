"""The toy's store: trained, measured and kept once; a store like any other, without checkpoints."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
import zarr
from rich.console import Console
from rich.table import Column, Table

from runs.damage import named_errors
from runs.errors import InputError, PhasescopeError
from runs.measures import write_node
from runs.models.diverging import DivergedError
from runs.models.toy import JITTER, LEARNING_RATE, SEEDS, SPREAD, STEPS, TASKS
from runs.models.toy_measures import FORMS, HEADLINE, count_seeds, measure_toy
from runs.progress import simple_bar
from runs.store import open_store
from runs.writing import SCHEMA, StoreWriter, digest

SET = "toy"
STORE = "toy.zarr"
_VERSION = "1"  # raised when the numbers change
_NAMES = (
    *(f"toy_rankme/{form}" for form in FORMS),
    "toy_singular_value/uncentered",
    "toy_loss/mean",
    "toy_paths/parameters",
    f"toy_events/{HEADLINE}",
)


@dataclass(frozen=True)
class Settings:
    """What decides the toy's numbers.

    Attributes
    ----------
    seeds : starts of each kind and task.
    steps : full-batch updates.
    learning_rate : one for features and readout.
    """

    seeds: int = SEEDS
    steps: int = STEPS
    learning_rate: float = LEARNING_RATE

    @property
    def identity(self) -> dict[str, str]:
        """Every setting as text, by name."""
        told = {
            "seeds": self.seeds,
            "steps": self.steps,
            "learning rate": self.learning_rate,
            "jitter": JITTER,
            "spread": SPREAD,
            "toy version": _VERSION,
        }
        return {"schema": str(SCHEMA), **{key: f"{value}" for key, value in told.items()}}

    def command(self, out: Path) -> str:
        """What to type to make the store again."""
        return (
            f"phasescope toy --out {shlex.quote(str(out))} --seeds {self.seeds} "
            f"--steps {self.steps} --learning-rate {self.learning_rate:g}"
        )


def make_toy(out: Path, settings: Settings, console: Console) -> Path:
    """Train the toy and its controls and keep what was measured; a second call writes nothing.

    Parameters
    ----------
    out
        Folder for the store `toy.zarr`.
    settings
        Seeds, steps and learning rate.
    console
        Where progress and the counts of seeds are shown.

    Returns
    -------
    Path
        The store: `/measures/toy_…/CONVENTION/toy`, an empty `/checkpoints`, and on the root `kind`
        "toy" and `told`, its summary in sentences.

    Raises
    ------
    InputError
        If a setting is out of range, or the folder holds a toy made with other settings.
    PhasescopeError
        If a loss or a parameter stops being a number.
    """
    if settings.seeds < 1 or settings.steps < 1 or not 0 < settings.learning_rate < float("inf"):
        raise InputError("--seeds and --steps must be at least 1 and --learning-rate above 0")
    path = out / STORE
    counts = _kept(path, settings)
    if counts is None:
        counts = _compute(path, settings, settings.command(out), console)
    _show(counts, console)
    shown = shlex.quote(str(path))
    console.print(
        f"{path}: `phasescope figures {shown}`, `phasescope report {shown}`", soft_wrap=True
    )
    return path


def _kept(path: Path, settings: Settings) -> xr.Dataset | None:
    """The counts of a store that is whole; None if it is to be made."""
    if not (path / "zarr.json").is_file():
        return None
    with named_errors(path):
        root = zarr.open_group(path, mode="r")
        known = root.attrs.get("identity", {})
        found = known if isinstance(known, dict) else {}
        if "told" not in root.attrs and "toy version" not in found and len(list(root.members())):
            raise InputError(f"{path}: is a store of another kind; give another --out")
    different = [
        f"{key}: {found[key]} there, {value} asked"
        for key, value in settings.identity.items()
        if key in found and found[key] != value
    ]
    if different:
        raise InputError(
            f"{path}: was made with other settings ({'; '.join(different)}); give another --out"
        )
    if "told" not in root.attrs:  # it was killed while it was written
        return None
    tree = open_store(path)
    nodes = {node.path for node in tree.subtree}
    if not all(f"/measures/{name}/{SET}" in nodes for name in _NAMES):
        return None
    return count_seeds(tree[f"measures/toy_events/{HEADLINE}/{SET}"].to_dataset())


def _compute(path: Path, settings: Settings, command: str, console: Console) -> xr.Dataset:
    with simple_bar(console) as bar:
        task = bar.add_task("toy", total=len(_NAMES) + 1, note="gradient descent")
        try:
            nodes = measure_toy(
                seeds=settings.seeds, steps=settings.steps, learning_rate=settings.learning_rate
            )
        except DivergedError as error:
            raise PhasescopeError(f"toy: {error}; lower --learning-rate") from None
        # Only now, so that a run that diverged leaves no store of its settings behind.
        writer = StoreWriter(path)
        recipe = "".join(
            f"{key.replace(' ', '_')} = {value}\n"
            for key, value in settings.identity.items()
            if key not in ("schema", "toy version")
        )
        writer.remember(name=SET, recipe=f"# {command}\n{recipe}", identity=settings.identity)
        writer.add_checkpoints([])  # there are none, and the store says so
        for name in _NAMES:
            bar.update(task, advance=1, note=name)
            lineage = digest([name, _VERSION, settings.identity])
            write_node(
                path,
                f"measures/{name}/{SET}",
                nodes[name].assign_attrs(set=SET, lineage=lineage),
            )
        bar.update(task, advance=1, note="")
    counts = count_seeds(nodes[f"toy_events/{HEADLINE}"])
    with named_errors(path), writer.claim("store").wait():
        root = zarr.open_group(path, mode="r+")
        root.attrs.update({"kind": SET, "command": command, "told": sentences(counts)})
    return counts


def sentences(counts: xr.Dataset) -> list[str]:
    """What every task shows from either start, in plain sentences.

    Parameters
    ----------
    counts
        From `runs.models.toy_measures.count_seeds`, over (task, start).
    """
    told = []
    for task in counts["task"].values:
        for start in counts["start"].values:
            cell = counts.sel(task=task, start=start)
            n = int(cell["seeds"])
            about = TASKS[str(task)].about
            said = (
                f"{about[0].upper()}{about[1:]}, {named(start)} start: RankMe falls first in "
                f"{int(cell['fell'])} of {n} seeds, rises in {int(cell['rose'])} and then declines in "
                f"{int(cell['declined'])}; all three in this order in {int(cell['all_three'])}. "
                f"Median decline after the peak {_small(float(cell['decline']))}, peak at step "
                f"{float(cell['peak_step']):.0f}"
            )
            told.append(
                f"{said}. A drop after the dip, also one that is made good, in "
                f"{int(cell['dropped'])}; median {_small(float(cell['drop']))}."
            )
    return told


def named(start: object) -> str:
    """A start as it is written in a sentence."""
    return "Gaussian" if str(start) == "gaussian" else str(start)


def _small(value: float) -> str:
    return "0" if value < 5e-7 else f"{value:.2g}"


def _show(counts: xr.Dataset, console: Console) -> None:
    kept = (Column(name, no_wrap=True) for name in ("task", "start"))
    table = Table(*kept, "falls", "rises", "declines", "by", "drops", "by", "peak at")
    for task in counts["task"].values:
        for start in counts["start"].values:
            cell = counts.sel(task=task, start=start)
            flags = (f"{int(cell[n])}" for n in ("fell", "rose", "declined", "dropped"))
            fell, rose, declined, dropped = flags
            by = (_small(float(cell[name])) for name in ("decline", "drop"))
            peak = f"{float(cell['peak_step']):.0f}"
            row = (fell, rose, declined, next(by), dropped, next(by), peak)
            table.add_row(str(task), str(start), *row)
    n = int(counts["seeds"])
    table.title = f"RankMe of the features, uncentred: seeds of {n}, changes above 0.001, medians"
    table.title_justify = "left"
    console.print(table)
