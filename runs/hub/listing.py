"""What a hub lists: revisions and their commits, the files of a commit with sizes and digests."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from runs.hub.client import Notice, ask, session

RepositoryKind = Literal["model", "dataset"]
WEIGHTS = (".safetensors", ".bin")  # in the order in which they are preferred
_SMALL = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_LARGEST_SMALL = 200_000_000
_AGE = 60.0  # seconds for which what was asked is not asked again
_asked: dict[tuple[str, ...], tuple[float, Any]] = {}


@dataclass(frozen=True)
class HubFile:
    """One file of a commit.

    Attributes
    ----------
    path : str
        Within the repository.
    size : int
        Bytes.
    digest : str
        Its SHA-256 (64 digits) if it is large, else git's hash of it (40 digits).
    """

    path: str
    size: int
    digest: str

    @property
    def is_weights(self) -> bool:
        """Whether it holds weights."""
        return self.path.endswith(WEIGHTS)


def revisions_of(
    repository: str, *, kind: RepositoryKind = "model", notice: Notice = lambda _: None
) -> dict[str, str]:
    """Branches and tags of a repository, and the commit of each.

    Raises
    ------
    HubError
        If the hub cannot be asked.
    """
    from huggingface_hub import HfApi

    def call() -> dict[str, str]:
        refs = HfApi().list_repo_refs(repository, repo_type=kind)
        return {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}

    return dict(_once(("refs", kind, repository), lambda: ask(repository, call, notice=notice)))


def commit_at(
    repository: str,
    revision: str,
    *,
    kind: RepositoryKind = "model",
    notice: Notice = lambda _: None,
    stop: threading.Event | None = None,
) -> str:
    """The commit that a revision stands for now; `stop` ends a wait.

    Raises
    ------
    GoneError
        If the hub has no such revision.
    HubError
        If it cannot be asked.
    """
    from huggingface_hub import HfApi

    about = f"{repository} at {revision}"
    what = ("commit", kind, repository, revision)
    return str(
        _once(
            what,
            lambda: ask(
                about,
                lambda: str(HfApi().repo_info(repository, revision=revision, repo_type=kind).sha),
                notice=notice,
                stop=stop,
            ),
        )
    )


def files_at(
    repository: str,
    commit: str,
    *,
    kind: RepositoryKind = "model",
    notice: Notice = lambda _: None,
    stop: threading.Event | None = None,
) -> tuple[HubFile, ...]:
    """Every file of a commit, with size and digest; all pages of the hub's list. `stop` ends a wait.

    Raises
    ------
    GoneError
        If the hub has no such revision.
    HubError
        If it cannot be asked.
    """
    from huggingface_hub import constants

    where = f"{constants.ENDPOINT}/api/{kind}s/{repository}/tree/{quote(commit, safe='')}"

    def call() -> tuple[HubFile, ...]:
        found: list[HubFile] = []
        page: str | None = f"{where}?recursive=true&expand=false"
        seen: set[str] = set()
        while page is not None and page not in seen:
            seen.add(page)
            rows, page = _page(page)
            found += [_hub_file(row) for row in rows if row.get("type") == "file"]
        return tuple(found)

    about = f"{repository} at {commit[:12]}"
    what = ("files", kind, repository, commit)
    return tuple(_once(what, lambda: ask(about, call, notice=notice, stop=stop)))


def _page(url: str) -> tuple[list[dict[str, Any]], str | None]:
    """One page of a list and the next one's address; the client's own walk waits between its tries."""
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    answer = session().get(url, headers=build_hf_headers(), follow_redirects=True)
    hf_raise_for_status(answer)
    following = answer.links.get("next", {}).get("url")
    if following is None:
        return answer.json(), None
    # Of the hub that was asked, whatever host an answer names: a mirror repeats the hub's own addresses,
    # and the token goes nowhere else.
    origin, rest = urlsplit(url), urlsplit(urljoin(url, following))
    return answer.json(), urlunsplit((origin.scheme, origin.netloc, rest.path, rest.query, ""))


def _hub_file(row: dict[str, Any]) -> HubFile:
    large = row.get("lfs") or {}
    size, digest = large.get("size", row["size"]), large.get("oid", row["oid"])
    return HubFile(str(row["path"]), int(size), str(digest))


def needed(files: Iterable[HubFile], *, weights: bool = True) -> tuple[HubFile, ...]:
    """Configuration and tokenizer of a checkpoint, and its weights in the form that is preferred.

    Only files at the top of a repository: further down lie other formats and states of optimisers.
    """
    top = [file for file in files if "/" not in file.path]
    small = [
        file
        for file in top
        if (file.path.endswith(_SMALL) or file.path.startswith("tokenizer"))
        and not file.is_weights
        and file.size < _LARGEST_SMALL
    ]
    if not weights:
        return tuple(small)
    kind = next((k for k in WEIGHTS if any(_loadable(f.path, k) for f in top)), None)
    chosen = [] if kind is None else [file for file in top if _loadable(file.path, kind)]
    return (*small, *chosen)


def _loadable(path: str, kind: str) -> bool:
    """Whether a file is of the weights that transformers loads, not of an optimiser or another layout."""
    if not path.endswith(kind):
        return False
    return kind == ".safetensors" or path.startswith("pytorch_model")


def remember(place: Path, name: str, files: Iterable[HubFile]) -> None:
    """Keep a commit's list of files beside the cache, for other processes."""
    draft = place / f"{name}.{os.getpid()}.draft"
    draft.write_text(json.dumps([asdict(file) for file in files]))
    draft.replace(place / f"{name}.files")


def remembered(place: Path, name: str) -> tuple[HubFile, ...]:
    """The list that `remember` kept; empty if there is none."""
    try:
        rows = json.loads((place / f"{name}.files").read_text())
        return tuple(HubFile(**row) for row in rows)
    except (OSError, ValueError, TypeError):
        return ()


def _once(what: tuple[str, ...], call: Any) -> Any:
    from huggingface_hub import constants

    key = (str(constants.ENDPOINT), *what)
    when, found = _asked.get(key, (-_AGE, None))
    if time.monotonic() - when >= _AGE:
        found = call()
        _asked[key] = (time.monotonic(), found)
    return found
