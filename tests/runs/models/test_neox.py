"""The model and the pure functions that steer its training."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runs.models.neox import (
    TrainConfig,
    batch_rows,
    build_model,
    build_optimizer,
    checkpoint_steps,
    learning_rate,
    pack,
    update,
)

TINY = TrainConfig(layers=2, width=16, heads=2, mlp=32, vocabulary=280, length=12, threads=1)


def windows(count: int) -> Any:
    return np.random.default_rng(0).integers(0, TINY.vocabulary, (count, TINY.length + 1))


def test_default_schedule_is_four_to_the_octave() -> None:
    steps = checkpoint_steps(1500, 4)
    assert steps[:12] == (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13)
    assert steps[-4:] == (1024, 1218, 1448, 1500)
    assert len(steps) == 40
    assert {2**i for i in range(11)} <= set(steps)


@given(st.integers(1, 5000), st.integers(1, 8))
def test_schedule_starts_at_0_ends_at_the_end_and_leaves_no_gap(steps: int, rate: int) -> None:
    kept = checkpoint_steps(steps, rate)
    assert kept[0] == 0
    assert kept[-1] == steps
    assert list(kept) == sorted(set(kept))
    late = np.array([s for s in kept if s >= 8 * rate])
    assert (late[1:] / late[:-1] <= 2 ** (1 / rate) * 1.1).all()


def test_learning_rate_is_above_0_at_once_and_ends_at_the_floor() -> None:
    config = TrainConfig(steps=1000, warmup=50, lr=0.01, lr_floor=0.1)
    rates = [learning_rate(s, config) for s in range(1, 1001)]
    np.testing.assert_allclose(rates[:50], np.arange(1, 51) * 0.01 / 50)
    assert np.argmax(rates) == 49
    assert (np.diff(rates[49:]) < 0).all()
    assert rates[-1] == pytest.approx(0.001)
    # A cosine crosses the middle of its range halfway.
    assert learning_rate(525, config) == pytest.approx(0.0055)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 3))
def test_each_epoch_reads_every_window_once(count: int, batch: int, seed: int) -> None:
    steps = 3 * count  # batch × steps is three epochs or more
    rows = [batch_rows(s, batch=batch, count=count, seed=seed) for s in range(1, steps + 1)]
    epochs = np.concatenate(rows)[: 3 * count].reshape(3, count)
    assert (np.sort(epochs, axis=1) == np.arange(count)).all()


def test_order_depends_on_the_seed_and_the_epoch() -> None:
    def order(seed: int, step: int) -> list[int]:
        return [int(row) for row in batch_rows(step, batch=50, count=50, seed=seed)]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != order(0, 2)


@given(st.lists(st.lists(st.integers(1, 99), max_size=9), min_size=3, max_size=9))
def test_packing_keeps_the_stream(documents: list[list[int]]) -> None:
    stream = [t for d in documents for t in [*d, 0]]
    packed = pack(documents, length=2, end=0)
    assert packed.shape == ((len(stream) - 1) // 2, 3)
    assert packed[:, 1:].ravel().tolist() == stream[1 : 1 + 2 * len(packed)]
    assert packed[:, 0].tolist() == stream[0 : 2 * len(packed) : 2]


def test_too_little_text_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than length"):
        pack([[1, 2]], length=3, end=0)


def test_default_model_has_the_parameters_of_its_shape() -> None:
    model = build_model(TrainConfig())
    d, blocks, tokens = 128, 4, 2048
    block = (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    assert sum(p.numel() for p in model.parameters()) == 2 * tokens * d + blocks * block + 2 * d
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert embedding.data_ptr() != head.data_ptr()


def test_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first = build_model(TINY).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    second = build_model(TINY).state_dict()
    other = build_model(replace(TINY, seed=1)).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["gpt_neox.embed_in.weight"], other["gpt_neox.embed_in.weight"])


def test_loss_is_the_model_s_own_shifted_loss() -> None:
    model, batch = build_model(TINY), windows(4)
    tokens = torch.from_numpy(batch)
    expected = model(tokens, labels=tokens).loss.item()
    loss, _ = update(model, build_optimizer(model, TINY), batch, lr=0.1, clip=1.0)
    assert loss == pytest.approx(expected, rel=1e-6)


def test_gradient_is_clipped_and_its_norm_reported_before() -> None:
    batch = windows(4)
    norms, moved = [], []
    for clip in (1e9, 0.01):
        model = build_model(TINY)
        before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        _, norm = update(model, torch.optim.SGD(model.parameters(), lr=1), batch, lr=0.5, clip=clip)
        after = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        norms.append(norm)
        moved.append((after - before).norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    assert norms[0] > 0.1
    assert moved[0] == pytest.approx(0.5 * norms[0], rel=1e-4)
    assert moved[1] == pytest.approx(0.5 * 0.01, rel=1e-2)


def test_decay_touches_matrices_only() -> None:
    model = build_model(TINY)
    optimizer = build_optimizer(model, TINY)
    matrices, vectors = optimizer.param_groups
    assert matrices["weight_decay"] == TINY.weight_decay
    assert vectors["weight_decay"] == 0
    count = len(matrices["params"]) + len(vectors["params"])
    assert count == len(list(model.parameters()))
    norms = {id(p) for name, p in model.named_parameters() if "norm" in name or "bias" in name}
    assert norms == {id(p) for p in vectors["params"]}


def test_updates_learn_a_batch_by_heart() -> None:
    model, batch = build_model(TINY), windows(2)
    optimizer = build_optimizer(model, TINY)
    losses = [update(model, optimizer, batch, lr=0.02, clip=1.0)[0] for _ in range(60)]
    assert losses[0] == pytest.approx(np.log(TINY.vocabulary), abs=0.1)
    assert losses[-1] < 1


@settings(max_examples=20)
@given(st.sampled_from(["layers", "heads", "mlp", "batch", "steps", "warmup", "threads", "lr"]))
def test_a_value_that_makes_no_run_is_named(name: str) -> None:
    values: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=rf"^{name} must be .*, not 0$"):
        replace(TrainConfig(), **values)


def test_shape_that_makes_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads 3, not 128"):
        TrainConfig(heads=3)
    with pytest.raises(ValueError, match="length must be at least 2"):
        TrainConfig(length=1)
