"""A tiny published series, its recipe, and the same weights as a local folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zarr

from tests.hub.series import FINEWEB, PYTHIA, publish_fineweb, publish_series, pythia_steps
from tests.hub.server import Hub

STEPS = (0, 1, 2, 4)

Cli = Callable[..., tuple[int, str, str]]

RECIPE = """
name = "tiny"
store = "store.zarr"

[series]
kind = "pythia"
size = "14m"
steps = [0, 1, 2, 4]
{series}

[inputs.fineweb]
{inputs}
mode = "document"
length = 24
min_length = 8
limit = 40

[capture]
block = 4
products = ["hidden", "tokens"]

[measures]
names = ["rankme", "loss"]
"""
TEXTS = f'dataset = "{FINEWEB}"\nconfig = "sample-10BT"\nshuffle_seed = 0'


@dataclass
class Door:
    """A hub with a tiny Pythia and texts, and recipes in a folder of their own."""

    hub: Hub
    folder: Path
    checkpoints: Path
    cli: Cli

    def recipe(self, series: str = "", *, inputs: str = TEXTS, name: str = "recipe.toml") -> Path:
        path = self.folder / name
        path.write_text(RECIPE.format(series=series, inputs=inputs))
        return path

    @property
    def store(self) -> Path:
        return self.folder / "store.zarr"

    @property
    def cache(self) -> Path:
        return self.folder.parent / "hf_home" / "hub"

    def statuses(self) -> list[int]:
        """Of every cell of the store, row by row; empty without one."""
        if not (self.store / "checkpoints" / "status" / "zarr.json").is_file():
            return []
        found = zarr.open_array(self.store / "checkpoints" / "status", mode="r")[:]
        return [int(v) for v in found.ravel()]  # type: ignore[union-attr]  # zarr unions

    def local_recipe(self) -> Path:
        """The same text and weights as files of this disk, into another store."""
        path = self.folder / "local.toml"
        own = f'kind = "local"\npath = "{self.checkpoints}"\ntokens_per_step = 2097152'
        text = RECIPE.replace('kind = "pythia"\nsize = "14m"', own)
        text = text.replace("store.zarr", "local.zarr")
        sample = next((self.cache / "phasescope-texts").glob("*.parquet"))
        path.write_text(text.format(series="", inputs=f'path = "{sample}"'))
        return path


def open_door(hub: Hub, folder: Path, cli: Cli, *, sharded: bool = False) -> Door:
    """Publish the series and the texts."""
    checkpoints = folder / "published"
    publish_series(hub, PYTHIA, pythia_steps(checkpoints, STEPS, sharded=sharded))
    publish_fineweb(hub, files=2, rows=60, groups=3)
    work = folder / "work"
    work.mkdir()
    return Door(hub, work, checkpoints, cli)
