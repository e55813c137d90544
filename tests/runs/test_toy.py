"""The command: a store that opens, is drawn and reported like any other, and is made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runs.checkpoints import Checkpoint
from runs.store import open_store
from runs.writing import StoreWriter
from tests.runs.test_cli import one_line

SMALL = ("--seeds", 2, "--steps", 40)
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def made(cli: Cli, tmp_path: Path) -> Path:
    code, out, err = cli("toy", "--out", tmp_path / "toy", *SMALL)
    assert code == 0, err
    assert "squared_skewed" in out
    return tmp_path / "toy" / "toy.zarr"


def stamps(store: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in store.rglob("*") if p.is_file()}


def test_a_second_call_writes_nothing(cli: Cli, made: Path) -> None:
    before = stamps(made)
    code, out, _ = cli("toy", "--out", made.parent, *SMALL)
    assert code == 0
    assert "squared_skewed" in out
    assert stamps(made) == before


def test_the_store_opens(made: Path) -> None:
    tree = open_store(made)
    assert tree.attrs["kind"] == "toy"
    assert tree.attrs["warnings"] == []
    assert tree.attrs["versions"]["numpy"] == np.__version__
    assert tree["checkpoints"].sizes["checkpoint"] == 0
    rankme = tree["measures/toy_rankme/lambda_uncentered/toy"]["value"]
    assert rankme.sizes == {"task": 6, "start": 2, "seed": 2, "step": 41}
    assert ((rankme >= 1) & (rankme <= 3)).all()
    assert len(tree.attrs["told"]) == 12
    assert "steps = 40" in tree.attrs["recipe"]


def test_status_says_what_there_is(cli: Cli, made: Path) -> None:
    code, out, _ = cli("status", made)
    assert code == 0
    assert "no checkpoints" in out
    assert "Skewed classes, d = 2, Gaussian start: RankMe falls first in" in out
    code, out, _ = cli("measure", made)
    assert code == 0
    assert "0 measures computed" in out


def test_a_figure_of_another_kind_of_store_is_refused(cli: Cli, made: Path) -> None:
    one_line(cli("figures", made, "phases"), "`phases`", "kind `series`", "toy_controls")


@pytest.mark.slow
def test_figures_and_report(cli: Cli, made: Path) -> None:
    code, out, err = cli("figures", made)
    assert code == 0, err
    assert "left out" not in out
    names = {path.stem for path in (made.parent / "figures").iterdir()}
    assert names == {"toy", "toy_controls", "toy_squared_error"}
    code, out, err = cli("report", made)
    assert code == 0, err
    page = (made.parent / "report.html").read_text()
    assert page.count("<figure>") == 3
    assert "no checkpoints of a language model" in page
    assert f"phasescope toy --out {made.parent} --seeds 2 --steps 40" in page
    assert 'id="warnings"' not in page


def test_a_damaged_or_unfinished_store_is_made_again(cli: Cli, made: Path) -> None:
    whole = open_store(made)["measures/toy_loss/mean/toy"]["value"].values
    shutil.rmtree(made / "measures/toy_loss")
    assert cli("toy", "--out", made.parent, *SMALL)[0] == 0
    np.testing.assert_array_equal(open_store(made)["measures/toy_loss/mean/toy"]["value"], whole)


def test_other_settings_and_other_stores_are_refused(cli: Cli, made: Path, tmp_path: Path) -> None:
    before = stamps(made)
    one_line(cli("toy", "--out", made.parent, "--seeds", 2, "--steps", 41), "steps: 40", "--out")
    assert stamps(made) == before
    one_line(cli("toy", "--out", tmp_path / "x", "--learning-rate", 0), "--learning-rate")
    one_line(cli("toy", "--out", tmp_path / "x", "--learning-rate", "nan"), "--learning-rate")
    assert not (tmp_path / "x").exists()
    other = StoreWriter(tmp_path / "other" / "toy.zarr")
    other.remember(name="mine", recipe="", identity={"schema": "2", "tokenizer": "abc"})
    other.add_checkpoints([Checkpoint(tmp_path, 0, 0)])
    one_line(cli("toy", "--out", tmp_path / "other", *SMALL), "another kind", "--out")
