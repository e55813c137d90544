"""Predictive geometry, from a model to a measure, against the model's own full logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from geometry.similarity import linear_cka
from runs import measure
from runs.backends import TorchHooks
from runs.errors import InputError
from runs.inputs import FOLDS
from runs.jobs import execute
from runs.loading import load_model
from runs.passes import capture_set
from runs.plan import Plan, make_plan
from runs.products import PRODUCTS
from runs.recipe import load_recipe
from runs.selfcheck import own_view, self_check
from runs.store import open_store

NAMES = ("fisher", "contexts")
CAPTURE = """
products = ["hidden", "fisher", "contexts"]

[capture.hidden]
other_points = 20

[capture.fisher]
pools = ["last", "all"]

[capture.contexts]
count = 30
"""


@pytest.fixture
def recipe(write_recipe: Callable[..., Path]) -> Path:
    names = ["fisher_rankme", "fisher_trace", "fisher_eigenspectrum", "prediction_cka"]
    names += ["dirichlet_energy", "effective_predictions"]
    return write_recipe(capture=CAPTURE, steps="steps = [0, 4]", measures=f"names = {names!r}")


@pytest.fixture
def plan(recipe: Path) -> Plan:
    return make_plan(load_recipe(recipe))


@pytest.fixture
def truth(plan: Plan, series_folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (sample, position, token), which positions are real, and W, all in float64."""
    model: Any = AutoModelForCausalLM.from_pretrained(series_folder / "step4").eval()
    spec = plan.specs["speeches"]
    ids = torch.as_tensor(spec.inputs.tokens, dtype=torch.long)
    mask = np.arange(ids.shape[1]) < spec.inputs.length[:, None]
    assert spec.vocabulary < model.config.vocab_size  # padding that must not count
    with torch.inference_mode():
        logits = model(ids, attention_mask=torch.as_tensor(mask).long()).logits.double()
    p = logits[..., : spec.vocabulary].softmax(-1).numpy()
    weight = model.get_output_embeddings().weight[: spec.vocabulary].detach().double().numpy()
    return p, mask, weight


def capture(plan: Plan, series_folder: Path, micro_batch: int | None = None) -> Any:
    loaded, spec = load_model(series_folder / "step4"), plan.specs["speeches"]
    collectors = {name: PRODUCTS[name].collector(spec, loaded.unembedding) for name in NAMES}
    capture_set(
        TorchHooks(loaded), spec.inputs, list(collectors.values()), block=4, micro_batch=micro_batch
    )
    return {name: collector.finish() for name, collector in collectors.items()}


