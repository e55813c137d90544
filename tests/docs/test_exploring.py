"""The page docs/exploring.md, block by block, on a small store."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runs.jobs import execute
from runs.recipe import load_recipe
from tests.runs.conftest import recipe_text, save_step, speeches

PAGE = Path(__file__).parents[2] / "docs" / "exploring.md"
ANY = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from runs.models.tokenizer import save_tokenizer, train_tokenizer

    series = tmp_path / "series"
    series.mkdir()
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), series)
    for step in (0, 2, 4):
        save_step(series, step)
    rows = [json.dumps({"text": t, "president": "AB"[i % 2]}) for i, t in enumerate(speeches())]
    (tmp_path / "speeches.jsonl").write_text("\n".join(rows))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        recipe_text(series, measures="names = []").replace('["party"]', '["president"]')
    )
    store = execute(load_recipe(recipe)).store
    blocks = ANY.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 7
    space: dict[str, object] = {"store": store, "folder": tmp_path}
    for number, block in enumerate(blocks):
        exec(compile(block, f"exploring.md, block {number + 1}", "exec"), space)
    printed = capsys.readouterr().out
    assert "most focused head" in printed
    assert "garrido2022" in printed
    assert (tmp_path / "heads.png").stat().st_size > 1000
