"""The pages of docs/ that are notebooks, block by block."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runs.jobs import execute
from runs.models.tokenizer import save_tokenizer, train_tokenizer
from runs.recipe import load_recipe
from tests.runs.conftest import recipe_text, save_step, speeches

DOCS = Path(__file__).parents[2] / "docs"
ANY = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run_page(name: str, space: dict[str, object]) -> int:
    """Execute a page's blocks in one namespace; how many there were."""
    blocks = ANY.findall((DOCS / name).read_text(encoding="utf-8"))
    for number, block in enumerate(blocks):
        exec(compile(block, f"{name}, block {number + 1}", "exec"), space)
    return len(blocks)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    folder = tmp_path / "series"
    folder.mkdir()
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), folder)
    for step in (0, 2, 4):
        save_step(folder, step)
    return folder


def test_exploring(series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.dumps({"text": t, "president": "AB"[i % 2]}) for i, t in enumerate(speeches())]
    (tmp_path / "speeches.jsonl").write_text("\n".join(rows))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        recipe_text(series, measures="names = []").replace('["party"]', '["president"]')
    )
    store = execute(load_recipe(recipe)).store
    deeper = tmp_path / "deeper"
    deeper.mkdir()
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), deeper)
    for step in (0, 4):
        save_step(deeper, step, blocks=4)
    text = recipe_text(deeper, measures="names = []").replace('["party"]', '["president"]')
    recipe.write_text(text.replace("tiny", "deeper"))
    space = {"store": store, "other": execute(load_recipe(recipe)).store, "folder": tmp_path}
    assert run_page("exploring.md", space) >= 9
    printed = capsys.readouterr().out
    assert "most focused head" in printed
    assert "garrido2022" in printed
    assert (tmp_path / "heads.png").stat().st_size > 1000


def test_memorisation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_page("memorisation.md", {"place": tmp_path / "index"}) == 1
    printed = capsys.readouterr().out
    assert "probability=0.5, suffix_length=2, prompt_count=2, continuation_count=1" in printed
    assert "{7: 1, 8: 1} {0: 1}" in printed


def test_backends(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = series / "step4"
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), checkpoint)
    assert run_page("backends.md", {"checkpoint": checkpoint, "texts": speeches(24)}) >= 6
    assert "layer_name" in capsys.readouterr().out
