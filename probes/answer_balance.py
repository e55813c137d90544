"""Which answers the image and the text of each group support: never the same, and balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]


def cyclic_pairs(
    groups: int,
    *,
    answers: int,
    rest_image: Sequence[int],
    rest_text: Sequence[int],
    seed: Sequence[int],
) -> NDArray[np.int64]:
    """Pairs (group, 2) of unequal answers, each answer equally often on either side.

    Groups come in rounds of as many as there are answers. In a round every answer is the image's once and
    the text's once, the text's being the image's moved on by a step, and `answers - 1` rounds go through
    all steps, so that all ordered pairs come equally often. Only the groups of a last, unfinished round
    depend on how many groups there are.

    Parameters
    ----------
    groups
        How many.
    answers
        How many different answers.
    rest_image, rest_text
        The answers in the order in which an unfinished round takes them for image and text.
    seed
        What the order within rounds is drawn from.

    Raises
    ------
    ValueError
        If an unfinished round cannot be paired without equal answers.
    """
    rounds, rest = divmod(groups, answers)
    found: list[Pair] = []
    for number in range(rounds):
        cycle, place = divmod(number, answers - 1)
        steps = np.random.default_rng([*seed, 0, cycle]).permutation(answers - 1) + 1
        images = np.random.default_rng([*seed, 1, number]).permutation(answers)
        found += [(int(i), int((i + steps[place]) % answers)) for i in images]
    if rest:
        found += _unfinished(rest_image[:rest], rest_text[:rest], found, answers)
    return np.array(found, np.int64).reshape(groups, 2)


def _unfinished(
    images: Sequence[int], texts: Sequence[int], before: Sequence[Pair], answers: int
) -> list[Pair]:
    """Pair the rest so that the pairs that came least often so far are taken first."""
    seen = np.zeros((answers, answers), np.int64)
    for image, text in before:
        seen[image, text] += 1
    ways = [list(zip(images, order, strict=True)) for order in permutations(texts)]
    ways = [way for way in ways if all(image != text for image, text in way)]
    if not ways:
        raise ValueError(f"answers {list(images)} and {list(texts)} cannot be paired")
    return min(ways, key=lambda way: sum(int(seen[pair]) for pair in way))


def proportional_pairs(groups: int, counts: Mapping[Pair, int]) -> NDArray[np.int64]:
    """Pairs (group, 2) of answers in given proportions, which every beginning keeps as nearly as it can.

    The next pair is always the one furthest behind its share; after as many groups as the counts sum to,
    each has come exactly so often, and it begins again. Group i does not depend on how many there are.

    Parameters
    ----------
    groups
        How many.
    counts
        Pair of image and text answer to how often it comes in one period.
    """
    pairs = list(counts)
    share = np.array([counts[pair] for pair in pairs], np.float64)
    period = int(share.sum())
    taken = np.zeros(len(pairs))
    sequence: list[Pair] = []
    for place in range(1, min(groups, period) + 1):
        behind = np.where(taken < share, share * place / period - taken, -np.inf)
        chosen = int(np.argmax(behind))
        taken[chosen] += 1
        sequence.append(pairs[chosen])
    whole = [sequence[i % period] for i in range(groups)]
    return np.array(whole, np.int64).reshape(groups, 2)
