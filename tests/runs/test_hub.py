"""Series as a hub has them: labels, caches, verification, fetching, and runs over what is good."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runs.checkpoints import named
from runs.errors import InputError
from runs.families import hub, olmo, olmo2, olmo3, pythia, stages
from runs.faults import known_faults
from runs.folders import read_folder
from runs.jobs import execute
from runs.models.tokenizer import save_tokenizer, train_tokenizer
from runs.published import published
from runs.recipe import load_recipe
from runs.series import local
from runs.shards import Shard
from runs.store import open_store
from runs.verify import verify_series
from runs.writing import DONE, FAILED
from tests.runs.conftest import save_step, speeches
from tests.runs.hub_cache import BAD, GOOD, REPOSITORY, add_revision, make_cache
from tests.runs.test_cli import one_line

Write = Callable[..., Path]
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def cache_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cache(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def cache(cache_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cache_once, tmp_path / "hub", symlinks=True))


def hub_recipe(write_recipe: Write, cache: Path, more: str = "", **parts: str) -> Path:
    path = write_recipe(**parts)
    table = f'kind = "hub"\nrepository = "{REPOSITORY}"\ncache = "{cache}"\n{more}'
    text = re.sub(r"(?m)^path = \".*series.*\"$", table, path.read_text(), count=1)
    path.write_text(text)
    return path


def test_verification_names_every_fault(cache: Path) -> None:
    series = hub(REPOSITORY, rate=256, cache=cache)
    found = {v.checkpoint.revision: v.reason for v in verify_series(series)[0]}
    assert {r for r, reason in found.items() if not reason} == set(GOOD)
    for revision, start in BAD.items():
        assert found[revision].startswith(start), (revision, found[revision])
    assert "of main/step128" not in found["step1"]
    assert re.search(r"\d+ of its \d+ large matrices are those of main/step128", found["step16"])
    # The same, as a folder without a recipe.
    folder = read_folder(cache / "models--somebody--tiny", 1)
    assert {v.checkpoint.revision: v.reason for v in verify_series(folder)[0]} == found


def test_accepted_checkpoints_are_taken_as_they_are(cache: Path) -> None:
    series = hub(REPOSITORY, rate=256, cache=cache)
    found, _ = verify_series(series, accept=["main/step4", "main/step1"])
    assert {v.checkpoint.revision for v in found if v.reason} == set(BAD) - {"step4", "step1"}


def test_a_run_finishes_what_is_good_and_lists_the_rest(
    write_recipe: Write, cache: Path, cli: Cli, tmp_path: Path
) -> None:
    recipe = hub_recipe(write_recipe, cache)
    code, out, _ = cli("verify", recipe)
    assert code == 1
    assert "4 of 9 checkpoints are what their labels say" in out
    code, out, err = cli("run", recipe)
    assert (code, err) == (1, "")
    tree = open_store(tmp_path / "tiny.zarr")
    status = tree["checkpoints"]["status"]
    for revision in GOOD:
        assert (status.sel(checkpoint=f"main/{revision}") == DONE).all()
    for revision, start in BAD.items():
        assert (status.sel(checkpoint=f"main/{revision}") == FAILED).all()
        told = str(tree["checkpoints"]["error"].sel(checkpoint=f"main/{revision}").values[0])
        assert start.split(": ", 1)[-1].split(" ")[0] in told or start.split(":")[0] in told
    assert cli("report", tmp_path / "tiny.zarr")[0] == 0
    page = (tmp_path / "report.html").read_text()
    for revision in BAD:
        assert f"main/{revision} failed" in page
    assert "partial duplicate" in page
    # verify works from the store, too.
    assert cli("verify", tmp_path / "tiny.zarr")[0] == 1


def test_a_twin_found_late_changes_status_and_not_data(
    write_recipe: Write, cache: Path, tmp_path: Path
) -> None:
    """Step 4 holds the final weights; nobody can know before the final checkpoint is there."""
    first = load_recipe(hub_recipe(write_recipe, cache, "steps = [2, 4]"))
    assert execute(first).failed == {}
    whole = load_recipe(hub_recipe(write_recipe, cache, "steps = [2, 4, 128]"))
    failed = execute(whole).failed
    assert list(failed) == ["main/step4"]
    assert failed["main/step4"].startswith("duplicate: its weights are those of main/step128")
    kept = open_store(tmp_path / "tiny.zarr")["checkpoints"]
    assert (kept["attempt"].sel(checkpoint="main/step4") != "").all()
    accepted = load_recipe(
        hub_recipe(write_recipe, cache, 'steps = [2, 4, 128]\naccept = ["main/step4"]')
    )
    outcome = execute(accepted)
    assert (outcome.failed, outcome.captured) == ({}, 0)  # its data were there
    hidden = open_store(tmp_path / "tiny.zarr")["sets/speeches/hidden"]["hidden"]
    np.testing.assert_array_equal(
        hidden.sel(checkpoint="main/step4"), hidden.sel(checkpoint="main/step128")
    )


def test_shards_are_judged_together(write_recipe: Write, cache: Path) -> None:
    """Step 4 is in another shard than the final checkpoint whose weights it holds."""
    recipe = load_recipe(hub_recipe(write_recipe, cache, "steps = [0, 2, 4, 8, 128]"))
    execute(recipe, shard=Shard(1, 2))  # steps 0, 4, 128
    execute(recipe, shard=Shard(2, 2))
    assert list(execute(recipe).failed) == ["main/step4"]
    alone = load_recipe(hub_recipe(write_recipe, cache, "steps = [0, 4, 8, 128]", name="b.toml"))
    shutil.rmtree(alone.store)
    assert execute(alone, shard=Shard(1, 2)).failed == {}  # steps 0, 8
    assert execute(alone, shard=Shard(2, 2)).captured == 2  # step 4 first: its twin is not known
    assert list(execute(alone).failed) == ["main/step4"]


def test_a_hub_out_of_reach_is_one_line_after_what_is_here(
    write_recipe: Write, cache: Path, cli: Cli, tmp_path: Path
) -> None:
    snapshot = (cache / "models--somebody--tiny" / "refs" / "step2").read_text()
    for file in (cache / "models--somebody--tiny" / "snapshots" / snapshot).glob("*.safetensors"):
        file.unlink()
    recipe = hub_recipe(write_recipe, cache, "steps = [0, 2, 128]")
    one_line(cli("run", recipe), "somebody/tiny", "cannot be reached", "phasescope fetch")
    status = open_store(tmp_path / "tiny.zarr")["checkpoints"]["status"]
    assert (status.sel(checkpoint=["main/step0", "main/step128"]) == DONE).all()
    one_line(cli("fetch", recipe), "cannot be reached")
    empty = hub_recipe(write_recipe, tmp_path / "nothing")
    one_line(cli("plan", empty), "somebody/tiny", "cannot be reached")


def test_labels_are_built_from_published_steps(tmp_path: Path) -> None:
    series = pythia("410m", seed=3, cache=tmp_path)
    assert series.name == "EleutherAI/pythia-410m-seed3"
    assert len(series) == 154
    assert [c.revision for c in series.checkpoints[:4]] == ["step0", "step1", "step2", "step4"]
    assert series.checkpoints[-1].tokens == 143_000 * 2_097_152
    assert not any(c.verified for c in series.checkpoints)
    seven = olmo2("7b", cache=tmp_path)
    assert {c.branch for c in seven.checkpoints} == {
        "stage1",
        *(f"stage2-ingredient{i}" for i in (1, 2, 3)),
    }
    revisions = {c.revision for c in seven.checkpoints}
    assert "stage1-step150-tokens1B" in revisions
    assert "stage2-ingredient2-step11931-tokens50B" in revisions
    last = max(c.tokens for c in seven.checkpoints if c.branch == "stage1")
    assert all(c.tokens > last for c in seven.checkpoints if c.branch.startswith("stage2"))
    one = {c.label: c for c in olmo2("1b", cache=tmp_path).checkpoints}
    assert one["stage1/step1907359"].revision == "stage1-step1907359-tokens4001B"
    assert one["early-training/step1000"].revision == "step1000-tokens3B"
    assert len(olmo("7b-0724", cache=tmp_path)) == 564


def test_published_sizes_are_those_of_the_models() -> None:
    """Parameter counts that the publishers state."""
    for name, count in {
        "EleutherAI/pythia-70m": 70_426_624,
        "EleutherAI/pythia-160m-seed4": 162_322_944,
        "EleutherAI/pythia-1.4b-deduped": 1_414_647_808,
        "EleutherAI/pythia-6.9b": 6_857_302_016,
        "EleutherAI/pythia-12b": 11_846_072_320,
        "allenai/OLMo-2-0425-1B": 1_484_916_736,
        "allenai/OLMo-2-1124-7B": 7_298_617_344,
        "allenai/OLMo-2-1124-7B-DPO": 7_298_617_344,
        "allenai/Llama-3.1-Tulu-3-8B": 8_030_261_248 + 2 * 8 * 4096,
    }.items():
        model = published(name)
        assert model is not None
        assert model.parameters == count
    assert published("somebody/tiny") is None


def test_series_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    for call, words in (
        (lambda: pythia("3b"), "no Pythia of 3b; there are 14m"),
        (lambda: pythia("14m", deduped=True), "no deduplicated Pythia"),
        (lambda: pythia("1b", seed=1), "published are 1 to 9 of 14m"),
        (lambda: pythia("160m", seed=1, deduped=True), "give one of"),
        (lambda: olmo2("3b"), "no OLMo-2 of 3b"),
        (lambda: olmo3("7b", cache=tmp_path), "cannot be reached"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_revisions_are_read_as_published() -> None:
    assert named("a/b", "step143000") == ("main", 143_000)
    assert named("a/b", "stage1-step150-tokens1B") == ("stage1", 150)
    assert named("a/b", "stage2-ingredient3-step11931-tokens50B") == ("stage2-ingredient3", 11_931)
    assert named("a/b", "stage1-step1413814") == ("stage1", 1_413_814)
    assert named("a/x-early-training", "step1000-tokens3B") == ("early-training", 1000)
    assert named("a/b", "main") is None
    assert named("a/b", "refs/pr/1") is None


def test_a_pattern_selects_and_reads_steps(cache: Path) -> None:
    series = hub(REPOSITORY, pattern=r"^step(?P<step>1\d*)$", rate=1, cache=cache)
    assert [c.step for c in series.checkpoints] == [1, 16, 128]
    with pytest.raises(InputError, match="not a regular expression"):
        hub(REPOSITORY, pattern="(", rate=1, cache=cache)
    with pytest.raises(InputError, match="tokens a step are unknown"):
        hub(REPOSITORY, cache=cache)


def staged_cache(root: Path) -> Path:
    """Three repositories that continue one another, as a hub's cache has them."""
    for name, step in (("base", 1), ("base-SFT", 16), ("base-DPO", 128)):
        save_step(root / name, step)
        folder = root / name / f"step{step}"
        if step == 128:
            save_tokenizer(train_tokenizer(speeches(), vocabulary=300), folder)
        add_revision(root / "hub", "main", folder, f"somebody/{name}")
    return root / "hub"


