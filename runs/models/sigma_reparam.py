"""σReparam: a weight matrix as a learned scale times itself over its spectral norm.

Zhai et al. 2023, arXiv 2303.06296: Ŵ = (γ / σ(W)) W, γ learned, σ(W) by power iteration, one step a
forward pass in training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

INITIALISATIONS = {
    "paper": "γ starts at 1 (arXiv 2303.06296, section 3; the published speech code too)",
    "code": "γ starts at the spectral norm, so Ŵ = W at first (the published vision code)",
}


class SigmaReparam(nn.Module):
    """Ŵ = (γ / σ) W, for `torch.nn.utils.parametrize`.

    Parameters
    ----------
    weight : float tensor (out, in)
        The initial W; its exact SVD starts the power iteration.
    initialisation
        A key of `INITIALISATIONS`.
    stats_only
        Keep track of σ and leave W as it is; there is then no γ.

    Attributes
    ----------
    gamma : scalar parameter
        The learned spectral norm; None with `stats_only`.
    v, u : buffers (out,) and (in,)
        Left and right singular vectors as the iteration has them.
    sigma : scalar buffer
        σ(W) of the last forward pass in training.

    Raises
    ------
    ValueError
        If the initialisation is unknown or the weight is no matrix.

    Notes
    -----
    A forward pass makes v = Wu / ‖Wu‖ and u = Wᵀv / ‖Wᵀv‖ without gradient, then σ = vᵀWu with W
    attached, so the gradient flows through σ, as in the published code: with converged u and v this
    is the gradient of the exact norm. Buffers are written in training only; in evaluation the step is
    taken and not kept. σ lags behind W by what one step cannot follow, so ‖Ŵ‖₂ = |γ| holds at
    convergence, and otherwise ‖Ŵ‖₂ ≥ |γ|, as vᵀWu ≤ ‖W‖₂. Nothing keeps γ above 0, there as here.
    Costs two products with W a pass.
    """

    u: Tensor
    v: Tensor
    sigma: Tensor
    gamma: nn.Parameter | None

    def __init__(
        self, weight: Tensor, *, initialisation: str = "code", stats_only: bool = False
    ) -> None:
        super().__init__()
        if initialisation not in INITIALISATIONS:
            names = ", ".join(INITIALISATIONS)
            raise ValueError(f"initialisation is {initialisation!r}; give one of {names}")
        if weight.ndim != 2:
            raise ValueError(f"weight has shape {tuple(weight.shape)}; give a matrix")
        left, values, right = torch.linalg.svd(weight.detach(), full_matrices=False)
        self.register_buffer("v", left[:, 0].contiguous())
        self.register_buffer("u", right[0].contiguous())
        self.register_buffer("sigma", values[0].clone())
        start = values[0].clone() if initialisation == "code" else torch.ones_like(values[0])
        self.gamma = None if stats_only else nn.Parameter(start)

    def forward(self, weight: Tensor) -> Tensor:
        """Give Ŵ for W, both (out, in)."""
        with torch.no_grad():
            v = normalize(weight.mv(self.u), dim=0)
            u = normalize(weight.T.mv(v), dim=0)
        sigma = torch.dot(v, weight.mv(u))
        if self.training:
            with torch.no_grad():
                self.v.copy_(v)
                self.u.copy_(u)
                self.sigma.copy_(sigma)
        return weight if self.gamma is None else weight * (self.gamma / sigma)


def reparametrise(
    model: nn.Module, *, initialisation: str = "code", stats_only: bool = False
) -> list[str]:
    """Put σReparam on the weight of every `nn.Linear` of a model, in place.

    The published code does the same to every linear layer, the output layer too, but draws its weights
    anew (truncated normal, 0.02); here the model's own stay, so that variants share them. Embeddings and
    biases are left alone.

    Parameters
    ----------
    model
        Its linear layers must not share their weight with anything.
    initialisation, stats_only
        See `SigmaReparam`.

    Returns
    -------
    list of str
        Names of the layers, in order.
    """
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    for _, layer in found:
        rule = SigmaReparam(layer.weight, initialisation=initialisation, stats_only=stats_only)
        parametrize.register_parametrization(layer, "weight", rule)
    return [name for name, _ in found]


def reparam_of(layer: nn.Module) -> SigmaReparam | None:
    """The σReparam on a layer's weight; None if there is none."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    parametrizations = layer.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict)
    rules = parametrizations["weight"]
    assert isinstance(rules, parametrize.ParametrizationList)
    first = rules[0]
    return first if isinstance(first, SigmaReparam) else None
