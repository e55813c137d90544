"""Whether a checkpoint is the one its label says: digests of its tensors, and what they have in common.

Nothing is loaded into a model: files are read once, tensor by tensor. A digest is of a tensor's bytes,
dtype and shape, so that the same numbers in another file or shard are seen to be the same.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from runs.checkpoints import Checkpoint
from runs.errors import BytesError, CheckpointError, line_of
from runs.hub.download import check_file

GGUF = ".gguf"
_SAFETENSORS, _BIN = "*.safetensors", "pytorch_model*.bin"
_MATRIX = 256  # numbers from which a matrix that two checkpoints share is no coincidence
_BUFFERS = ("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias")
_BLOB = 64  # length of a blob's name in a hub's cache if it is a SHA-256


@dataclass(frozen=True)
class Fingerprint:
    """What a checkpoint's files hold.

    Attributes
    ----------
    tensors : mapping of str to str
        Name to digest, buffers left out.
    large : frozenset of str
        Digests of the matrices that are large and not constant: those that tell checkpoints apart.
    files : mapping of str to str
        File to SHA-256, where a hub's cache names files by it. Never compared with tensor digests.
    """

    tensors: Mapping[str, str]
    large: frozenset[str]
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One digest of all tensors."""
        return hashlib.sha256(json.dumps(sorted(self.tensors.items())).encode()).hexdigest()


def weight_files(path: Path) -> list[Path]:
    """Weight files of a checkpoint: safetensors first, `.bin` only if there is nothing else.

    Raises
    ------
    CheckpointError
        If there are none, or a shard that the index names is missing.
    """
    if path.suffix == GGUF:
        return [path]
    for pattern, index in (
        (_SAFETENSORS, "model.safetensors.index.json"),
        (_BIN, "pytorch_model.bin.index.json"),
    ):
        found = sorted(path.glob(pattern))
        if (path / index).is_file():
            missing = _indexed(path / index) - {file.name for file in found}
            if missing and (found or pattern == _SAFETENSORS):
                raise CheckpointError(
                    f"{path}: shard {min(missing)} is missing; fetch the checkpoint again"
                )
        if found:
            return found
    raise CheckpointError(f"{path}: no weights (*.safetensors or pytorch_model*.bin)")


