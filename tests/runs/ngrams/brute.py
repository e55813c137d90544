"""An ∞-gram in plain Python: look for every sequence everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

BOUNDARY = -1


class BruteForce:
    """The corpus as one list of tokens with a boundary around every document."""

    def __init__(self, documents: Sequence[Sequence[int]], *, end: int | None) -> None:
        self.end = end
        self.text = [BOUNDARY]
        for document in documents:
            if len(document):
                self.text += [*document, BOUNDARY]

    def places(self, tokens: Sequence[int]) -> list[int]:
        """Where a sequence ends: the place of what follows it."""
        wanted = [BOUNDARY if t == self.end else t for t in tokens]
        n = len(wanted)
        last = len(self.text) - max(n, 1) + 1  # of no tokens as many as there are tokens
        return [i + n for i in range(last) if self.text[i : i + n] == wanted]

    def count(self, tokens: Sequence[int]) -> int:
        return len(self.places(tokens))

    def following(self, prompt: Sequence[int]) -> dict[int, int]:
        """Counts of what follows; the corpus is followed by one more boundary."""
        text = [*self.text, BOUNDARY]
        found = Counter(text[i] for i in self.places(prompt))
        ends = found.pop(BOUNDARY, 0)
        if ends and self.end is not None:
            found[self.end] = ends
        return dict(found)

    def infinigram(self, prompt: Sequence[int], token: int) -> tuple[float, int, int, int]:
        for start in range(len(prompt) + 1):
            suffix = list(prompt[start:])
            number = self.count(suffix)
            if number:
                both = self.count([*suffix, token])
                return both / number, len(suffix), number, both
        raise AssertionError("the empty suffix is always there")
