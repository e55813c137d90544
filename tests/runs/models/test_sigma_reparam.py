"""σReparam against exact singular values, autograd through them, and torch's spectral norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from runs.models.sigma_reparam import SigmaReparam, reparam_of, reparametrise

SHAPES = [(7, 5), (5, 7), (6, 6)]


def matrix(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def norm(weight: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.detach(), 2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_both_initialisations(shape, training):
    weight = matrix(shape)
    code = SigmaReparam(weight, initialisation="code").train(training)
    torch.testing.assert_close(code(weight), weight, rtol=1e-12, atol=1e-12)
    assert float(code.sigma) == pytest.approx(norm(weight), rel=1e-12)
    paper = SigmaReparam(weight, initialisation="paper").train(training)
    assert norm(paper(weight)) == pytest.approx(1, rel=1e-12)
    assert paper.gamma.item() == 1


def test_the_effective_norm_is_gamma_once_the_iteration_has_converged():
    weight, other = matrix((8, 6)), matrix((8, 6), 1)
    rule = SigmaReparam(weight, initialisation="paper")
    with torch.no_grad():
        rule.gamma.fill_(2.5)
    first = norm(rule(other))  # the vectors are still those of another matrix
    assert first > 2.5 * 1.001
    for _ in range(300):
        last = norm(rule(other))
    assert last == pytest.approx(2.5, rel=1e-9)
    assert float(rule.sigma) == pytest.approx(norm(other), rel=1e-9)


def test_a_lagging_iteration_never_gives_less_than_gamma():
    rule = SigmaReparam(matrix((8, 6)), initialisation="paper")
    for seed in range(1, 30):
        assert norm(rule(matrix((8, 6), seed))) >= 1 - 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_the_exact_norm(shape):
    weight, toward = matrix(shape), matrix(shape, 2)
    rule = SigmaReparam(weight, initialisation="code")
    mine = weight.clone().requires_grad_()
    ((rule(mine) - toward) ** 2).sum().backward()
    exact = weight.clone().requires_grad_()
    gamma = torch.tensor(norm(weight), dtype=torch.float64, requires_grad=True)
    hat = exact * gamma / torch.linalg.matrix_norm(exact, 2)
    ((hat - toward) ** 2).sum().backward()
    torch.testing.assert_close(mine.grad, exact.grad, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(rule.gamma.grad, gamma.grad, rtol=1e-9, atol=1e-10)
    # Ŵ does not change with the length of W, so neither does the loss.
    assert float((mine.grad * weight).sum()) == pytest.approx(0, abs=1e-9)


def test_a_step_is_that_of_torchs_spectral_norm():
    layer = nn.Linear(6, 8, bias=False, dtype=torch.float64)
    start = matrix((8, 6))
    with torch.no_grad():
        layer.weight.copy_(start)
    spectral_norm(layer, n_power_iterations=1)
    theirs = layer.parametrizations.weight[0]
    rule = SigmaReparam(start, initialisation="paper")
    rule.u.copy_(theirs._v)  # their v is on the side of the inputs
    expected, found = layer.weight, rule(start)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(rule.v, theirs._u, rtol=1e-10, atol=1e-12)


def test_evaluation_keeps_nothing():
    rule = SigmaReparam(matrix((8, 6)), initialisation="code").eval()
    before = {name: buffer.clone() for name, buffer in rule.named_buffers()}
    changed = rule(matrix((8, 6), 3))
    for name, buffer in rule.named_buffers():
        assert torch.equal(buffer, before[name])
    # The step is taken all the same: it is what one pass in training gives.
    torch.testing.assert_close(rule.train()(matrix((8, 6), 3)), changed)
    assert not torch.equal(rule.u, before["u"])


def test_statistics_only_leaves_the_weight_alone_and_follows_its_norm():
    layer = nn.Linear(6, 8)
    model = nn.Sequential(layer, nn.LayerNorm(8))
    before = layer.weight.detach().clone()
    assert reparametrise(model, stats_only=True) == ["0"]
    rule = reparam_of(layer)
    assert rule is not None
    assert rule.gamma is None
    assert torch.equal(layer.weight, before)
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(3)
    model(torch.ones(1, 6))
    assert float(rule.sigma) == pytest.approx(3 * norm(before), rel=1e-5)
    assert reparam_of(model[1]) is None


def test_every_linear_layer_of_a_model_and_nothing_else():
    model = nn.Sequential(nn.Embedding(4, 6), nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 2)))
    x = torch.tensor([0, 3])
    before = model(x).detach()
    assert reparametrise(model, initialisation="code") == ["1", "2.0"]
    torch.testing.assert_close(model(x), before)
    names = {name for name, _ in model.named_parameters()}
    assert "1.parametrizations.weight.0.gamma" in names
    assert "0.weight" in names


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="give one of paper, code"):
        SigmaReparam(torch.eye(3), initialisation="svd")
    with pytest.raises(ValueError, match="give a matrix"):
        SigmaReparam(torch.ones(3))