def fingerprint(path: Path) -> Fingerprint:
    """Read a checkpoint's weights once: digests, and whether every number is one.

    Parameters
    ----------
    path
        Folder with safetensors or `.bin` weights, or a GGUF file (digested whole).

    Returns
    -------
    Fingerprint

    Raises
    ------
    CheckpointError
        If a file is missing, truncated or unreadable, or a tensor holds NaN or Inf; names it.
    BytesError
        If a file of a hub's cache is not the bytes that the hub publishes; small files too.

    Notes
    -----
    Memory: one tensor. Time: one read and two digests of every byte; files are compared with the hub's
    digests by a second thread, which finds in memory what the first one has read, or the other way round.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="digest") as pool:
        compared = pool.submit(_check_files, path)
        try:
            found = _of_tensors(path)
        finally:
            compared.result()  # a file that is another one says more than what is wrong with its tensors
    return found


def _check_files(path: Path) -> None:
    """Every file of a snapshot against the digest its blob is named by."""
    for file in sorted(path.iterdir()) if path.is_dir() else ():
        if file.is_symlink() and not file.exists():  # its blob was bad, and nothing came instead
            raise BytesError(f"{file}: leads to no file; fetch the checkpoint again", file)
        if file.is_symlink() and file.is_file():
            try:
                check_file(file)
            except OSError as error:
                raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None


def _of_tensors(path: Path) -> Fingerprint:
    files = weight_files(path)
    hashes = {f.name: f.resolve().name for f in files if len(f.resolve().name) == _BLOB}
    if path.suffix == GGUF:
        return Fingerprint({path.name: _of_file(path)}, frozenset(), hashes)
    tensors, large = {}, set()
    for file in files:
        for name, tensor in _tensors(file):
            if name.endswith(_BUFFERS):
                continue
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise CheckpointError(f"{file}: {name} holds NaN or Inf")
            tensors[name] = digest = _of_tensor(tensor)
            if tensor.ndim > 1 and tensor.numel() >= _MATRIX and not _constant(tensor):
                large.add(digest)
    return Fingerprint(tensors, frozenset(large), hashes)


@dataclass(frozen=True)
class Known:
    """A checkpoint as the judgement sees it: where it stands in its series, and its large matrices."""

    label: str
    branch: str
    step: int
    tokens: int
    large: frozenset[str]


def judge_series(
    checkpoints: Sequence[Checkpoint],
    large: Mapping[str, frozenset[str]],
    *,
    accept: Sequence[str] = (),
) -> dict[str, str]:
    """`judge` for checkpoints whose digests are known by label; the others take part without any."""
    known = [
        Known(c.label, c.branch, c.step, c.tokens, large.get(c.label, frozenset()))
        for c in checkpoints
    ]
    return judge(known, accept=accept)


def judge(series: Sequence[Known], *, accept: Sequence[str] = ()) -> dict[str, str]:
    """Compare every checkpoint with all others and say which are not what their labels say.

    Checkpoints that share a large matrix form a group. Steps 0 and 1 of a branch may be equal (a first
    step at learning rate 0): the first is kept. A group with the final checkpoint of a branch keeps only
    that; any other group keeps none, because it cannot be told whose weights they are.

    Parameters
    ----------
    series
        Checkpoints with their large matrices.
    accept
        Labels that are taken as they are.

    Returns
    -------
    dict of str to str
        Label to reason, of those that are not to be used.
    """
    holders: dict[str, list[int]] = defaultdict(list)
    for index, known in enumerate(series):
        for digest in known.large:
            holders[digest].append(index)
    groups = _joined(len(series), (h for h in holders.values() if len(h) > 1))
    final = {_last(series, branch).label for branch in {k.branch for k in series}}
    verdicts = {}
    for group in groups:
        members = [series[i] for i in group]
        kept = _kept(members, final)
        for known in members:
            if known.label != kept and known.label not in accept:
                verdicts[known.label] = _reason(known, members, kept)
    return verdicts


def _kept(members: Sequence[Known], final: set[str]) -> str | None:
    if (
        len(members) == 2
        and {m.step for m in members} == {0, 1}
        and len({m.branch for m in members}) == 1
    ):
        return min(members, key=lambda m: m.step).label
    finals = [m for m in members if m.label in final]
    return max(finals, key=lambda m: m.tokens).label if finals else None


def _reason(known: Known, members: Sequence[Known], kept: str | None) -> str:
    others = [m for m in members if m.label != known.label and m.large & known.large]
    other = next((m for m in others if m.label == kept), others[0])
    shared = len(known.large & other.large)
    if shared == len(known.large) == len(other.large):
        what = f"duplicate: its weights are those of {other.label}"
    else:
        what = (
            f"partial duplicate: {shared} of its {len(known.large)} large matrices are those of "
            f"{other.label}"
        )
    if kept is None:
        what += ", and it cannot be told whose they are"
    return f"{what}; set series.accept = [{known.label!r}] to use it all the same"


def _last(series: Sequence[Known], branch: str) -> Known:
    return max((k for k in series if k.branch == branch), key=lambda k: (k.tokens, k.step))


def _joined(count: int, groups: Iterator[list[int]]) -> list[list[int]]:
    """Union of overlapping groups of indices."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for group in groups:
        for other in group[1:]:
            parent[root(other)] = root(group[0])
    found: dict[int, list[int]] = defaultdict(list)
    for index in range(count):
        found[root(index)].append(index)
    return [members for members in found.values() if len(members) > 1]


def _tensors(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    try:
        if file.suffix == ".bin":
            state: dict[str, Any] = torch.load(
                file, map_location="cpu", weights_only=True, mmap=True
            )
            yield from ((name, tensor) for name, tensor in state.items())
            return
        with safe_open(file, framework="pt") as content:
            for name in content.keys():  # noqa: SIM118  # safe_open is no mapping
                yield name, content.get_tensor(name)
    except CheckpointError:
        raise
    except SafetensorError as error:
        raise CheckpointError(f"{file}: is truncated or damaged ({line_of(error)})") from None
    except Exception as error:  # torch's reader raises many kinds for a damaged archive
        raise CheckpointError(f"{file}: cannot be read ({line_of(error)})") from None


def _of_tensor(tensor: torch.Tensor) -> str:
    state = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    flat = tensor.detach().contiguous().flatten()
    state.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return state.hexdigest()


def _of_file(file: Path) -> str:
    state = hashlib.sha256()
    try:
        with file.open("rb") as content:
            while part := content.read(1 << 20):
                state.update(part)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    return state.hexdigest()


def _constant(tensor: torch.Tensor) -> bool:
    flat = tensor.flatten()
    return bool((flat == flat[0]).all())


def _indexed(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise CheckpointError(f"{index}: cannot be read ({line_of(error)})") from None
