"""Faults on request: which requests they touch, how often, and what happens to the answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["refs", "tree", "info", "paths-info", "resolve-head", "resolve-get", "cdn", "other"]
What = Literal["status", "html", "cut", "stalled", "dropped", "flipped", "slow", "redirect-lost"]


@dataclass
class Record:
    """One request and what became of it; `sent` counts bytes of the body and grows meanwhile."""

    method: str
    kind: Kind
    repository: str
    revision: str
    path: str  # within the repository
    url: str
    range: str | None
    authorized: bool
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    sent: int = 0
    ended: float | None = None
    fault: str | None = None


@dataclass
class Fault:
    """What goes wrong, and for which requests.

    Parameters
    ----------
    what
        `status` (with `status`, `headers`, `message`); `html`, a portal's page; `cut`, closed early;
        `stalled`, silence for `seconds` or until the hub closes; `dropped`, a reset; `flipped`, the
        byte at `at` of the file; `slow`, `rate` bytes a second; `redirect-lost`, to `location` or
        without one.
    kind, file, revision, repository
        The requests: one kind or several, and patterns as in a shell; None is all of them.
    where
        A further condition.
    times
        How often, then it is gone; None for good.
    skip
        How many of its requests pass unharmed first.
    after
        Bytes of the body before `cut`, `stalled` and `dropped`; None is before any header.
    """

    what: What
    kind: Kind | tuple[Kind, ...] | None = None
    file: str | None = None
    revision: str | None = None
    repository: str | None = None
    where: Callable[[Record], bool] | None = None
    times: int | None = None
    skip: int = 0
    after: int | None = None
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""
    at: int = 0
    rate: int = 0
    seconds: float | None = None
    location: str | None = None
    seen: int = 0
    hits: int = 0

    def concerns(self, record: Record) -> bool:
        kinds = (self.kind,) if isinstance(self.kind, str) else self.kind
        return (
            (kinds is None or record.kind in kinds)
            and (self.file is None or fnmatchcase(record.path, self.file))
            and (self.revision is None or fnmatchcase(record.revision, self.revision))
            and (self.repository is None or fnmatchcase(record.repository, self.repository))
            and (self.where is None or self.where(record))
        )


@dataclass
class Faults:
    """The rules of a hub, in order: the first that concerns a request and is not used up has it."""

    rules: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self.rules.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self.rules.clear()

    def of(self, record: Record) -> Fault | None:
        with self._lock:
            for rule in self.rules:
                if not rule.concerns(record) or (
                    rule.times is not None and rule.hits >= rule.times
                ):
                    continue
                rule.seen += 1
                if rule.seen <= rule.skip:
                    continue
                rule.hits += 1
                return rule
        return None