def test_stages_are_branches_in_the_order_given(
    write_recipe: Write, tmp_path: Path, cli: Cli
) -> None:
    cache = staged_cache(tmp_path / "stages")
    recipe = hub_recipe(write_recipe, cache)
    text = recipe.read_text().replace('kind = "hub"', 'kind = "stages"')
    told = 'stages = {main = "somebody/base", sft = "somebody/base-SFT@main", dpo = "somebody/base-DPO"}'
    text = text.replace(f'repository = "{REPOSITORY}"', told)
    recipe.write_text(re.sub(r"(?m)^tokens_per_step = .*$", "", text))
    code, _, err = cli("run", recipe)
    assert (code, err) == (0, "")
    tree = open_store(load_recipe(recipe).store)
    assert (tree["checkpoints"]["status"] == DONE).all()
    found = tree["measures/rankme/li2025/speeches"].to_dataset().sortby("tokens")
    assert found["branch"].values.tolist() == ["main", "sft", "dpo"]
    assert found["step"].values.tolist() == [1, 2, 3]
    away = stages({"main": "somebody/base", "rl": "somebody/elsewhere@step9"}, cache=cache)
    (there, missing) = away.checkpoints
    assert (there.verified, missing.verified) == (True, False)
    assert (missing.repository, missing.revision) == ("somebody/elsewhere", "step9")


