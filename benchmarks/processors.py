"""What of a store is equal to the bit under other kernels and threads, and to how much the rest is.

Captures the tests' tiny series under every setting of `tests.processors` that runs here, and compares
each store with the first: bytes, and the largest difference over the largest value of the array.

    python -m benchmarks.processors
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from runs.models.tokenizer import save_tokenizer, train_tokenizer
from runs.store import open_store
from tests.processors import SETTINGS, Setting, environment_of, left_out, processor_flags
from tests.runs.conftest import STEPS, recipe_text, save_step, speeches

_MEASURES = 'names = ["rankme", "participation_ratio", "head_entropy", "bound_share", "loss"]'


def capture(folder: Path, series: Path, setting: Setting) -> Path:
    """A store of the series under a setting."""
    own = folder / setting.name.replace(" ", "-")
    own.mkdir()
    lines = [json.dumps({"text": text, "party": "AB"[i % 2]}) for i, text in enumerate(speeches())]
    (own / "speeches.jsonl").write_text("\n".join(lines))
    (own / "recipe.toml").write_text(recipe_text(series, measures=_MEASURES))
    command = [str(Path(sys.executable).with_name("phasescope")), "run", str(own / "recipe.toml")]
    subprocess.run(command, env=environment_of(setting), check=True, stdout=subprocess.DEVNULL)
    return own / "tiny.zarr"


def numbers(store: Path) -> dict[str, NDArray[np.float64]]:
    """Float arrays of a store by name; attention by what it is of."""
    found: dict[str, NDArray[np.float64]] = {}
    for node in open_store(store).subtree:
        if not node.path.startswith(("/sets", "/measures")):
            continue
        for name, array in node.to_dataset().data_vars.items():
            if array.dtype.kind != "f":
                continue
            label = f"{node.path.removeprefix('/')}/{name}"
            found |= _parts(label, array)
    return found


def _parts(label: str, array: xr.DataArray) -> dict[str, NDArray[np.float64]]:
    if "statistic" not in array.dims:
        return {label: array.values}
    names = array["statistic"].values
    shares = array.sel(statistic=names == "bound_share").values
    return {
        label: array.sel(statistic=names != "bound_share").values,
        f"{label} (bound_share)": shares,
    }


def compare(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> str:
    """`equal`, or the largest difference over the largest value; NaN must be where NaN is."""
    if found.tobytes() == wanted.tobytes():
        return "equal"
    if (np.isnan(found) != np.isnan(wanted)).any():
        return "NaN elsewhere"
    size = np.nanmax(np.abs(wanted))
    return f"{np.nanmax(np.abs(found - wanted)) / size:.0e}"


def main() -> None:
    """Print a table: a row an array, a column a setting."""
    flags = processor_flags()
    chosen = [s for s in SETTINGS if not left_out(s, flags)]
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        series = folder / "series"
        series.mkdir()
        save_tokenizer(train_tokenizer(speeches(), vocabulary=300), series)
        for step in STEPS:
            save_step(series, step)
        stores = {s.name: numbers(capture(folder, series, s)) for s in chosen}
    first, *others = stores
    print("| array | " + " | ".join(others) + " |")
    print("|---" * (len(others) + 1) + "|")
    for name, wanted in stores[first].items():
        cells = (compare(stores[other][name], wanted) for other in others)
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
