"""Answers of the hub and of its CDN, without faults: routes, listings, files, refusals."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from tests.hub.faults import Kind, Record
from tests.hub.repositories import Blob, Commit, Repository

if TYPE_CHECKING:
    from tests.hub.server import Hub

_SPECIAL = ("convert", "pr", "heads", "tags")
_SECTIONS = {"refs", "tree", "revision", "paths-info", "resolve"}
_WHEN = "2025-01-01T00:00:00.000Z"
_EXPANDED_PAGE = 50


@dataclass
class Question:
    """A request, taken apart."""

    record: Record
    section: (
        str  # what follows the repository's name: "", refs, tree, revision, paths-info, resolve
    )
    kind: str
    query: Mapping[str, str]
    headers: Message
    body: bytes


@dataclass
class Answer:
    """A status, headers and content, or the part of a file that was asked for."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    blob: Blob | None = None
    part: tuple[int, int] | None = None

    @property
    def whole(self) -> int:
        return self.blob.size if self.blob is not None else len(self.content)

    @property
    def span(self) -> tuple[int, int]:
        return (0, self.whole) if self.part is None else self.part

    def read(self, start: int, stop: int) -> bytes:
        if self.blob is not None:
            return self.blob.read(start, stop)
        return self.content[start:stop]

    @classmethod
    def json(cls, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        kind = {"Content-Type": "application/json; charset=utf-8"}
        return cls(200, {**kind, **(headers or {})}, json.dumps(value).encode())

    @classmethod
    def error(cls, status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
        made = cls.json({"error": message} if message else {}, headers)
        made.status = status
        if message:
            made.headers["X-Error-Message"] = message
        return made


def question(
    role: str,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Message,
    body: bytes,
    known: Mapping[tuple[str, str], Repository],
) -> Question:
    """Take a request apart; of an unknown shape, its kind is `other`."""
    parts = [unquote(part) for part in path.split("/")[1:]]
    record = Record(
        method, "other", "", "", "", path, headers.get("Range"), "Authorization" in headers
    )
    made = Question(record, "", "model", query, headers, body)
    if role == "cdn":
        record.kind, record.path = "cdn", query.get("file", "")
        record.repository, record.revision = query.get("repository", ""), query.get("revision", "")
        return made
    api = parts[0] == "api"
    if api:
        parts = parts[1:]
        if parts[0] not in ("models", "datasets"):
            return made
        made.kind, parts = parts[0].removesuffix("s"), parts[1:]
    elif parts[0] == "datasets":
        made.kind, parts = "dataset", parts[1:]
    single = len(parts) == 1 or parts[1] in _SECTIONS or (made.kind, parts[0]) in known
    size = 1 if single else 2
    record.repository = "/".join(parts[:size])
    rest = parts[size:]
    made.section = rest[0] if rest else ""
    if len(rest) > 3 and rest[1] == "refs" and rest[2] in _SPECIAL:
        rest[1:4] = ["/".join(rest[1:4])]
    record.revision = rest[1] if len(rest) > 1 else "main"
    record.path = "/".join(rest[2:])
    kinds: dict[str, Kind] = {
        "": "info", "revision": "info", "refs": "refs", "tree": "tree", "paths-info": "paths-info"
    }  # fmt: skip
    if api:
        record.kind = kinds.get(made.section, "other")
    elif made.section == "resolve":
        record.kind = "resolve-head" if method == "HEAD" else "resolve-get"
    return made


def answer(hub: Hub, asked: Question) -> Answer:
    """The hub's answer."""
    record = asked.record
    bearer = (asked.headers.get("Authorization") or "").removeprefix("Bearer ")
    repository = hub.repositories.get((asked.kind, record.repository))
    granted = repository.granted if repository is not None else set()
    signed_in = bearer == hub.token or bearer in granted
    if bearer and not signed_in:
        return Answer.error(401, "Invalid credentials in Authorization header")
    if record.url == "/api/whoami-v2":
        return Answer.json({"name": "tester"}) if signed_in else Answer.error(401, "Unauthorized")
    if record.kind == "other":
        return Answer.error(404, "Sorry, we can't find the page you are looking for.")
    if repository is None or (repository.private and not signed_in):
        code = {"X-Error-Code": "RepoNotFound"}
        if signed_in:
            return Answer.error(404, "Repository not found", code)
        return Answer.error(401, "Invalid username or password.", code)
    if record.kind == "refs":
        return _refs(repository)
    try:
        commit = repository.at(record.revision)
    except KeyError:
        code = {"X-Error-Code": "RevisionNotFound"}
        return Answer.error(404, f"Invalid rev id: {record.revision}", code)
    makers: dict[str, Callable[[], Answer]] = {
        "info": lambda: _info(repository, commit, asked.query),
        "tree": lambda: _tree(hub, commit, asked),
        "paths-info": lambda: _paths(commit, asked),
    }
    if record.kind in makers:
        return makers[record.kind]()
    if repository.gated and bearer not in repository.granted:
        code = {"X-Error-Code": "GatedRepo"}
        text = f"Access to {asked.kind} {repository.name} is restricted"
        if signed_in:
            return Answer.error(403, f"{text} and you are not in the authorized list.", code)
        return Answer.error(401, f"{text}. You must have access to it.", code)
    return _file(hub, commit, asked)


def cdn_answer(hub: Hub, asked: Question) -> Answer:
    """The CDN's answer: content by its hash, with ranges."""
    blob = hub.blob(asked.record.url.rsplit("/", 1)[-1])
    if blob is None or "signature" not in asked.query:
        return Answer(403, {"Content-Type": "application/xml"}, b"<Error>AccessDenied</Error>")
    name = asked.record.path.rsplit("/", 1)[-1]
    headers = {
        "ETag": f'"{blob.sha256}"',
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}; filename=\"{name}\";",
    }
    return _content(blob, headers, asked.record.range)


def _refs(repository: Repository) -> Answer:
    def listed(table: Mapping[str, str], head: str) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"{head}{n}", "targetCommit": c} for n, c in table.items()]

    return Answer.json(
        {
            "branches": listed(repository.branches, "refs/heads/"),
            "tags": listed(repository.tags, "refs/tags/"),
            "converts": listed(repository.converts, "refs/convert/"),
            "pullRequests": listed(repository.pulls, "refs/pr/"),
        }
    )


