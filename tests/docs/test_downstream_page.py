"""docs/downstream.md, block by block, and the numbers it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runs.jobs import execute
from runs.models.tokenizer import save_tokenizer, train_tokenizer
from runs.recipe import load_recipe
from runs.scores import published_scores
from tests.docs.test_pages import DOCS, run_page
from tests.runs.conftest import recipe_text, save_step, speeches


def test_the_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), folder)
    for step in (2, 4, 8):
        save_step(folder, step)
    rows = [json.dumps({"text": t, "party": "AB"[i % 2]}) for i, t in enumerate(speeches())]
    (tmp_path / "speeches.jsonl").write_text("\n".join(rows))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(recipe_text(folder, capture='products = ["hidden", "tokens"]'))
    assert run_page("downstream.md", {"store": execute(load_recipe(recipe)).store}) == 2
    assert "0.84 0.01" in capsys.readouterr().out


def test_the_printed_finals_are_the_tables() -> None:
    text = (DOCS / "downstream.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| published |")]
    printed = [float(cell) for cell in row.split("|")[2:-1]]
    finals = [float(published_scores(size)[-1]) for size in ("1b", "1.4b", "2.8b", "6.9b")]
    assert printed == [round(value, 3) for value in finals]
