"""Sets: named collections of inputs, tokenised once and the same for every checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probes.cases import Cases, Image
from probes.repetition import Repetition
from runs.documents import Document, read_documents
from runs.errors import InputError, line_of
from runs.recipe import InputTable
from runs.repeated_inputs import check_memory, describe_repeated, draw_repeated

FOLDS = 8
_TOKENISED_AT_ONCE = 256


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None

    def __len__(self) -> int: ...

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Any:
        """Encode; `input_ids` is a list a text."""
        ...


class Scenes(Protocol):
    """Conflict cases and what shows their images."""

    @property
    def cases(self) -> Cases:
        """A case a sample of the set."""
        ...

    def image(self, number: int) -> Image:
        """Image `number` of `Cases.image` (height, width, 3)."""
        ...


@dataclass(frozen=True)
class InputSet:
    """One set, ready for capture.

    Attributes
    ----------
    name : str
        The NAME of `[inputs.NAME]`.
    tokens : int32 array (sample, position)
        Token ids, right-padded with `pad`.
    length : int32 array (sample,)
        Valid tokens of each sample.
    fold : uint8 array (sample,)
        1…8; disjoint, and no group lies in two folds.
    group : int32 array (sample,)
        The unit of resampling: the sample itself unless a `group` column was named.
    labels : dict of str to array (sample,)
        The label columns, as text.
    answer : int32 array (sample,) or None
        Where the right answer begins, if the set has answers; it ends with the sample.
    pad : int
        The id that fills the end of short samples.
    description : str
        One line for captions.
    digest : str
        SHA-256 over everything that decides results.
    repetition : Repetition or None
        How repeated tokens are laid out, in a set of them.
    scenes : Scenes or None
        Cases and their images, a sample a case, in a set of scenes.
    source : str
        Digest of what the set was made from, "" if that is not one file; a store's set is known by it.
    texts : str
        `OWNER/NAME@REVISION COMMIT` of the hub's data set that the text was read from, if it was.
    """

    name: str
    tokens: NDArray[np.int32]
    length: NDArray[np.int32]
    fold: NDArray[np.uint8]
    group: NDArray[np.int32]
    labels: dict[str, NDArray[np.str_]] = field(default_factory=dict)
    pad: int = 0
    description: str = ""
    digest: str = ""
    answer: NDArray[np.int32] | None = None
    repetition: Repetition | None = None
    scenes: Scenes | None = None
    source: str = ""
    texts: str = ""

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.tokens.shape[0])

    @property
    def padded(self) -> bool:
        """Whether any sample is shorter than the set's length."""
        return bool((self.length < self.tokens.shape[1]).any())


