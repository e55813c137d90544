"""How often the leading answer changes sides between layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Sides = NDArray[np.int8]

THIRDS = ("early", "middle", "late")
_WORDS = {"vision": -1, "text": 1, "other": 0, "irrelevant": 0}


def oscillations(layer_answers: Any) -> NDArray[np.int64]:
    """Switches between the vision-supported and the text-supported answer along layers.

    Parameters
    ----------
    layer_answers : array (…, layer)
        "vision", "text" or "other" ("irrelevant" is the same) at each layer in order; or −1, 1 and 0.

    Returns
    -------
    int64 array (…)
        Layers of neither are dropped before switches are counted: vision, other, text is 1.

    Raises
    ------
    ValueError
        If a layer's answer is none of these.

    Notes
    -----
    arXiv 2511.02243 §4.2. The paper's bars are read as the mean of this over cases.
    """
    found: NDArray[np.int64] = (_switches(_sides(layer_answers)) != 0).sum(-1, dtype=np.int64)
    return found


def oscillations_by_third(layer_answers: Any) -> NDArray[np.int64]:
    """The same switches by where they happen: in the early, middle or late third of the layers.

    Parameters
    ----------
    layer_answers : array (…, layer)
        As in `oscillations`.

    Returns
    -------
    int64 array (…, 3)
        A switch belongs to the layer at which the new side first leads. Of n layers, layer i of
        1 … n − 1 (the first can hold no switch) lies in third ⌊3 (i − 1) / (n − 1)⌋. Sums to
        `oscillations`.
    """
    switches = _switches(_sides(layer_answers)) != 0
    steps = switches.shape[-1] - 1
    third = np.arange(steps) * len(THIRDS) // max(steps, 1)
    parts = [switches[..., 1:][..., third == one].sum(-1) for one in range(len(THIRDS))]
    found: NDArray[np.int64] = np.stack(parts, axis=-1).astype(np.int64)
    return found


def sign_changes(logit_difference: Any) -> Sides:
    """Which side leads at each layer when only the two answers are compared.

    Parameters
    ----------
    logit_difference : float array (…, layer)
        Logit of the text's answer less that of the image's.

    Returns
    -------
    int8 array (…, layer)
        1 text, −1 vision, 0 level or NaN: what `oscillations` takes. It always has a side, also where
        early layers lead with neither answer, so it counts their noise.
    """
    given = np.asarray(logit_difference, np.float64)
    found: Sides = np.sign(np.where(np.isnan(given), 0.0, given)).astype(np.int8)
    return found


def swapped_labels(
    image_candidate: Any, text_candidate: Any, candidates: Any, *, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two candidates a case that neither modality supports, for the label-swap null.

    Parameters
    ----------
    image_candidate, text_candidate : int array (case,)
        Index of the two supported answers.
    candidates : int array (case,)
        How many candidates the case's question has.
    seed
        Of the draw.

    Returns
    -------
    tuple of int64 array (case,)
        Stand-ins for the image's and the text's answer, different from both and from each other;
        −1 where a question has fewer than four candidates.

    Notes
    -----
    Oscillations between such a pair are what layers do to any two candidates.
    """
    image, text, count = (
        np.asarray(v, np.int64) for v in (image_candidate, text_candidate, candidates)
    )
    widest = int(count.max(initial=0))
    keys = np.random.default_rng(seed).random((len(image), max(widest, 2)))
    index = np.arange(keys.shape[1])
    taken = (index >= count[:, None]) | (index == image[:, None]) | (index == text[:, None])
    order = np.argsort(np.where(taken, 2.0, keys), axis=1, kind="stable")
    enough = (~taken).sum(1) >= 2
    one, two = (np.where(enough, order[:, i], -1) for i in range(2))
    return one, two


def _sides(layer_answers: Any) -> Sides:
    """−1 vision, 1 text, 0 neither."""
    given = np.asarray(layer_answers)
    if given.dtype.kind in "UO":
        words = given.astype(str)
        unknown = sorted(set(np.unique(words).tolist()) - set(_WORDS))
        if unknown:
            raise ValueError(f'a layer answers {unknown[0]!r}; give "vision", "text" or "other"')
        coded = np.zeros(words.shape, np.int8)
        for word, side in _WORDS.items():
            coded[words == word] = side
        return coded
    if not np.isin(given, (-1, 0, 1)).all():
        raise ValueError("a layer's side is −1 (vision), 1 (text) or 0 (neither)")
    return given.astype(np.int8)


def _switches(sides: Sides) -> Sides:
    """The new side at each layer where the lead changes, else 0 (…, layer)."""
    if sides.shape[-1] == 0:
        return sides
    # The last side that led before each layer, layers of neither skipped.
    index = np.where(sides != 0, np.arange(sides.shape[-1]), -1)
    last = np.maximum.accumulate(index, axis=-1)
    led = np.where(last >= 0, np.take_along_axis(sides, np.maximum(last, 0), axis=-1), 0)
    before = np.concatenate([np.zeros_like(led[..., :1]), led[..., :-1]], axis=-1)
    found: Sides = np.where(sides * before < 0, sides, 0).astype(np.int8)
    return found
