"""Asking an ∞-gram index: counts, continuations and probabilities, in the model's own token ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runs.errors import InputError, line_of
from runs.ngrams.index import BOUNDARY, END, IDS, UNKNOWN, read_manifest, require_engine

_EVERYTHING = 10**9  # below it the engine samples what follows a frequent prompt
_AT_ONCE = 1 << 24  # occurrences read at a time: some 500 MB
_WIDTHS = {"u8": 1, "u16": 2, "u32": 4}


class Continuation(NamedTuple):
    """The ∞-gram's answer for one token after one prompt.

    Attributes
    ----------
    probability : float
        continuation_count / prompt_count.
    suffix_length : int
        Tokens of the prompt's longest suffix that the corpus holds.
    prompt_count, continuation_count : int
        Occurrences of that suffix, and of it before the token.
    """

    probability: float
    suffix_length: int
    prompt_count: int
    continuation_count: int


class NgramIndex:
    """An ∞-gram index, open for questions.

    Parameters
    ----------
    folder
        Made by `build_index`, or by infini-gram itself elsewhere.
    end
        The model's end-of-text token: in prompts it stands for the end of a document, and in answers
        the end of a document for it. None if it has none.
    eos_token_id, vocabulary, token_dtype
        Of an index made elsewhere: what its engine is opened with.
    in_memory
        Read the index into memory first; otherwise it is mapped from the disk.

    Raises
    ------
    InputError
        If the folder holds no index, or one of another token width.

    Notes
    -----
    The corpus is read as boundary, document, boundary, …, document, boundary: a boundary is one token of
    its own, so that what ends documents is counted too; the end of the corpus counts as one more. An
    eos_token_id that occurs inside documents makes the engine's answers wrong, so it is a number that
    no token has (65534) unless told otherwise.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        end: int | None,
        eos_token_id: int | None = None,
        vocabulary: int | None = None,
        token_dtype: str = "u16",
        in_memory: bool = False,
    ) -> None:
        self.folder = Path(folder)
        require_engine(str(self.folder))
        _check_files(self.folder, token_dtype)
        bits = 8 * _WIDTHS[token_dtype]
        if token_dtype == "u32" and (eos_token_id is None or vocabulary is None):
            raise InputError(
                f'{self.folder}: token_dtype "u32" needs `eos_token_id` and `vocabulary`'
            )
        self._boundary = (1 << bits) - 1
        self._answer = (1 << bits) - 2 if eos_token_id is None else eos_token_id
        self._end = end
        own = read_manifest(self.folder)
        self._own = bool(own)
        self._ids = _read_ids(self.folder) if own.get("renumbered") else None
        if own and (self._boundary, self._answer) != (BOUNDARY, END):
            raise InputError(
                f"{self.folder}: was made here; leave eos_token_id and token_dtype out"
            )
        from infini_gram.engine import InfiniGramEngine

        try:
            self._engine: Any = InfiniGramEngine(
                index_dir=str(self.folder),
                eos_token_id=self._answer,
                vocab_size=vocabulary or self._boundary,
                version=4,
                token_dtype=token_dtype,
                load_to_ram=in_memory,
            )
        except Exception as error:  # the engine checks by assertions and C++ exceptions
            raise InputError(
                f"{self.folder}: cannot be opened as an ∞-gram index ({line_of(error)})"
            ) from None

    def count(self, tokens: Sequence[int]) -> int:
        """Occurrences of a sequence; of none, the number of tokens and boundaries in the corpus."""
        return int(_checked(self._engine.count(input_ids=self._query(tokens)))["count"])

    def infinigram(self, prompt: Sequence[int], token: int) -> Continuation:
        """Probability of a token after the longest suffix of the prompt that the corpus holds.

        Nothing is smoothed: it is 0 where the token never followed that suffix.
        """
        found = _checked(
            self._engine.infgram_prob(
                prompt_ids=self._query(prompt), cont_id=self._query([token])[0]
            )
        )
        return Continuation(
            float(found["prob"]),
            int(found["suffix_len"]),
            int(found["prompt_cnt"]),
            int(found["cont_cnt"]),
        )

    def following(self, prompt: Sequence[int]) -> dict[int, int]:
        """Exact counts of every token that follows a prompt; empty if the corpus does not hold it.

        The end of a document counts as the end-of-text token, and is left out if there is none.
        """
        query = self._query(prompt)
        found = self._read_following(query) if self._own else None
        counts = {}
        for number, count in (self._ask_following(query) if found is None else found).items():
            token = self._end if number == self._answer else self._token(number)
            if token is not None:
                counts[token] = count
        return counts

    def _ask_following(self, query: list[int]) -> dict[int, int]:
        """By searching for one token after the other: slow, and right for an index of any size."""
        found = _checked(self._engine.ntd(prompt_ids=query, max_support=_EVERYTHING))
        if found["approx"]:
            raise InputError(f"{self.folder}: the engine would not count {query} exactly")
        answers = found["result_by_token_id"]
        return {int(number): int(answer["cont_cnt"]) for number, answer in answers.items()}

    def _read_following(self, query: list[int]) -> dict[int, int] | None:
        """By reading what stands behind every occurrence; None where there are too many for memory.

        The engine finds the rows of the suffix array; each is the place of one occurrence in bytes.
        In an index made here there is one array of 16-bit tokens, and this is a hundred times faster.
        """
        ((first, last),) = _checked(self._engine.find(input_ids=query))["segment_by_shard"]
        if last - first > _AT_ONCE:
            return None
        tokens, table = self._arrays
        places = np.zeros((last - first, 8), np.uint8)
        places[:, : table.shape[1]] = table[first:last]
        after = places.view("<u8")[:, 0].astype(np.int64) // 2 + len(query)
        # The corpus ends with a boundary, and so does what follows its last token.
        numbers = np.where(
            after < len(tokens), tokens[np.minimum(after, len(tokens) - 1)], BOUNDARY
        )
        numbers[numbers == BOUNDARY] = END
        found, counts = np.unique(numbers, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """Tokens, and the suffix array as (row, byte), mapped from the disk."""
        tokens = np.memmap(self.folder / "tokenized.0", "<u2", mode="r")
        table = np.memmap(self.folder / "table.0", np.uint8, mode="r")
        return tokens, table.reshape(len(tokens), -1)

    def sequence(self, tokens: Sequence[int]) -> list[Continuation]:
        """The ∞-gram's answer for every token of a sequence but the first, given all before it.

        One question a token; a suffix that is known is at most one longer than the last one known, so
        prompts stay short.
        """
        found: list[Continuation] = []
        longest = 1
        for i in range(1, len(tokens)):
            answer = self.infinigram(tokens[max(i - longest, 0) : i], tokens[i])
            longest = answer.suffix_length + 1
            found.append(answer)
        return found

    def _query(self, tokens: Sequence[int]) -> list[int]:
        """Python ints in the index's numbering; NumPy's are refused by the engine."""
        return [self._boundary if t == self._end else self._number(int(t)) for t in tokens]

    def _number(self, token: int) -> int:
        if self._ids is None:
            if self._own:
                return min(token, UNKNOWN)
            if token >= self._boundary:
                raise InputError(
                    f"{self.folder}: token {token} does not fit its tokens; it was indexed with another "
                    "tokenizer or `token_dtype`"
                )
            return token
        place = int(np.searchsorted(self._ids, token))
        return place if place < len(self._ids) and self._ids[place] == token else UNKNOWN

    def _token(self, number: int) -> int:
        return number if self._ids is None else int(self._ids[number])


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise InputError(f"the ∞-gram engine refuses a question: {answer['error']}")
    return answer


def _check_files(folder: Path, token_dtype: str) -> None:
    """The engine opens an empty folder, or tokens of another width, without a word."""
    shards = sorted(folder.glob("tokenized.*"))
    if not shards:
        raise InputError(
            f"{folder}: holds no ∞-gram index (tokenized.0, table.0, offset.0); set `memorisation.index`"
        )
    for shard in shards:
        for kind in ("table", "offset"):
            if not (folder / f"{kind}{shard.suffix}").is_file():
                raise InputError(f"{folder}: the ∞-gram index lacks {kind}{shard.suffix}")
        width = _WIDTHS[token_dtype]
        with shard.open("rb") as file:
            start = file.read(4)
        wide = start[:width] == b"\xff" * width
        if not wide or (token_dtype == "u8" and start[:2] == b"\xff\xff"):
            raise InputError(
                f"{shard}: is not of {token_dtype} tokens; set `memorisation.token_dtype` to the index's"
            )


def _read_ids(folder: Path) -> NDArray[np.int64]:
    try:
        ids: NDArray[np.int64] = np.load(folder / IDS)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / IDS}: cannot be read ({line_of(error)}); remove {folder}"
        ) from None
    return ids
