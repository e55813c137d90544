"""The two commands: stores that open, are drawn and reported, go on when stopped, and are made once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr
from rich.console import Console

import runs.trials as trials_module
from runs.checkpoints import Checkpoint
from runs.collapse import Collapse, events_of
from runs.errors import InputError
from runs.models.trial import Trial
from runs.regularisation import Regularisation, band_shares
from runs.store import open_store
from runs.trials import command_of, gather_logs, make_store, numbers, run_all
from runs.writing import StoreWriter
from tests.runs.test_cli import one_line

Cli = Callable[..., tuple[int, str, str]]
COLLAPSE = Collapse(1, 2, 0, (0.001, 0.1), ("baseline", "sigma_paper"))


def texts() -> tuple[list[str], list[str]]:
    """Enough made-up words for a vocabulary of 1024."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), 7)) for _ in range(700)]
    made = [" ".join(rng.choice(words, 120)) for _ in range(40)]
    return made[:30], made[30:]


def quiet() -> Console:
    return Console(quiet=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("collapse")
    return make_store(out, COLLAPSE, quiet(), workers=1, texts=texts())


def stamps(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_the_store_opens_and_holds_every_measure(made: Path) -> None:
    tree = open_store(made)
    assert tree.attrs["kind"] == "collapse"
    assert tree["checkpoints"].sizes["checkpoint"] == 0
    entropy = tree["measures/collapse_entropy/zhai2023/collapse/value"]
    assert dict(entropy.sizes) == {
        "variant": 2, "learning_rate": 2, "seed": 1, "step": 3, "block": 4, "head": 4,
    }  # fmt: skip
    assert 3.19 < float(entropy.isel(step=0).mean()) < 3.2058  # just below ln(64!)/64
    assert len(tree.attrs["told"]) == 1 + 4
    assert "learning-rates = 0.001,0.1" in tree.attrs["recipe"]
    assert tree.attrs["command"] == command_of(COLLAPSE, made.parent)


def test_a_second_call_writes_nothing(made: Path) -> None:
    before = stamps(made)
    assert make_store(made.parent, COLLAPSE, quiet(), workers=1, texts=texts()) == made
    assert stamps(made) == before


def test_other_settings_and_other_stores_are_refused(made: Path, tmp_path: Path) -> None:
    other = Collapse(1, 3, 0, (0.001, 0.1), ("baseline", "sigma_paper"))
    with pytest.raises(InputError, match="steps: 2 there, 3 asked"):
        make_store(made.parent, other, quiet(), workers=1, texts=texts())
    writer = StoreWriter(tmp_path / "collapse.zarr")
    writer.remember(name="mine", recipe="", identity={"schema": "2", "tokenizer": "abc"})
    writer.add_checkpoints([Checkpoint(tmp_path, 0, 0)])
    with pytest.raises(InputError, match="another kind; give another --out"):
        make_store(tmp_path, COLLAPSE, quiet(), workers=1)


def test_only_what_is_missing_or_damaged_is_trained(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = COLLAPSE.trials()
    folder = made.parent / "runs"
    before = run_all(folder, trials, quiet(), workers=1, texts=texts())
    files = sorted(p for p in folder.glob("*.npz") if not p.name.startswith("text"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    trained: list[Trial] = []
    run = trials_module.run_trial

    def counted(trial: Trial, *data: np.ndarray) -> dict[str, np.ndarray]:
        trained.append(trial)
        return run(trial, *data)

    monkeypatch.setattr(trials_module, "run_trial", counted)
    after = run_all(folder, trials, quiet(), workers=1, texts=texts())
    assert len(trained) == 2
    for one, other in zip(before, after, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


@pytest.mark.slow
def test_processes_give_the_same_numbers(made: Path, tmp_path: Path) -> None:
    trials = COLLAPSE.trials()
    here = run_all(made.parent / "runs", trials, quiet(), workers=1, texts=texts())
    there = run_all(tmp_path, trials, quiet(), workers=2, texts=texts())
    for one, other in zip(here, there, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


KILLED = """
import sys
from pathlib import Path
from tests.runs.test_trials import COLLAPSE, quiet, run_all, texts

if __name__ == "__main__":
    run_all(Path(sys.argv[1]), COLLAPSE.trials(), quiet(), workers=2, texts=texts())
"""


@pytest.mark.slow
def test_a_killed_command_leaves_no_process_and_goes_on(made: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    root = Path(__file__).parents[2]
    command = [sys.executable, str(script), str(tmp_path)]
    process = subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})

    def finished() -> list[Path]:
        return [p for p in tmp_path.glob("*.npz") if p.name[:1] not in ".t"]

    while not finished() and process.poll() is None:
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert 1 <= len(finished()) < 4
    trials = COLLAPSE.trials()
    there = run_all(tmp_path, trials, quiet(), workers=1, texts=texts())
    here = run_all(made.parent / "runs", trials, quiet(), workers=1, texts=texts())
    for one, other in zip(here, there, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


@pytest.mark.slow
def test_figures_status_and_report(cli: Cli, made: Path, tmp_path: Path) -> None:
    for command in ("figures", "report"):
        extra = ("--out", tmp_path / ("figures" if command == "figures" else "page.html"))
        code, out, err = cli(command, made, *extra)
        assert code == 0, err
        assert "left out" not in out
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"collapse"}
    page = (tmp_path / "page.html").read_text()
    assert "no checkpoints of a language model" in page
    assert "Learning rate 0.1, baseline: collapsed in" in page
    code, out, _ = cli("status", made)
    assert code == 0
    assert "no checkpoints" in out


@pytest.mark.slow
def test_regularised_runs_from_training_to_figures(cli: Cli, tmp_path: Path) -> None:
    experiment = Regularisation(seeds=1, steps=2, warmup=0, margins=(0.2,))
    store = make_store(tmp_path, experiment, quiet(), workers=1, texts=texts())
    tree = open_store(store)
    theta = tree["measures/regularisation_threshold/share/regularisation/value"]
    learned = theta.isel(seed=0, step=-1).sel(regulariser=["jha2025_paper", "jha2025_code"])
    assert (learned != 0.5).any(("block", "head")).all()
    assert theta.sel(regulariser="off").isnull().all()
    assert len(tree.attrs["told"]) == 5 * 4 + 1
    code, out, err = cli("figures", store)
    assert code == 0, err
    assert "left out" not in out
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {"entropy_regularised", "entropy_thresholds"}


def logs_of(values: np.ndarray, loss: np.ndarray) -> xr.Dataset:
    return xr.Dataset(
        {
            "entropy": (("seed", "step", "block", "head"), values),
            "held_out_loss": (("seed", "step"), loss),
        },
        {"seed": [0, 1], "step": [0, 1, 2, 4], "block": [1, 2], "head": [0, 1]},
    )


def test_events_of_curves_made_by_hand() -> None:
    values = np.full((2, 4, 2, 2), 3.0)
    values[0, 2:, 1] = [0.1, 0.3]  # block 2 ends at 0.2 on average, and first does at step 2
    values[1, 1, 0] = 0.01  # block 1 dips at step 1; the run stops after step 2
    values[1, 3] = np.nan
    loss = np.array([[7, 6, 5, 5.5], [7, 6, 6.5, np.nan]])
    events = events_of(logs_of(values, loss), length=64, below=0.1)
    assert float(events["threshold"]) == pytest.approx(0.3205753, abs=1e-6)
    assert events["lowest"].values.tolist() == pytest.approx([0.2, 3.0])
    assert events["lowest_block"].values.tolist() == [2, 1]
    assert events["collapsed"].values.tolist() == [True, False]
    assert events["ever"].values.tolist() == [True, True]
    assert events["first_step"].values.tolist() == [2, 1]
    assert events["final_loss"].values.tolist() == [5.5, 6.5]
    assert events["best_loss"].values.tolist() == [5, 6]
    assert events["finished"].values.tolist() == [True, False]


def test_bands_of_entropies_made_by_hand() -> None:
    entropy = xr.DataArray(
        [[[0.1, 0.9], [1.1, 4.0]], [[np.nan, 1], [1, 1]]], dims=("seed", "block", "head")
    )
    observed = band_shares(entropy, None)["value"]
    assert observed[0].values.tolist() == [0.5, 0.25, 0, 0.25]
    assert np.isnan(observed[1].values).all()
    assert band_shares(entropy[:1], 2.0)["value"][0].values.tolist() == [0.25, 0.25, 0.25, 0.25]
    assert band_shares(0 * entropy[:1], None)["value"][0].values.tolist() == [1, 0, 0, 0]


def test_logs_stand_at_their_labels_and_gaps_are_no_numbers() -> None:
    config = COLLAPSE.trials()[0].config
    variant = COLLAPSE.trials()[0].variant
    cells = [("b", 0), ("a", 0), ("b", 1)]
    logs = [
        (
            Trial((("kind", kind), ("seed", seed)), config, variant),
            {"step": np.array([0.0, 1.0]), "x": np.array([number, 10.0 + number])},
        )
        for number, (kind, seed) in enumerate(cells)
    ]
    found = gather_logs(logs, {"x": ()}, coords={})["x"]
    assert found.sel(kind="b").values.tolist() == [[0, 10], [2, 12]]
    assert np.isnan(found.sel(kind="a", seed=1).values).all()


def test_the_regularised_runs_are_laid_out_as_said() -> None:
    experiment = Regularisation(seeds=2, margins=(0.0, 0.3))
    trials = experiment.trials()
    assert len(trials) == 2 * (5 * 4 + 2)
    digests = {str(trial.deciding) for trial in trials}
    assert len(digests) == len(trials)
    rules = [t.variant.regulariser for t in trials if dict(t.cell).get("regulariser") == "off"]
    assert rules == [None] * 10
    swept = [t for t in trials if "margin" in dict(t.cell)]
    assert {t.variant.regulariser.margin for t in swept if t.variant.regulariser} == {0.0, 0.3}
    # The tolerance that is in the grid already is one run, found twice.
    again = Regularisation(seeds=1, margins=(0.2,)).trials()
    assert len({str(trial.deciding) for trial in again}) == len(again) - 1


def test_one_clear_line_for_bad_settings(cli: Cli, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "x")
    one_line(cli("collapse", *out, "--seeds", 0), "--seeds", "at least 1")
    one_line(cli("collapse", *out, "--learning-rates", "1e-3,fast"), "--learning-rates", "commas")
    one_line(cli("collapse", *out, "--learning-rates", "0.1,-1"), "--learning-rates", "above 0")
    one_line(cli("collapse", *out, "--variants", "baseline,sigma"), "--variants", "sigma_no_norm")
    one_line(cli("collapse", *out, "--collapsed-below", 1.5), "--collapsed-below")
    one_line(cli("regularisation", *out, "--warmup", 900), "--warmup")
    one_line(cli("regularisation", *out, "--reference", "max"), "--reference", "causal_uniform")
    one_line(cli("regularisation", *out, "--margins", "0.1,0.1"), "--margins", "each once")
    one_line(cli("regularisation", *out, "--temperature", 0), "--temperature")
    one_line(cli("regularisation", *out, "--strength", "-1"), "--strength")
    one_line(cli("regularisation", *out, "--threshold", "nan"), "--threshold")
    assert not (tmp_path / "x").exists()
    with pytest.raises(InputError, match="--margins is a"):
        numbers("a", "--margins")
