"""Saved files are the same bytes every time, and hold what they say."""

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from figures import FIGURES, draw, save
from figures.save import csv_text, image_bytes, tidy

PROVENANCE = {"identity_digest": "ab" * 32, "commands": ["phasescope figures out/tiny"]}


# Of each kind of drawing one in the fast suite: lines, rasters, points, and a layout of its own.
_FAST = {"phases", "eigenspectra", "modality_plane", "word_class_maps", "bound_diagram"}


@pytest.mark.parametrize(
    "name",
    [
        n if n in _FAST else pytest.param(n, marks=pytest.mark.slow)
        for n in FIGURES
        if n != "post_training"  # one branch
    ],
)
def test_a_second_run_writes_the_same_bytes(tree, tmp_path, name):
    for run in ("first", "second"):
        paths = save(*draw(tree, name), tmp_path / run, name, provenance=PROVENANCE)
    assert [p.suffix for p in paths] == [".png", ".svg", ".pdf", ".csv", ".json"]
    for path in paths:
        assert path.read_bytes() == (tmp_path / "first" / path.name).read_bytes()
        assert path.stat().st_size > 200


def test_another_process_writes_the_same_bytes(tree):
    here = hashlib.sha256(image_bytes(*draw(tree, "phases"), "svg")).hexdigest()
    conftest = Path(__file__).with_name("conftest.py")
    script = (
        "import hashlib, runpy, sys\n"
        "from figures import draw\n"
        "from figures.save import image_bytes\n"
        "tree = runpy.run_path(sys.argv[1])['build_tree']('main')\n"
        "print(hashlib.sha256(image_bytes(*draw(tree, 'phases'), 'svg')).hexdigest())\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", script, str(conftest)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert there.stdout.strip() == here


def test_images_carry_no_date_and_load_nothing(drawn):
    svg = image_bytes(*drawn("phases"), "svg").decode()
    assert "<dc:date>" not in svg
    assert not re.search(r'(href|src)="(?!#|data:)', svg)
    assert "font-family" not in svg
    pdf = image_bytes(*drawn("phases"), "pdf")
    assert b"CreationDate" not in pdf
    assert pdf.startswith(b"%PDF")


@pytest.mark.parametrize("name", FIGURES)
def test_the_csv_gives_every_number_back(drawn, name):
    _, table = drawn(name, 2)
    rows = pd.read_csv(io.StringIO(csv_text(table)), dtype=str, keep_default_na=False)
    assert list(rows.columns[:3]) == ["variable", "value", "unit"]
    assert list(dict.fromkeys(rows["variable"])) == list(table.data_vars)
    for variable, data in table.data_vars.items():
        texts = rows.loc[rows["variable"] == variable, "value"].to_numpy()
        if data.dtype.kind == "f":
            np.testing.assert_array_equal(texts.astype(float), data.values.ravel())
        else:
            assert texts.tolist() == [str(value) for value in data.values.ravel()]


def test_rows_are_found_by_their_coordinates(drawn):
    _, table = drawn("layers", 2)
    rows = tidy(table)
    hit = rows.query("variable == 'rankme' and branch == 'seed1' and step == '16' and layer == '3'")
    place = np.flatnonzero((table["branch"] == "seed1") & (table["step"] == 16))[0]
    assert float(hit["value"].item()) == table["rankme"].values[place, 3]
    assert hit["checkpoint"].item() == "seed1/step16"


def test_the_order_of_a_stores_coordinates_does_not_matter(drawn):
    _, table = drawn("layers", 2)
    turned = table.reset_coords(["branch", "step", "tokens", "layer_name"])
    for name in ("layer_name", "tokens", "branch", "step"):
        turned = turned.set_coords(name)
    turned = turned[["rankme", "alpha_req"]].assign_coords(
        {name: turned[name] for name in ("tokens", "layer_name", "step", "branch")}
    )
    assert csv_text(turned) == csv_text(table)


def test_nan_is_written_as_nan(drawn):
    _, table = drawn("layers")
    holed = table.assign(rankme=table["rankme"].where(table["layer"] != 2))
    rows = tidy(holed)
    values = rows.loc[(rows["variable"] == "rankme") & (rows["layer"] == "2"), "value"]
    assert set(values) == {"nan"}


def test_provenance_holds_digests_of_what_is_there(drawn, tmp_path):
    paths = save(
        *drawn("layers"),
        tmp_path / "new" / "folder",
        "map",
        provenance=PROVENANCE,
        formats=("svg",),
    )
    assert [p.name for p in paths] == ["map.svg", "map.csv", "map.json"]
    record = json.loads(paths[-1].read_text())
    assert record.pop("files") == {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths[:-1]
    }
    assert record == PROVENANCE
    keys = [
        line.split('"')[1] for line in paths[-1].read_text().splitlines() if line.startswith('  "')
    ]
    assert keys == sorted(keys)
    assert sorted(p.name for p in paths[0].parent.iterdir()) == sorted(p.name for p in paths)


def test_a_write_that_fails_leaves_the_old_file(drawn, tmp_path, monkeypatch):
    save(*drawn("layers"), tmp_path, "map", provenance=PROVENANCE, formats=())
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        save(*drawn("layers", 2), tmp_path, "map", provenance=PROVENANCE, formats=())
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [({"formats": ("jpg",)}, "formats holds 'jpg'"), ({"name": "../x"}, "plain file name"),
     ({"name": ""}, "plain file name"), ({"provenance": {"files": 1}}, "rename it")],
)  # fmt: skip
def test_bad_arguments_are_refused_before_anything_is_written(drawn, tmp_path, change, message):
    given = {"name": "map", "provenance": PROVENANCE, "formats": ("svg",), **change}
    with pytest.raises(ValueError, match=message):
        save(*drawn("layers"), tmp_path, given.pop("name"), **given)
    assert list(tmp_path.iterdir()) == []