def _info(repository: Repository, commit: Commit, query: Mapping[str, str]) -> Answer:
    siblings: list[dict[str, Any]] = []
    for name, blob in commit.files.items():
        one: dict[str, Any] = {"rfilename": name}
        if _true(query.get("blobs")):
            one |= {"size": blob.size, "blobId": blob.oid}
            if blob.sha256 is not None:
                one["lfs"] = blob.lfs(digest="sha256")
        siblings.append(one)
    return Answer.json(
        {
            "_id": commit.oid[:24],
            "id": repository.name,
            "author": repository.name.split("/")[0],
            "sha": commit.oid,
            "lastModified": _WHEN,
            "createdAt": _WHEN,
            "private": repository.private,
            "gated": "auto" if repository.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }
    )


def _tree(hub: Hub, commit: Commit, asked: Question) -> Answer:
    query, path = asked.query, asked.record.path
    if path and path not in commit.folders():
        return _missing(path, commit)
    expand = _true(query.get("expand"))
    size = min(int(query.get("limit", hub.page_size)), hub.page_size)
    size = min(size, _EXPANDED_PAGE) if expand else size
    start = int(base64.urlsafe_b64decode(query["cursor"])) if "cursor" in query else 0
    every = list(commit.under(path, recursive=_true(query.get("recursive"))))
    page = [_entry(name, blob, commit, expand) for name, blob in every[start : start + size]]
    headers = {}
    if start + size < len(every):
        cursor = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        following = urlencode({**query, "cursor": cursor})
        headers["Link"] = f'<{hub.endpoint}{asked.record.url}?{following}>; rel="next"'
    return Answer.json(page, headers)


def _paths(commit: Commit, asked: Question) -> Answer:
    text = asked.body.decode()
    if "json" in (asked.headers.get("Content-Type") or ""):
        given = json.loads(text)
        paths, expand = list(given["paths"]), bool(given.get("expand"))
    else:
        form = parse_qs(text)
        paths, expand = form.get("paths", []), _true(form.get("expand", [""])[-1])
    every: dict[str, Blob | None] = {**dict.fromkeys(commit.folders()), **commit.files}
    return Answer.json([_entry(p, every[p], commit, expand) for p in paths if p in every])


def _entry(name: str, blob: Blob | None, commit: Commit, expand: bool) -> dict[str, Any]:
    if blob is None:
        one: dict[str, Any] = {"type": "directory", "oid": commit.oid, "size": 0, "path": name}
    else:
        one = {"type": "file", "oid": blob.oid, "size": blob.size, "path": name}
        if blob.sha256 is not None:
            one["lfs"] = blob.lfs(digest="oid")
    if expand:
        one["lastCommit"] = {"id": commit.oid, "title": commit.title, "date": _WHEN}
    return one


def _file(hub: Hub, commit: Commit, asked: Question) -> Answer:
    record = asked.record
    blob = commit.files.get(record.path)
    if blob is None:
        return _missing(record.path, commit)
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
    if blob.sha256 is None:
        return _content(blob, headers, record.range)
    hub.sign(blob)
    query = {"repository": record.repository, "revision": record.revision, "file": record.path}
    location = f"{hub.cdn}/{blob.sha256}?{urlencode({**query, 'signature': 'valid'})}"
    headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
    text = f"Found. Redirecting to {location}".encode()
    return Answer(302, {**headers, "Location": location, "Content-Type": "text/plain"}, text)


def _content(blob: Blob, headers: Mapping[str, str], asked: str | None) -> Answer:
    made = Answer(200, {**headers, "Accept-Ranges": "bytes"}, blob=blob)
    made.headers.setdefault("Content-Type", "application/octet-stream")
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if match is None or not any(match.groups()):
        return made
    first, last = match.groups()
    start = int(first) if first else max(0, blob.size - int(last))
    stop = min(blob.size, int(last) + 1) if first and last else blob.size
    if start >= stop:
        whole = {"Content-Range": f"bytes */{blob.size}"}
        return Answer.error(416, "Range Not Satisfiable", whole)
    made.status, made.part = 206, (start, stop)
    made.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
    return made


def _missing(path: str, commit: Commit) -> Answer:
    headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit.oid}
    return Answer.error(404, f"Entry not found: {path}", headers)


def _true(text: str | None) -> bool:
    return (text or "").lower() in ("1", "true")