@dataclass(frozen=True)
class _Sample:
    ids: Sequence[int]
    document: Document
    answer: int = 0


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer from a local folder or a GGUF file, without a network.

    Raises
    ------
    InputError
        If there is none that can be read.
    """
    from transformers import AutoTokenizer

    from runs.loading import source_of

    if not path.exists():
        raise InputError(f"{path}: no such folder or file; set `series.tokenizer` to a tokenizer's")
    folder, options = source_of(path)
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, **options
        )
    except Exception as error:  # every tokenizer class fails in its own way
        raise InputError(f"{path}: the tokenizer cannot be read ({line_of(error)})") from None
    return tokenizer


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer's vocabulary, merges and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = (
        backend.to_str()
        if backend is not None
        else json.dumps(sorted(tokenizer.get_vocab().items()))
    )
    special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return hashlib.sha256((content + special).encode()).hexdigest()


def build_set(
    name: str,
    table: InputTable,
    tokenizer: Tokenizer,
    *,
    documents: Iterable[Document] | None = None,
) -> InputSet:
    """Tokenise one `[inputs.NAME]` table.

    In mode `document` a document is truncated to `length`, right-padded, and dropped if it has fewer
    than `min_length` tokens (a BOS counts). In mode `packed` documents are joined with the end-of-text
    token and cut into windows of exactly `length`; the rest is dropped. Documents are shuffled first
    if `shuffle_seed` is given. With `answer`, a sample is the text, the answer and the end-of-text token,
    and is dropped if it is longer than `length`. In mode `repeated` there is no text:
    `runs.repeated_inputs` draws tokens. In mode `words` a sample is a window of words of tagged text:
    `runs.word_inputs`. Mode `scenes` has `runs.scene_inputs`.

    Parameters
    ----------
    name
        Name of the set.
    table
        The checked table.
    tokenizer
        A Hugging Face tokenizer.
    documents
        The text, in its order, where it does not come from the table's `path`; read no further than is
        needed.

    Returns
    -------
    InputSet

    Raises
    ------
    InputError
        If the text is too short, too few samples or groups are left for 8 folds, or `add_bos` is asked
        of a tokenizer without a BOS.
    """
    key = f"inputs.{name}"
    if table.add_bos and tokenizer.bos_token_id is None:
        raise InputError(f"{key}.add_bos: the tokenizer has no BOS token; set add_bos = false")
    if table.mode == "scenes":
        from runs.scene_inputs import build_scenes

        return build_scenes(name, table, tokenizer)
    if table.mode == "repeated":
        rows = draw_repeated(name, table, tokenizer)
        return _assemble(name, table, tokenizer, [_Sample(ids, Document("", {})) for ids in rows])
    if table.mode == "words":
        from runs.word_inputs import build_words

        return build_words(name, table, tokenizer)
    if documents is None:
        whole = read_documents(table.path, text=table.text, columns=columns_of(table))
        if table.shuffle_seed is not None:
            order = np.random.default_rng(table.shuffle_seed).permutation(len(whole))
            whole = [whole[i] for i in order]
        documents = whole
    if table.answer and tokenizer.eos_token_id is None:
        raise InputError(f"{key}.answer: the tokenizer has no end-of-text token to end an answer")
    make = _windows if table.mode == "packed" else _answered if table.answer else _documents
    samples: list[_Sample] = []
    for sample in make(documents, table, tokenizer):
        samples.append(sample)
        if len(samples) == table.limit:
            break
    if len(samples) < FOLDS:
        wanted = table.min_length if table.mode == "document" else table.length
        raise InputError(
            f"{table.dataset or table.path}: `{key}` gives {len(samples)} samples of at least {wanted} "
            f"tokens, and at least {FOLDS} are needed; give longer text or a smaller length"
        )
    return _assemble(name, table, tokenizer, samples)


def columns_of(table: InputTable) -> tuple[str, ...]:
    """Columns that are wanted of every document beside its text."""
    more = [name for name in (table.group, table.answer) if name]
    return tuple(dict.fromkeys((*table.labels, *more)))


def _ids(
    documents: Iterable[Document], tokenizer: Tokenizer
) -> Iterator[tuple[Document, list[int]]]:
    rest = iter(documents)
    while part := list(islice(rest, _TOKENISED_AT_ONCE)):
        encoded = tokenizer([d.text for d in part], add_special_tokens=False)["input_ids"]
        yield from zip(part, encoded, strict=True)


def _documents(
    documents: Iterable[Document], table: InputTable, tokenizer: Tokenizer
) -> Iterator[_Sample]:
    start = [tokenizer.bos_token_id] if table.add_bos and tokenizer.bos_token_id is not None else []
    for document, ids in _ids(documents, tokenizer):
        whole = [*start, *ids[: table.length - len(start)]]
        if len(whole) >= table.min_length:
            yield _Sample(whole, document)


def _answered(
    documents: Iterable[Document], table: InputTable, tokenizer: Tokenizer
) -> Iterator[_Sample]:
    start = [tokenizer.bos_token_id] if table.add_bos and tokenizer.bos_token_id is not None else []
    for document, asked in _ids(documents, tokenizer):
        text = str(document.columns[str(table.answer)])
        answer = tokenizer([text], add_special_tokens=False)["input_ids"][0]
        prompt = [*start, *asked]
        whole = [*prompt, *answer, int(tokenizer.eos_token_id or 0)]
        if prompt and answer and table.min_length <= len(whole) <= table.length:
            yield _Sample(whole, document, len(prompt))


def _windows(
    documents: Iterable[Document], table: InputTable, tokenizer: Tokenizer
) -> Iterator[_Sample]:
    start = [tokenizer.bos_token_id] if table.add_bos and tokenizer.bos_token_id is not None else []
    separator = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    body = table.length - len(start)
    stream: list[int] = []
    owner: Document | None = None
    for document, ids in _ids(documents, tokenizer):
        owner = owner or document
        stream += [*ids, *separator]
        while len(stream) >= body:
            yield _Sample([*start, *stream[:body]], owner)
            stream = stream[body:]
            owner = document
        if not stream:
            owner = None


def _assemble(
    name: str, table: InputTable, tokenizer: Tokenizer, samples: Sequence[_Sample]
) -> InputSet:
    check_memory(name, len(samples), table.length)
    pad = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    tokens = np.full((len(samples), table.length), pad, np.int32)
    for row, sample in zip(tokens, samples, strict=True):
        row[: len(sample.ids)] = sample.ids
    length = np.array([len(s.ids) for s in samples], np.int32)
    group = np.arange(len(samples), dtype=np.int32)
    if table.group:
        values = [str(s.document.columns[table.group]) for s in samples]
        group = np.unique(values, return_inverse=True)[1].astype(np.int32)
    labels = {
        label: np.array([str(s.document.columns[label]) for s in samples]) for label in table.labels
    }
    fold = assign_folds(group, key=f"inputs.{name}.group")
    described = _described(table, len(samples))
    decisive: list[NDArray[Any]] = [tokens, length, fold, group]
    answer = None
    if table.answer:
        answer = np.array([s.answer for s in samples], np.int32)
        decisive.append(answer)
    layout = table.repetition
    options = (table.mode, table.add_bos, table.shuffle_seed)
    digest = set_digest(decisive, labels, *options, *(astuple(layout) if layout else ()))
    return InputSet(
        name, tokens, length, fold, group, labels, int(pad), described, digest, answer, layout
    )


def _described(table: InputTable, samples: int) -> str:
    """A set in one line."""
    if table.repetition is not None:
        return f"{samples:,} samples of {describe_repeated(table)}"
    kind = "documents" if table.mode == "document" else "packed windows"
    described = f"{samples:,} {kind} × {table.length} tokens"
    if table.mode == "document":
        described += f" (at least {table.min_length})"
    described += ", BOS added" if table.add_bos else ""
    seed = table.shuffle_seed
    return described + (", in file order" if seed is None else f", shuffle seed {seed}")


def assign_folds(group: NDArray[np.int32], *, key: str = "group") -> NDArray[np.uint8]:
    """Deal whole groups out to 8 folds of nearly equal size.

    Parameters
    ----------
    group : int array (sample,)
        Group of each sample.
    key
        Named in the error.

    Returns
    -------
    uint8 array (sample,)
        Fold 1…8 of each sample.

    Raises
    ------
    InputError
        If there are fewer than 8 groups.
    """
    values, inverse, counts = np.unique(group, return_inverse=True, return_counts=True)
    if len(values) < FOLDS:
        raise InputError(f"{key}: {len(values)} groups, and at least {FOLDS} are needed for folds")
    load = np.zeros(FOLDS, np.int64)
    chosen = np.zeros(len(values), np.uint8)
    for index in np.argsort(-counts, kind="stable"):
        fold = int(np.argmin(load))
        load[fold] += counts[index]
        chosen[index] = fold + 1
    folds: NDArray[np.uint8] = chosen[inverse]
    return folds


def set_digest(
    arrays: Sequence[NDArray[Any]], labels: dict[str, NDArray[np.str_]], *options: object
) -> str:
    """SHA-256 over everything of a set that decides results."""
    state = hashlib.sha256(json.dumps(options).encode())
    for array in arrays:
        state.update(f"{array.dtype}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    state.update(json.dumps({k: v.tolist() for k, v in sorted(labels.items())}).encode())
    return state.hexdigest()
