from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runs.errors import InputError
from runs.series import local


def fake(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def test_folders_give_steps_tokens_and_branches(root: Path) -> None:
    for name in ("step10", "checkpoint-2", "seed1/step10", "seed1/step4-tokens1B", "notes"):
        fake(root / name)
    series = local(root, tokens_per_step=100)
    assert [(c.branch, c.step, c.tokens) for c in series.checkpoints] == [
        ("main", 2, 200),
        ("main", 10, 1000),
        ("seed1", 4, 400),
        ("seed1", 10, 1000),
    ]
    assert series.checkpoints[0].label == "main/step2"


def test_the_manifest_wins_over_folder_names(root: Path) -> None:
    fake(root / "a")
    fake(root / "step9")
    rows = [{"path": "a", "step": 7, "tokens": 70, "branch": "sft"}]
    (root / "series.json").write_text(json.dumps({"name": "mine", "checkpoints": rows}))
    series = local(root)
    assert series.name == "mine"
    assert [(c.label, c.tokens) for c in series.checkpoints] == [("sft/step7", 70)]


def test_selection_by_step_and_branch(root: Path) -> None:
    for name in ("step1", "step2", "x/step2"):
        fake(root / name)
    series = local(root, tokens_per_step=1)
    assert [c.label for c in series.select(steps=[2]).checkpoints] == ["main/step2", "x/step2"]
    assert [c.label for c in series.select(branches=["x"]).checkpoints] == ["x/step2"]
    with pytest.raises(InputError, match="no checkpoint at step 3"):
        series.select(steps=[2, 3])
    with pytest.raises(InputError, match="no branch `y`"):
        series.select(branches=["y"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not valid JSON"),
        ('{"checkpoints": [{"step": 1}]}', "path"),
        ('{"checkpoints": 3}', "must list"),
        ("[]", "must list"),
        ('{"checkpoints": [{"path": "a", "step": "x"}]}', "must list"),
        ('{"checkpoints": [{"path": "a", "step": 1}]}', "tokens_per_step"),
        ('{"checkpoints": []}', "holds no checkpoint"),
    ],
)
def test_a_damaged_manifest_is_one_line(root: Path, content: str, expected: str) -> None:
    (root / "series.json").write_text(content)
    with pytest.raises(InputError, match=expected):
        local(root)


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        local(root / "nowhere")
    with pytest.raises(InputError, match="holds no checkpoint"):
        local(root, tokens_per_step=1)
    fake(root / "step1")
    with pytest.raises(InputError, match=r"series\.tokens_per_step"):
        local(root)
    fake(root / "checkpoint-1")
    with pytest.raises(InputError, match="main/step1 is there twice"):
        local(root, tokens_per_step=1)
    shutil.rmtree(root / "checkpoint-1")
    (root / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"series\.tokenizer"):
        local(root, tokens_per_step=1)
