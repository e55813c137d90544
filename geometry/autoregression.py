"""AR(1) residuals: drawn, measured, and the bias of the measured correlation taken out.

Residuals of a fit look less correlated than the noise was (the more so the more knots it had), and
a test that trusts them fires on curves without a break. The bias is therefore measured: lines with
known ρ are drawn on the same axis, fitted in the same way, and the estimate is read backwards.
"""

from __future__ import annotations

import numpy as np

from geometry.segmented import Array, Basis, fit, paths

RHO = np.arange(0.0, 0.985, 0.02)  # the likelihood of ρ is evaluated on this grid
NODES = np.array([0.0, 0.2, 0.4, 0.6, 0.75, 0.85, 0.92, 0.98])
_LINES = 64  # lines drawn at each node


def draw(rng: np.random.Generator, rho: Array, sd: Array, shape: tuple[int, int, int]) -> Array:
    """Draw stationary AR(1) noise of shape (batch, curve, point).

    Parameters
    ----------
    rho, sd : coefficient, and standard deviation of the noise, each broadcast to (batch, curve).
    """
    noise = rng.standard_normal(shape)
    step = np.sqrt(1.0 - rho**2)
    for point in range(1, shape[-1]):
        noise[..., point] = rho * noise[..., point - 1] + step * noise[..., point]
    return noise * np.asarray(sd)[..., None]


def likelihood(residuals: Array, floor: Array) -> tuple[Array, Array]:
    """Return the AR(1) log-likelihood at its highest over ρ, and that ρ.

    Parameters
    ----------
    residuals : (batch, curve, point).
    floor : (curve,) least standard deviation of the residuals. Smaller ones are topped up to it
        by white noise, in expectation.

    Returns
    -------
    log_likelihood : (batch, curve), without its constant.
    rho : (batch, curve), on the grid ``RHO``.
    """
    n = residuals.shape[-1]
    profile = -0.5 * n * np.log(_squares(residuals, floor, RHO) / n) + 0.5 * np.log1p(-(RHO**2))
    return profile.max(axis=-1), RHO[profile.argmax(axis=-1)]


def innovation(residuals: Array, floor: Array, rho: Array, free: int) -> Array:
    """Return the innovation standard deviation given ρ, `free` degrees of freedom: (curve,)."""
    squares = _squares(residuals, floor, np.asarray(rho)[..., None])[..., 0]
    return np.sqrt(squares / free)


def _squares(residuals: Array, floor: Array, rho: Array) -> Array:
    """Return eᵀΩ(ρ)⁻¹e, with e topped up to the floor: (..., ρ)."""
    n = residuals.shape[-1]
    power = (residuals**2).sum(axis=-1)
    inner = power - residuals[..., 0] ** 2 - residuals[..., -1] ** 2
    lagged = (residuals[..., 1:] * residuals[..., :-1]).sum(axis=-1)
    missing = np.maximum(floor**2 - power / n, 0.0)
    power, inner = power + n * missing, inner + (n - 2) * missing
    whole: Array = power[..., None] - 2 * rho * lagged[..., None] + rho**2 * inner[..., None]
    return whole


def calibration(basis: Basis, curves: int, breaks: int, rng: np.random.Generator) -> Array:
    """Return the mean estimate of ρ for each true one, (breaks + 1, node), increasing in node."""
    rho = np.repeat(NODES, _LINES)[:, None]
    lines = draw(rng, rho, np.ones_like(rho), (rho.size, curves, basis.x.size))
    expected = np.empty((breaks + 1, NODES.size))
    for count, chosen in enumerate(paths(basis, lines, breaks)):
        raw = likelihood(lines - fit(basis, lines, chosen)[0], np.zeros(curves))[1]
        expected[count] = raw.reshape(NODES.size, -1).mean(axis=1)
    return np.maximum.accumulate(expected, axis=1)
