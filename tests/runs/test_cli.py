"""Every kind of bad input through the command line: one line, exit code 2, no traceback."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from figures import FIGURES
from tests.runs.conftest import STEPS, save_step
from tests.runs.zoo import tiny

Write = Callable[..., Path]


def one_line(result: tuple[int, str, str], *parts: str) -> None:
    code, _, err = result
    assert code == 2, err
    lines = [line for line in err.splitlines() if line.strip() and "Loading weights" not in line]
    assert len(lines) == 1, err
    assert lines[0].startswith("phasescope: ")
    assert "Traceback" not in err
    for part in parts:
        assert part in lines[0], (part, lines[0])


def test_a_run_a_status_figures_and_a_report(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write, tmp_path: Path
) -> None:
    recipe = write_recipe(measures="")
    assert cli("plan", recipe)[0] == 0
    assert not (tmp_path / "tiny.zarr").exists()
    code, out, _ = cli("run", recipe)
    assert code == 0
    assert f"{len(STEPS)} checkpoints captured" in out
    store = tmp_path / "tiny.zarr"
    code, out, _ = cli("status", store)
    assert code == 0
    assert f"{len(STEPS)} of {len(STEPS)} checkpoints complete" in out
    code, out, _ = cli("figures", store)
    assert code == 0
    # 32 directions are too few for α; the figures are drawn without it.
    assert "left out" not in out
    listed = (n for n, r in FIGURES.items() if r.kind == "series" and not (r.extra or r.command))
    for name in listed:
        for kind in ("png", "svg", "pdf", "csv", "json"):
            assert (tmp_path / "figures" / f"{name}.{kind}").stat().st_size > 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    cli("figures", store)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    code, out, _ = cli("report", store)
    assert code == 0
    page = (tmp_path / "report.html").read_text()
    assert "name = &#34;tiny&#34;" in page or "name = &quot;tiny&quot;" in page
    assert cli("measure", store, "rankme/roy2007")[0] == 0


@pytest.mark.parametrize("what", ["measures", "figures", "series"])
def test_the_catalogues_are_listed(cli: Callable[..., tuple[int, str, str]], what: str) -> None:
    code, out, _ = cli("list", what)
    assert code == 0
    assert {"measures": "rankme", "figures": "eigenspectra", "series": "local"}[what] in out


def test_a_failed_checkpoint_is_exit_code_one(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write, own_series: Path
) -> None:
    (own_series / "step2" / "model.safetensors").write_bytes(b"not weights")
    recipe = write_recipe(own_series)
    code, out, _ = cli("run", recipe)
    assert code == 1
    assert "main/step2" in out
    assert f"{len(STEPS) - 1} checkpoints captured" in out
    shutil.rmtree(own_series / "step2")
    save_step(own_series, 2)
    assert cli("run", recipe)[0] == 1
    assert cli("run", "--retry", recipe)[0] == 0


def test_wrong_recipes_are_one_line(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write, tmp_path: Path
) -> None:
    one_line(cli("run", tmp_path / "none.toml"), "none.toml", "no such recipe")
    path = write_recipe()
    text = path.read_text()

    def changed(old: str, new: str) -> Path:
        assert old in text
        path.write_text(text.replace(old, new))
        return path

    one_line(cli("run", changed("shuffle_seed", "shufle_seed")), "shufle_seed", "shuffle_seed")
    one_line(cli("plan", changed('"speeches.jsonl"', '"none.jsonl"')), "none.jsonl", "no such file")
    one_line(
        cli("run", changed("length = 24\nmin_length = 8", "length = 200\nmin_length = 200")),
        "samples of at least 200",
    )
    one_line(cli("run", changed('["rankme", "loss"]', '["rankmee"]')), "measures.names", "rankme")
    one_line(
        cli("run", changed("block = 4", 'block = 4\nvisits = ["x"]')),
        "capture.visits",
        "head_ablation",
    )
    one_line(
        cli("run", changed("block = 4", 'block = 4\ndevice = "tpu9"')), "capture.device", "tpu9"
    )
    one_line(cli("run", changed("[series]", "[series]\nsteps = [3]")), "no checkpoint at step 3")
    (tmp_path / "file").write_text("")
    one_line(
        cli("run", changed('"tiny.zarr"', '"file/tiny.zarr"')),
        "file/tiny.zarr",
        "cannot be written",
    )


def test_another_identity_shows_the_difference(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write
) -> None:
    path = write_recipe(steps="steps = [0]")
    assert cli("run", path)[0] == 0
    path.write_text(path.read_text().replace("block = 4", "block = 8"))
    one_line(cli("run", path), "block: store has 4, recipe gives 8")


def test_a_tokenizer_of_another_model_is_refused(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write, own_series: Path
) -> None:
    for step in STEPS:
        shutil.rmtree(own_series / f"step{step}")
    save_step(own_series, 1, vocabulary=260)
    one_line(cli("run", write_recipe(own_series)), "tokenizer and model do not match", "260")


def test_a_model_without_attention_heads_is_one_line(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write, own_series: Path
) -> None:
    for step in STEPS:
        transformers.MambaConfig(vocab_size=320).save_pretrained(own_series / f"step{step}")
    one_line(cli("run", write_recipe(own_series)), "step0", "not one of a decoder with attention")


def test_an_architecture_without_a_row_runs_but_for_what_it_hides(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write, own_series: Path
) -> None:
    """BLOOM keeps its attention to itself: refused with attention, captured without."""
    for step in STEPS:
        shutil.rmtree(own_series / f"step{step}")
    for step in (1, 2):
        tiny("BLOOM", vocab_size=320, initializer_range=0.02 * step).save_pretrained(
            own_series / f"step{step}"
        )
    recipe = write_recipe(own_series)
    one_line(cli("run", recipe), "BloomForCausalLM", "leave `attention` out of capture.products")
    recipe = write_recipe(own_series, capture='products = ["hidden", "moments", "tokens"]')
    assert cli("run", recipe)[0] == 0


def test_a_backend_that_cannot_is_refused_before_anything_runs(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write
) -> None:
    wanted = 'backend = "transformer_lens"\nvisits = ["head_ablation"]'
    recipe = write_recipe(capture=wanted)
    one_line(cli("plan", recipe), "recipe.toml", "capture.visits", 'capture.backend = "torch"')
    assert not recipe.with_name("tiny.zarr").exists()


def test_shards_from_the_command_line(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write
) -> None:
    recipe = write_recipe(capture='products = ["tokens"]')
    for wrong in ("0/2", "3/2", "2", "/"):
        one_line(cli("run", recipe, "--shard", wrong), "--shard", wrong, "from 1 to n")
    assert not recipe.with_name("tiny.zarr").exists()
    code, out, _ = cli("run", recipe, "--shard", "1/3", "--workers", 2)
    assert code == 0
    assert "2 checkpoints captured, 0 measures" in out
    assert "shard 1/3" in out


def test_stores_that_are_none_are_one_line(
    cli: Callable[..., tuple[int, str, str]], write_recipe: Write, tmp_path: Path
) -> None:
    for command in ("status", "figures", "report", "measure"):
        one_line(cli(command, tmp_path / "none.zarr"), "none.zarr", "is not a store")
    recipe = write_recipe(steps="steps = [0]", capture='products = ["hidden"]')
    assert cli("run", recipe)[0] == 0
    store = tmp_path / "tiny.zarr"
    one_line(cli("figures", store, "heds"), "no figure `heds`", "heads")
    one_line(cli("figures", store, "heads"), "head_entropy", "phasescope")
    one_line(cli("list", "models"), "no catalogue `models`")
    (store / "zarr.json").write_text("{")
    one_line(cli("status", store), "damaged")


def test_usage_errors_are_exit_code_two(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = cli("run")
    assert code == 2
    assert "Traceback" not in err


def test_our_own_fault_is_one_line_too(
    cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import runs.screens

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(runs.screens, "show_list", broken)
    code, _, err = cli("list")
    assert code == 70
    assert "a fault of phasescope's own" in err
    assert "Traceback" not in err