def metric(p: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Eigenvalues of E[Wᵀ (diag p − p pᵀ) W] over rows (row, token), as it is defined."""
    total = sum(weight.T @ (np.diag(row) - np.outer(row, row)) @ weight for row in p) / len(p)
    return np.linalg.eigvalsh(total)[::-1]


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_the_captured_metric_is_that_of_the_models_own_logits(
    plan: Plan, truth: Any, series_folder: Path, micro_batch: int | None
) -> None:
    p, mask, weight = truth
    found = capture(plan, series_folder, micro_batch)["fisher"]
    inputs = plan.specs["speeches"].inputs
    last = np.arange(mask.shape[1]) == inputs.length[:, None] - 1
    for pool, chosen in enumerate((last, mask)):
        for fold in range(FOLDS + 1):
            mine = chosen & ((inputs.fold == fold) | (fold == 0))[:, None]
            assert found["n"][pool, fold] == mine.sum()
            if fold in (0, 3):
                wanted = metric(p[mine], weight)
                np.testing.assert_allclose(
                    found["eigenvalues"][pool, fold], wanted, atol=2e-6 * wanted[0], rtol=1e-5
                )


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_the_captured_kernel_is_that_of_the_models_own_predictions(
    plan: Plan, truth: Any, series_folder: Path, micro_batch: int | None
) -> None:
    p, _, _ = truth
    found = capture(plan, series_folder, micro_batch)["contexts"]["kernel"]
    spec = plan.specs["speeches"]
    root = np.sqrt(p[np.arange(30), spec.inputs.length[:30] - 1])
    np.testing.assert_allclose(found, root @ root.T, atol=2e-6)
    assert found.dtype == np.float32
    coordinates = PRODUCTS["contexts"].coordinates(spec)
    assert coordinates["context_sample"][1].tolist() == list(range(30))
    np.testing.assert_array_equal(coordinates["context_position"][1], spec.inputs.length[:30] - 1)


def test_measures_read_a_store(recipe: Path, plan: Plan, truth: Any) -> None:
    tree = open_store(execute(load_recipe(recipe)).store)
    p, _, weight = truth
    length = plan.specs["speeches"].inputs.length
    rows = p[np.arange(len(p)), length - 1]
    spectrum = metric(rows, weight)
    share = spectrum / spectrum.sum()
    wanted = np.exp(-(share * np.log(share)).sum())
    at: dict[str, Any] = {"checkpoint": 1, "pool": 0}
    rank = measure(tree, "fisher_rankme").isel(at)
    assert float(rank) == pytest.approx(wanted, rel=1e-4)
    assert float(rank["lower"]) < wanted < float(rank["upper"])
    trace = measure(tree, "fisher_trace").isel(at)
    assert float(trace) == pytest.approx(spectrum.sum(), rel=1e-5)
    found = measure(tree, "fisher_eigenspectrum").isel(at)
    np.testing.assert_allclose(found, spectrum, rtol=1e-3, atol=1e-6)
    assert found["rank"].values.tolist() == list(range(1, 33))

    root = np.sqrt(rows[:30])
    hidden = tree["sets/speeches/hidden/hidden"].isel(checkpoint=1).values
    cka = measure(tree, "prediction_cka").isel(checkpoint=1)
    assert float(cka.sel(layer=4)) == pytest.approx(
        linear_cka(hidden[4, :30], root, debiased=True), abs=1e-4
    )
    # The other layers keep 20 points: their first 20 contexts.
    biased = measure(tree, "prediction_cka", convention="biased").isel(checkpoint=1)
    assert float(biased.sel(layer=2)) == pytest.approx(
        linear_cka(hidden[2, :20], root[:20]), abs=1e-4
    )
    x, k = hidden[4, :30].astype(float), root @ root.T
    squared = ((x[:, None] - x) ** 2).sum(-1)
    energy = measure(tree, "dirichlet_energy", convention="sum").isel(checkpoint=1)
    assert float(energy.sel(layer=4)) == pytest.approx((k * squared).sum() / 2, rel=1e-4)
    values = np.linalg.eigvalsh(k / 30).clip(1e-30)
    number = measure(tree, "effective_predictions").isel(checkpoint=1)
    assert float(number) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-3)


def test_the_plan_says_their_bytes(plan: Plan) -> None:
    sizes = plan.bytes_per_checkpoint
    assert sizes["speeches/contexts"] == 30 * 30 * 4
    assert sizes["speeches/fisher"] == 2 * 9 * 32 * 8 + 2 * 9 * 8


def test_fewer_samples_than_contexts_give_what_there_are(
    write_recipe: Callable[..., Path],
) -> None:
    made = make_plan(load_recipe(write_recipe(capture='products = ["contexts"]')))
    spec = made.specs["speeches"]
    assert PRODUCTS["contexts"].layout(spec)["kernel"].shape == (spec.inputs.samples,) * 2


def test_a_head_that_is_not_linear_is_refused(series_folder: Path) -> None:
    loaded = load_model(series_folder / "step4")
    loaded.model.get_output_embeddings().register_forward_hook(lambda _, __, out: out * 0.5)
    view = own_view(loaded)
    with pytest.raises(
        InputError, match=r"leave `fisher` out of capture\.products, and `contexts`"
    ):
        self_check(TorchHooks(loaded), view, NAMES)


def test_its_figure_is_drawn_where_it_was_captured_and_asked_for_in_vain_elsewhere(
    recipe: Path, write_recipe: Callable[..., Path], cli: Callable[..., Any], tmp_path: Path
) -> None:
    recipe.write_text(recipe.read_text().replace("names = ['", "names = ['rankme', '"))
    execute(load_recipe(recipe))
    code, out, _ = cli("figures", tmp_path / "tiny.zarr", "predictive")
    assert code == 0, out
    assert (tmp_path / "figures/predictive.png").stat().st_size > 0
    plain = write_recipe(capture='products = ["hidden"]', steps="steps = [0, 4]", name="plain.toml")
    plain.write_text(plain.read_text().replace("tiny.zarr", "plain.zarr"))
    execute(load_recipe(plain))
    code, _, err = cli("figures", tmp_path / "plain.zarr", "predictive")
    assert code == 2
    assert "holds no fisher_rankme/li2025" in err


@pytest.mark.parametrize(
    ("table", "key"),
    [("contexts]\ncount = 4", "count"), ("fisher]\npools = []", "pools"),
     ("fisher]\npools = ['first']", "pools.0")],
)  # fmt: skip
def test_wrong_options_are_one_line(
    write_recipe: Callable[..., Path], cli: Callable[..., Any], table: str, key: str
) -> None:
    path = write_recipe(capture=f"[capture.{table}")
    code, _, err = cli("plan", path)
    assert code == 2
    assert err.count("\n") == 1
    assert f"capture.{table.split(']')[0]}.{key}" in err