def test_selection_by_range_and_log_spacing(tmp_path: Path) -> None:
    series = pythia("70m", cache=tmp_path)
    few = series.select(log_spaced=9)
    assert few.checkpoints[0].step == 0
    assert few.checkpoints[-1].step == 143_000
    assert len(few) == 10
    ratios = np.diff(np.log([c.tokens for c in few.checkpoints[1:]]))
    assert ratios.max() / ratios.min() < 2.1
    assert [c.step for c in series.select(step_range=(100, 1000)).checkpoints] == [
        128,
        256,
        512,
        1000,
    ]
    with pytest.raises(InputError, match="no checkpoint from step 3 to 3"):
        series.select(step_range=(3, 3))


def test_a_cache_folder_is_a_local_series(cache: Path) -> None:
    series = local(cache / "models--somebody--tiny", tokens_per_step=256)
    assert series.name == REPOSITORY
    assert len(series) == 9
    assert all(not c.repository for c in series.checkpoints)


@pytest.mark.parametrize(
    "name",
    [
        *(
            f"pythia-{s}"
            for s in ("14m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
        ),
        "polypythias-160m",
        "olmo2-1b",
        "olmo2-7b",
        "li2025-downstream",
        "li2025-memorisation",
        "li2025-post-olmo2-1b",
        "li2025-post-tulu3",
    ],
)
def test_plan_of_every_published_recipe(
    name: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    recipe = Path(__file__).parents[2] / "recipes" / f"{name}.toml"
    code, out, err = cli("plan", recipe)
    assert (code, err) == (0, "")
    for words in ("checkpoints", "to download", "store, whole series", "memory of a process"):
        assert words in out
    assert "unverified" in out
    assert ("Known faults" in out) == ("pythia" in name or name == "li2025-memorisation")


def test_known_faults_are_counted_over_a_selection(tmp_path: Path) -> None:
    whole = pythia("2.8b", cache=tmp_path)
    counts = [count for _, count in known_faults(whole.checkpoints)]
    assert counts == [2, 11 + 53 + 3, 10]
    late = whole.select(step_range=(142_000, 143_000))
    assert [count for _, count in known_faults(late.checkpoints)] == [1]
    ((fault, count),) = known_faults(olmo2("7b", cache=tmp_path).checkpoints)
    assert (count, fault.source) == (3, "allenai/OLMo #915")
    assert known_faults(olmo2("1b", cache=tmp_path).checkpoints) == []
