"""The run: whatever interrupts it, the same bytes come out."""

import csv
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from runs.errors import InputError, PhasescopeError
from runs.models import atomic, pretrain, training_run
from runs.models.neox import TrainConfig, checkpoint_steps, learning_rate
from runs.models.pretrain import train
from runs.series import local

CONFIG = TrainConfig(
    layers=1,
    width=16,
    heads=2,
    mlp=32,
    vocabulary=280,
    length=12,
    batch=2,
    steps=13,
    warmup=3,
    per_octave=2,
    threads=1,
)
TEXTS = [f"the {a} of the {b} sat on the mat, and the hat" for a in "abcdef" for b in "uvwxyz"]
STEPS = checkpoint_steps(CONFIG.steps, CONFIG.per_octave)


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def interrupt_at(*steps: int) -> Callable[[int, int, float], None]:
    def progress(step: int, total: int, loss: float) -> None:
        if step in steps:
            raise Interrupted

    return progress


def digests(folder: Path) -> dict[str, str]:
    """Every file but the lock, with what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(autouse=True)
def _save_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_run, "STATE_EVERY", 4)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("whole") / "new" / "series", CONFIG, texts=TEXTS)


def test_folder_holds_the_series_and_nothing_else(series: Path) -> None:
    files = {"config.json", "generation_config.json", "model.safetensors"}
    expected = {f"step{s:06d}/{name}" for s in STEPS for name in files}
    expected |= {"series.json", "training.csv", "tokenizer.json", "tokenizer_config.json"}
    assert set(digests(series)) == expected


@pytest.mark.parametrize("steps", [(1,), (3,), (4,), (5,), (8, 9), (2, 4, 6, 11), (13,)])
def test_an_interrupted_run_ends_with_the_same_bytes(
    series: Path, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    for step in steps:
        with pytest.raises(Interrupted):
            train(tmp_path, CONFIG, texts=TEXTS, progress=interrupt_at(step))
        listed = json.loads((tmp_path / "series.json").read_text())["checkpoints"]
        assert [c["step"] for c in listed] == [s for s in STEPS if s <= step]
    first: list[int] = []
    train(tmp_path, CONFIG, texts=TEXTS, progress=lambda step, total, loss: first.append(step))
    assert first[:1] == ([steps[-1] // 4 * 4 + 1] if steps[-1] < 13 else [])
    assert digests(tmp_path) == digests(series)


def test_a_run_killed_at_any_rename_ends_with_the_same_bytes(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, remove = os.replace, atomic._remove
    left = 0

    def dying(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Interrupted
        rename(source, target)

    def by_the_living(path: Path) -> None:  # a killed process cleans nothing up
        if left >= 0:
            remove(path)

    monkeypatch.setattr(os, "replace", dying)
    monkeypatch.setattr(atomic, "_remove", by_the_living)
    for attempt in range(100):
        left = attempt % 9
        try:
            train(tmp_path, CONFIG, texts=TEXTS)
            break
        except Interrupted:
            assert list(tmp_path.glob(".*.partial"))
    assert attempt > 9
    assert digests(tmp_path) == digests(series)


def test_a_finished_run_is_left_as_it_is(series: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in series.rglob("*")}
    train(series, CONFIG, texts=TEXTS, progress=interrupt_at(*range(14)))
    assert {path: path.stat().st_mtime_ns for path in series.rglob("*")} == before


def test_a_lost_checkpoint_is_made_again(series: Path, tmp_path: Path) -> None:
    train(tmp_path, CONFIG, texts=TEXTS)
    for file in (lost := tmp_path / "step000006").iterdir():
        file.unlink()
    lost.rmdir()
    train(tmp_path, CONFIG, texts=TEXTS)
    assert digests(tmp_path) == digests(series)


def test_another_configuration_is_refused_with_the_difference(series: Path) -> None:
    before = digests(series)
    with pytest.raises(InputError) as caught:
        train(series, replace(CONFIG, lr=0.5, seed=3), texts=TEXTS)
    line = str(caught.value)
    assert "lr is 0.003, not 0.5, seed is 0, not 3" in line
    assert "\n" not in line
    assert "betas" not in line
    with pytest.raises(InputError, match="text_sha256"):
        train(series, CONFIG, texts=[*TEXTS, "more"])
    assert digests(series) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        train(tmp_path, CONFIG, texts=TEXTS)
    (tmp_path / "series.json").write_text('{"checkpoints": []}')
    with pytest.raises(InputError, match="not of a run trained here"):
        train(tmp_path, CONFIG, texts=TEXTS)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, CONFIG, texts=TEXTS, progress=interrupt_at(5))
    (tmp_path / "resume.pt").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"resume\.pt: cannot be read .* remove it") as caught:
        train(tmp_path, CONFIG, texts=TEXTS)
    assert "\n" not in str(caught.value)


def test_a_run_that_blows_up_says_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "update", lambda *_, **__: (float("nan"), 1.0))
    with pytest.raises(PhasescopeError, match=r"loss nan at step 1; lower lr"):
        train(tmp_path, CONFIG, texts=TEXTS)


def test_manifest_tells_the_run(series: Path) -> None:
    content = json.loads((series / "series.json").read_text())
    assert content["architecture"] == "GPTNeoXForCausalLM"
    assert content["tokens_per_step"] == 24
    assert content["seed"] == 0
    assert content["training"]["lr"] == CONFIG.lr
    model = AutoModelForCausalLM.from_pretrained(series / "step000000")
    assert content["parameters"] == sum(p.numel() for p in model.parameters())
    assert content["checkpoints"][3] == {
        "path": "step000003",
        "step": 3,
        "tokens": 72,
        "branch": "main",
    }
    read = local(series)
    assert [c.step for c in read.checkpoints] == list(STEPS)
    assert [c.tokens for c in read.checkpoints] == [24 * s for s in STEPS]
    assert read.tokenizer == series


def test_log_has_a_row_an_update(series: Path) -> None:
    with (series / "training.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 14))
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == [learning_rate(s, CONFIG) for s in range(1, 14)]
    assert float(rows[0]["loss"]) == pytest.approx(5.63, abs=0.1), "ln 280"
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert all(float(row["gradient_norm"]) > 0 for row in rows)


def test_the_first_update_changes_every_matrix(series: Path) -> None:
    before, after = (
        AutoModelForCausalLM.from_pretrained(series / f"step{s:06d}").state_dict() for s in (0, 1)
    )
    assert before.keys() == after.keys()
    for name, weights in before.items():
        assert not torch.equal(weights, after[name]), name


def test_checkpoint_and_tokenizer_load_offline_and_predict(series: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(series, local_files_only=True)
    first, last = (
        AutoModelForCausalLM.from_pretrained(series / f"step{s:06d}", local_files_only=True)
        for s in (0, 13)
    )
    tokens = tokenizer(TEXTS[0], return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert last.dtype == torch.float32
    assert last(tokens, labels=tokens).loss < first(tokens, labels=tokens).loss


def test_threads_are_given_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    during: list[int] = []
    config = replace(CONFIG, steps=2, threads=before + 1)
    train(
        tmp_path,
        config,
        texts=TEXTS,
        progress=lambda *_: during.append(torch.get_num_threads()),
    )
    assert set(during) == {before + 1}
    assert torch.get_num_threads() == before


def test_no_progress_bar_is_drawn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, replace(CONFIG, steps=2), texts=TEXTS)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
