"""The theory toy: free features, a softmax readout, full-batch gradient descent in NumPy.

Source: arXiv 2509.23024, section 3.3 and appendix B (figures 4, 12, 13). With orthonormal inputs the
features f_θ(s) = θᵀ s are free parameters, one row a sample; logits are z = f W. The paper gives neither
the class counts, nor learning rate, steps or initialisation: the constructed one below is a reading of
the first markers of its figure 4; the Gaussian one is what a model is usually started from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runs.models.diverging import DivergedError

Array = NDArray[np.float64]
Loss = Literal["cross_entropy", "squared_error"]
Start = Literal["constructed", "gaussian"]

STARTS: tuple[Start, ...] = ("constructed", "gaussian")
LEARNING_RATE = 0.25
STEPS = 600
SEEDS = 20
JITTER = 1e-3
SPREAD = 0.3

# Of the constructed start: directions and lengths of the two placed classes, and of their readouts.
_ANGLE = np.deg2rad(100.0)
_PLACED = np.array([[0.6 * np.cos(_ANGLE), 0.6 * np.sin(_ANGLE)], [0.75, 0.75 * 0.03]])
_READOUTS = np.array([[0.0, 0.6], [0.74, 0.74 * 0.03]])
_APART = 0.05
_LARGEST = float(np.finfo(np.float32).max)  # paths are kept in float32


@dataclass(frozen=True)
class Task:
    """One variant of the toy.

    Attributes
    ----------
    name : how it is called.
    counts : samples of each class. The first two classes are those that the constructed start places.
    width : components of a feature; below the number of classes it is a bottleneck.
    loss : "cross_entropy" or "squared_error".
    about : what it is, in a few words.
    """

    name: str
    counts: tuple[int, ...]
    width: int
    loss: Loss
    about: str

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each sample, in order of classes."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task("skewed", (2, 2, 1, 1), 2, "cross_entropy", "skewed classes, d = 2"),
            Task("uniform", (2, 2, 2, 2), 2, "cross_entropy", "uniform classes, d = 2"),
            Task("wide", (2, 2, 1, 1), 3, "cross_entropy", "skewed classes, d = 3"),
            Task("reversed", (2, 2, 4, 4), 2, "cross_entropy", "the skew reversed, d = 2"),
            Task("squared_uniform", (2, 2, 2, 2), 2, "squared_error", "squared error, uniform"),
            Task("squared_skewed", (2, 2, 1, 1), 2, "squared_error", "squared error, skewed"),
        )
    }
)
"""The paper's toy and its controls; `reversed` is not the paper's."""


@dataclass(frozen=True)
class Paths:
    """Parameters and loss of every seed at every step, before that step's update.

    Attributes
    ----------
    features : (seed, step, sample, component).
    weights : (seed, step, component, class).
    loss : (seed, step), the mean over samples.
    """

    features: Array
    weights: Array
    loss: Array


def initialise(
    task: Task,
    start: Start,
    *,
    seeds: int = SEEDS,
    jitter: float = JITTER,
    spread: float = SPREAD,
) -> tuple[Array, Array]:
    """Features and readout of every seed at step 0.

    Parameters
    ----------
    task
        Which variant; the constructed start needs even counts of its first two classes.
    start
        "constructed": class 0 at 0.6 (cos 100°, sin 100°), class 1 at 0.75 (1, 0.03), their samples in
        pairs 0.05 to either side, perpendicular; samples of all other classes at the origin; readouts
        (0, 0.6), 0.74 (1, 0.03) and 0; then N(0, jitter²) on every parameter. In another task the same
        holds: more samples of the other classes all begin at the origin, and a third component at 0.
        "gaussian": every parameter N(0, spread²).
    seeds
        Seed s is `numpy.random.default_rng(s)`, the same numbers in every task of the same sizes.
    jitter, spread
        Standard deviations.

    Returns
    -------
    features
        (seed, sample, component).
    weights
        (seed, component, class).

    Raises
    ------
    ValueError
        If the start is unknown, or constructed for a task whose first two classes are not of pairs
        in at least two components.
    """
    samples, classes = sum(task.counts), len(task.counts)
    noise = [np.random.default_rng(seed) for seed in range(seeds)]
    features = np.stack([rng.standard_normal((samples, task.width)) for rng in noise])
    weights = np.stack([rng.standard_normal((task.width, classes)) for rng in noise])
    if start == "gaussian":
        return spread * features, spread * weights
    if start != "constructed":
        raise ValueError(f"start is {start!r}; give one of {', '.join(STARTS)}")
    if any(count % 2 for count in task.counts[:2]) or task.width < 2:
        raise ValueError(
            f"counts are {task.counts} and width {task.width}; the constructed start places the "
            "samples of each of the first two classes in pairs, in a plane"
        )
    placed = np.zeros((samples, task.width))
    readouts = np.zeros((task.width, classes))
    for number, (place, readout) in enumerate(zip(_PLACED, _READOUTS, strict=True)):
        across = _APART * np.array([-place[1], place[0]]) / np.hypot(*place)
        pair = np.stack([place + across, place - across])
        placed[task.labels == number, :2] = np.tile(pair, (task.counts[number] // 2, 1))
        readouts[:2, number] = readout
    return placed + jitter * features, readouts + jitter * weights


def loss_and_gradients(
    features: Array, weights: Array, labels: NDArray[np.int64], loss: Loss
) -> tuple[Array, Array, Array]:
    """Mean loss over samples, and its exact gradients.

    Parameters
    ----------
    features
        (…, sample, component).
    weights
        (…, component, class).
    labels
        (sample,), each a class.
    loss
        "cross_entropy": −ln softmax(f W) at the label, in nats; "squared_error": half the squared
        distance of f W to the label's unit vector.

    Returns
    -------
    loss
        (…).
    features_gradient, weights_gradient
        As the parameters: E Wᵀ / n and Fᵀ E / n, where E is softmax − one-hot or logits − one-hot.

    Raises
    ------
    ValueError
        If the loss is unknown.

    Notes
    -----
    arXiv 2509.23024, appendix B. Memory: three arrays (…, sample, class).
    """
    logits = features @ weights
    wanted = np.eye(weights.shape[-1])[labels]
    if loss == "cross_entropy":
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        error = np.exp(shifted - log_sum) - wanted
        each = ((log_sum - shifted) * wanted).sum(axis=-1)
    elif loss == "squared_error":
        error = logits - wanted
        each = 0.5 * (error**2).sum(axis=-1)
    else:
        raise ValueError(f"loss is {loss!r}; give cross_entropy or squared_error")
    error = error / len(labels)
    return (
        each.mean(axis=-1),
        error @ np.swapaxes(weights, -1, -2),
        np.swapaxes(features, -1, -2) @ error,
    )


def descend(
    features: Array,
    weights: Array,
    task: Task,
    *,
    learning_rate: float = LEARNING_RATE,
    steps: int = STEPS,
) -> Paths:
    """Full-batch gradient descent of every seed at once, in float64.

    Parameters
    ----------
    features, weights
        (seed, sample, component) and (seed, component, class): where it begins.
    task
        Gives labels and loss.
    learning_rate
        One for features and readout.
    steps
        Updates; one more point than this is kept.

    Returns
    -------
    Paths

    Raises
    ------
    DivergedError
        If a loss or a parameter of a seed stops being a number that float32 holds, as at a learning
        rate that is too high.

    Notes
    -----
    Memory: seeds × (steps + 1) × parameters float64; 20 seeds and 600 steps of the skewed task 2 MB.
    """
    shape = (len(features), steps + 1)
    feature_path = np.empty((*shape, *features.shape[1:]))
    weight_path = np.empty((*shape, *weights.shape[1:]))
    loss_path = np.empty(shape)
    for step in range(steps + 1):
        feature_path[:, step], weight_path[:, step] = features, weights
        # An overflow is found below, in words.
        with np.errstate(over="ignore", invalid="ignore"):
            loss_path[:, step], of_features, of_weights = loss_and_gradients(
                features, weights, task.labels, task.loss
            )
            _check(step, features, weights, loss_path[:, step])
            features = features - learning_rate * of_features
            weights = weights - learning_rate * of_weights
    return Paths(feature_path, weight_path, loss_path)


def _check(step: int, features: Array, weights: Array, loss: Array) -> None:
    for name, values in (("feature", features), ("weight", weights), ("loss", loss)):
        largest = np.abs(values).reshape(len(values), -1).max(axis=1)
        spoilt = ~(largest <= _LARGEST)
        if spoilt.any():
            seed = int(spoilt.argmax())
            raise DivergedError(f"a {name} of seed {seed} is {largest[seed]:.3g} at step {step}")
