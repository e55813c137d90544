"""Which modality an answer follows, and how often, over cases that each modality alone solves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probes.means import clustered_mean

Floats = NDArray[np.float64]


class Rate(NamedTuple):
    """How often the text is followed among cases that follow either modality.

    Attributes
    ----------
    value, standard_error, lower, upper : float
        TFR; the rate of following vision is 1 − value.
    other : float
        Share of the cases that follow neither: they are dropped from the rate.
    cases : int
        Cases with a known outcome, those that follow neither included.
    """

    value: float
    standard_error: float
    lower: float
    upper: float
    other: float
    cases: int


def solved_both(
    said_text: Any, said_image: Any, answer_text: Any, answer_image: Any
) -> NDArray[np.bool_]:
    """Whether each modality alone is answered as it should, and they contradict each other.

    Parameters
    ----------
    said_text, said_image : array (case,)
        What the model answers to the text alone and to the image alone: Y_t and Y_v.
    answer_text, answer_image : array (case,)
        What text and image support.

    Returns
    -------
    bool array (case,)
    """
    said_t, said_v, text, image = map(
        np.asarray, (said_text, said_image, answer_text, answer_image)
    )
    found: NDArray[np.bool_] = (said_t == text) & (said_v == image) & (text != image)
    return found


def followed(said_both: Any, said_text: Any, said_image: Any) -> Floats:
    """1 where the answer to text and image together is the text's, 0 the image's, NaN neither.

    Parameters
    ----------
    said_both, said_text, said_image : array (case,)
        The model's own answers Y_m, Y_t and Y_v. Where Y_t = Y_v there is nothing to follow: NaN.

    Returns
    -------
    float64 array (case,)

    Notes
    -----
    arXiv 2511.02243 §3.1: Y_t and Y_v are predictions; on cases solved in both modalities they are the
    supported answers.
    """
    both, text, image = map(np.asarray, (said_both, said_text, said_image))
    differ = text != image
    found: Floats = np.where(
        differ & (both == text), 1.0, np.where(differ & (both == image), 0.0, np.nan)
    )
    return found


def following_rate(follows_text: Any, groups: Any, *, level: float = 0.95) -> Rate:
    """Text-following rate TFR = #(Y_m = Y_t) / #(Y_m ∈ {Y_t, Y_v}), with the share of neither.

    Parameters
    ----------
    follows_text : float array (case,)
        As `followed` gives it: 1, 0, or NaN for neither.
    groups : int array (case,)
        The unit of resampling.
    level
        Of the interval, Student t over groups (`probes.means.clustered_mean`).

    Returns
    -------
    Rate
        NaN where no case follows either; `other` is NaN without cases.
    """
    follows = np.asarray(follows_text, np.float64)
    cases = len(follows)
    rate = clustered_mean(follows[:, None], np.asarray(groups), level=level)
    other = float(np.isnan(follows).mean()) if cases else float("nan")
    return Rate(*rate, other, cases)
