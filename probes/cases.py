"""Conflict cases: an image that says one thing, a text that says another, and a question about both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

KINDS = ("conflict", "agreement", "irrelevant_text", "irrelevant_image")


@dataclass(frozen=True)
class Cases:
    """Cases as columns, a row each; cases of one image lie together.

    Attributes
    ----------
    image : int32 array (case,)
        Number of the case's image; what renders it is kept beside the cases.
    group : int32 array (case,)
        The unit of resampling: cases of one group share target, question and answers.
    question, text : str array (case,)
        What is asked, and what the text says; an empty text is none.
    answer_image, answer_text : str array (case,)
        What the image supports and what the text supports, one word each.
    subset : str array (case,)
        The attribute asked for: `colour`, `shape`, `material` or `position`.
    kind : str array (case,)
        One of `KINDS`; in an irrelevant case one modality speaks of another object.
    visual_tier, text_tier : int16 array (case,)
        Difficulty; 0 is the easiest.
    typicality : float64 array (case,)
        How often the text's words mean its answer in training, NaN where that is not graded.
    candidates : mapping of str to tuple of str
        The words that can answer each subset, in a fixed order.
    """

    image: NDArray[np.int32]
    group: NDArray[np.int32]
    question: NDArray[np.str_]
    text: NDArray[np.str_]
    answer_image: NDArray[np.str_]
    answer_text: NDArray[np.str_]
    subset: NDArray[np.str_]
    kind: NDArray[np.str_]
    visual_tier: NDArray[np.int16]
    text_tier: NDArray[np.int16]
    typicality: NDArray[np.float64]
    candidates: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.image)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Every column by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "candidates"}

    def part(self, rows: Sequence[int] | NDArray[Any] | slice) -> Cases:
        """Some of the cases, in the order given."""
        chosen = rows if isinstance(rows, slice) else np.asarray(rows)
        columns = {name: column[chosen] for name, column in self.columns().items()}
        return Cases(**columns, candidates=self.candidates)
