"""Several stores as one tree: the numbers of each, their labels, warnings and refusals."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from figures import draw
from figures.report import render
from runs import measure, open_store, open_study
from runs.errors import InputError
from runs.jobs import execute
from runs.joining import of_model
from runs.models.tokenizer import save_tokenizer, train_tokenizer
from runs.recipe import load_recipe
from tests.runs.conftest import recipe_text, save_step, speeches
from tests.runs.test_cli import one_line

NAMES = ["small", "large"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, series_folder: Path) -> list[Path]:
    """Stores of 3 blocks of width 32 and of 5 of width 48, the second with two branches."""
    folder = tmp_path_factory.mktemp("study")
    rows = [json.dumps({"text": text, "party": "A"}) for text in speeches(40)]
    (folder / "speeches.jsonl").write_text("\n".join(rows))
    large = folder / "large"
    large.mkdir()
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), large)
    for step in (0, 2, 8):
        save_step(large, step, blocks=5, width=48)
    stores = []
    for name, series, steps in (
        ("small", series_folder, "steps = [0, 1, 4, 16]"),
        ("large", large, ""),
    ):
        text = recipe_text(
            series, steps=steps, measures='names = ["rankme", "head_entropy", "loss"]'
        )
        recipe = folder / f"{name}.toml"
        recipe.write_text(text.replace('"tiny"', f'"{name}"').replace("tiny.zarr", f"{name}.zarr"))
        execute(load_recipe(recipe))
        stores.append(folder / f"{name}.zarr")
    return stores


@pytest.fixture
def stores(made: list[Path], tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(store, tmp_path / store.name)) for store in made]


def fork(store: Path) -> None:
    """Make the last checkpoint of a store a branch of its own."""
    group = zarr.open_group(store / "checkpoints", mode="r+")
    group["branch"][-1:] = np.array(["sft"], dtype=object)
    group["checkpoint"][-1:] = np.array([f"sft/step{int(group['step'][-1])}"], dtype=object)


@pytest.fixture
def study(made: list[Path]) -> xr.DataTree:
    return open_study(made)


READ = [
    ("rankme", "li2025"), ("rankme", "garrido2022"), ("head_entropy", "zhai2023"),
    ("loss", "surprisal"), ("eigenspectrum", "centered"), ("rankme_streamed", "li2025"),
    ("linear_cka", "debiased"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "convention"), READ)
def test_a_models_part_is_what_its_own_store_gives(
    made: list[Path], study: xr.DataTree, name: str, convention: str
) -> None:
    whole = measure(study, name, convention=convention)
    for model, path in zip(NAMES, made, strict=True):
        alone = measure(open_store(path), name, convention=convention)
        xr.testing.assert_identical(of_model(whole, model).drop_attrs(), alone.drop_attrs())
    assert whole["model"].values.tolist() == ["small"] * 4 + ["large"] * 3
    assert whole.attrs["unit"] == alone.attrs["unit"]
    assert set(whole.attrs["lineage"]) == set(NAMES)


def test_what_is_not_kept_stays_lazy(study: xr.DataTree) -> None:
    assert measure(study, "rankme", convention="garrido2022").chunks is not None
    assert measure(study, "rankme").chunks is None


def test_layers_are_never_taken_for_those_of_another_depth(study: xr.DataTree) -> None:
    whole = study["measures/rankme/li2025/speeches"].to_dataset()
    assert whole["layer"].values.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert whole["layer_name"].values.tolist() == ["embedding", "1", "2", "3", "4", "5", "final"]
    small, large = (whole.isel(checkpoint=whole["model"].values == name) for name in NAMES)
    assert np.isnan(small["value"].sel(layer=[4, 5])).all()
    assert np.isfinite(small["value"].sel(layer=[0, 1, 2, 3, 6])).all()
    assert np.isfinite(large["value"]).all()
    nan = np.nan
    thirds = [0, 1 / 3, 2 / 3, 1, nan, nan, nan]
    np.testing.assert_allclose(small["depth"][0, :4], thirds[:4])
    np.testing.assert_allclose(large["depth"][0], [0, 0.2, 0.4, 0.6, 0.8, 1, nan])
    entropy = study["measures/head_entropy/zhai2023/speeches"]
    np.testing.assert_allclose(entropy["block_depth"][0, :3], thirds[1:4])
    assert whole["width"].values.tolist() == [32] * 4 + [48] * 3


def test_the_tree_holds_every_store_and_all_checkpoints(
    made: list[Path], study: xr.DataTree
) -> None:
    for name, path in zip(NAMES, made, strict=True):
        own = study[f"models/{name}"]
        assert own.attrs["path"] == str(path)
        assert own["sets/speeches/hidden"]["hidden"].chunks is not None
        assert f"/{name}/" not in measure(own, "loss")["checkpoint"].values[0]
        assert own.phasescope.draw("profile")[1]["rankme"].sizes["layer"] == len(
            own["sets/speeches/hidden"]["layer"]
        )
    table = study["checkpoints"].to_dataset()
    assert table["checkpoint"].values[[0, -1]].tolist() == ["small/main/step0", "large/main/step8"]
    assert table["step"].values.tolist() == [0, 1, 4, 16, 0, 2, 8]


def test_lines_name_the_branch_only_where_there_are_several(stores: list[Path]) -> None:
    fork(stores[1])
    lines = measure(open_study(stores), "rankme", convention="roy2007")["line"].values
    assert list(dict.fromkeys(lines)) == ["small", "large · main", "large · sft"]


def test_the_other_of_a_pair_is_the_last_of_its_own_branch(stores: list[Path]) -> None:
    fork(stores[1])
    found = measure(open_study(stores), "linear_cka", convention="biased")
    others = dict(zip(found["line"].values.tolist(), found["other"].values.tolist(), strict=True))
    assert others["small"] == "small/main/step16"
    assert others["large · main"] == "large/main/step2"
    assert others["large · sft"] == "large/sft/step8"


def test_other_numbers_of_samples_a_feature_are_told_below_figures_and_in_the_report(
    study: xr.DataTree, stores: list[Path]
) -> None:
    told = "N/d is 1.25 (small), 0.833 (large), so levels of RankMe are not comparable"
    assert f"Set speeches: {told}" in draw(study, "profile")[1].attrs["caption"]
    assert told not in draw(study, "heads")[1].attrs["caption"]
    assert told in html.unescape(render(study, commands=[], versions={}, figures={}))
    same = open_study([stores[0], stores[0]], names=["a", "b"])
    assert "not comparable" not in draw(same, "profile")[1].attrs["caption"]


def test_warnings_say_what_cannot_be_compared(study: xr.DataTree, stores: list[Path]) -> None:
    told = "\n".join(study.attrs["warnings"])
    assert "small: set speeches: N/d = 1.2" in told
    assert "N/d is 1.25 (small), 0.833 (large), so levels of RankMe are not comparable" in told
    assert "tokenizer" not in told
    assert "different inputs" not in told
    same = open_study([stores[0], stores[0]], names=["a", "b"]).attrs["warnings"]
    assert all(line.startswith(("a: ", "b: ")) for line in same)
    root = zarr.open_group(stores[1], mode="r+")
    other = {"tokenizer": "x", "inputs speeches": "y", "dtype": "bfloat16"}
    root.attrs["identity"] = {**dict(root.attrs["identity"]), **other}
    shutil.rmtree(stores[1] / "measures/rankme")
    told = "\n".join(open_study(stores).attrs["warnings"])
    assert "different tokenizers; tokens, and so losses" in told
    assert "set speeches: the models read different inputs" in told
    assert "different dtypes: float32 (small), bfloat16 (large)" in told
    assert "large keeps 1 of 3 measures not (rankme/li2025/speeches)" in told


def test_what_cannot_stand_together_is_refused(stores: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"two stores or more, 1 given"):
        open_study(stores[:1])
    with pytest.raises(InputError, match=r"both called `small`; give names, .* --name"):
        open_study([stores[0], stores[0]])
    with pytest.raises(InputError, match="1 names for 2 stores"):
        open_study(stores, names=["a"])
    with pytest.raises(InputError, match="`a/b`: it needs a name without a slash"):
        open_study(stores, names=["a/b", "c"])
    with pytest.raises(InputError, match=r"none.zarr: is not a store"):
        open_study([stores[0], tmp_path / "none.zarr"])
    fork(stores[1])
    with pytest.raises(InputError, match="two lines of the study are called `large · sft`"):
        open_study(stores, names=["large · sft", "large"])
    (stores[1] / "sets/speeches").rename(stores[1] / "sets/talks")
    with pytest.raises(InputError, match=r"same name \(small has speeches; large has talks\)"):
        open_study(stores)


def test_an_unknown_model_is_named(study: xr.DataTree) -> None:
    with pytest.raises(KeyError, match="no model `huge` here; there are small, large"):
        of_model(measure(study, "loss"), "huge")


def test_a_measure_is_kept_in_every_store(stores: list[Path]) -> None:
    measure(open_study(stores), "max_logit", persist=True)
    for store in stores:
        assert "max_logit" in open_store(store)["measures"].children
    kept = open_study(stores)["measures/max_logit/mean/speeches"]
    assert kept["value"].sizes == {"checkpoint": 7, "block": 5, "head": 4}


def test_figures_compute_what_no_store_keeps(study: xr.DataTree) -> None:
    _, table = study.phasescope.draw("eigenspectra")
    assert table["share"].sizes["checkpoint"] == 7
    sums = table["share"].sum("rank").groupby("model").mean()
    np.testing.assert_allclose(sums, 1.0)


def test_the_command_line_takes_several(
    cli: Callable[..., tuple[int, str, str]], stores: list[Path], tmp_path: Path
) -> None:
    code, _, _ = cli("figures", *stores, "profile", "--only", "heads")
    assert code == 0
    written = {path.stem for path in (tmp_path / "study").iterdir()}
    assert written == {"profile", "heads"}
    record = json.loads((tmp_path / "study/heads.json").read_text())
    assert set(record["identity_digest"]) == set(NAMES)
    assert cli("report", *stores, "--name", "one", "--name", "two")[0] == 0
    page = (tmp_path / "study.html").read_text()
    assert "<h3>one</h3>" in page
    assert "--name two" in page
    one_line(cli("figures", *stores, "hedas"), "no figure `hedas`", "heads")
    one_line(cli("figures", stores[0], stores[0]), "both called `small`")
    one_line(cli("report", stores[0], "--name", "x"), "--name is for several stores")
    one_line(cli("report", stores[0], tmp_path / "none.zarr"), "none.zarr", "is not a store")
