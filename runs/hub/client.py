"""Asking a hub: what its client raises as one line each, waits that end, nothing on the screen.

huggingface_hub makes the requests. Here is what a long run needs beside it: every request may time out,
a hub that is busy is waited for as it asks and not for ever, and what is the hub's fault is told from
what is not there.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from runs.errors import GoneError, HubError, InputError, line_of

T = TypeVar("T")
Notice = Callable[[str], None]

TRIES = "PHASESCOPE_HUB_TRIES"
_TRIES = 4
_LONGEST = (
    300.0  # seconds waited for one answer; a hub's windows for counting requests are that long
)
_BUSY = (408, 425, 429)  # and all from 500
_PAGES = ("text/html", "application/xhtml")
_PORTAL = 511  # a network that wants a login says so itself
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_FETCH = (
    "fetch on a machine with network (`phasescope fetch RECIPE`) and set series.cache to the folder "
    "it filled"
)
_PROXY = "mend HTTPS_PROXY, HTTP_PROXY or NO_PROXY"
_NEVER = threading.Event()
_waits: dict[str, float] = {}  # waits that the user has been told of, and when each ends
_ours = threading.local()  # whether the request that this thread makes is one of ours
_answered = threading.Event()  # whether the hub has answered this process at all
_quiet_count, _quiet_lock = 0, threading.Lock()


class BusyHub(Exception):
    """The hub answered that it cannot serve now."""

    def __init__(self, status: int, wait: float | None, host: str) -> None:
        super().__init__(f"{host} answers {status}")
        self.status, self.wait, self.host = status, wait, host


class Stopped(InputError):
    """Whoever asked needs it no more."""


class WebPage(Exception):
    """Somebody answered with a page for people where data were asked for."""


class Broken(Exception):
    """An answer ended early, or was not the bytes that it announced."""


@dataclass(frozen=True)
class _Fault:
    """What went wrong: a line for the user, and how long to wait if that may help (0: as we think)."""

    line: str
    wait: float | None = None
    gone: bool = False


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids to ask."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def ask(
    about: str,
    call: Callable[[], T],
    *,
    notice: Notice = lambda _: None,
    stop: threading.Event | None = None,
) -> T:
    """Make a request, and again where waiting may help.

    Parameters
    ----------
    about
        The repository, with a revision or file; begins the line of an error.
    call
        Makes the request through huggingface_hub's client; may be called several times. Where it says
        `renewed`, earlier failures are forgotten.
    notice
        Told of every wait, in one line.
    stop
        Ends a wait.

    Raises
    ------
    GoneError
        If the hub itself says that the revision or file is not there.
    HubError
        If it cannot be reached, does not serve, or refuses; one line with the mend.
    """
    if is_offline():
        raise HubError(f"{about}: the hub cannot be reached (HF_HUB_OFFLINE is set); {_FETCH}")
    failures = 0
    while True:
        _ours.renewed = False
        try:
            with _watched():
                found = call()
            _answered.set()
            return found
        except (InputError, GoneError, KeyboardInterrupt):
            raise
        except Exception as error:  # the client raises its own, its transport's and OSError
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            fault = _fault(error)
            failures = 1 if _ours.renewed else failures + 1
            if fault.gone:
                raise GoneError(f"{about}: {fault.line}") from None
            wait = _wait(fault, failures)
            if wait is None:
                raise HubError(f"{about}: {fault.line}") from None
            _tell(f"{about}: ", fault, wait, notice)
            if (stop or _NEVER).wait(wait):
                raise Stopped(f"{about}: not needed any more") from None


def renewed() -> None:
    """Say inside `ask` that something has come since the last failure."""
    _ours.renewed = True


def session() -> Any:
    """huggingface_hub's HTTP client, whose requests from inside `ask` time out and are watched."""
    from huggingface_hub.utils import get_session

    client = get_session()
    hooks = client.event_hooks
    if _look not in hooks["response"]:
        client.event_hooks = {
            "request": [*hooks["request"], _limit],
            "response": [*hooks["response"], _look],
        }
    return client


def _tell(about: str, fault: _Fault, wait: float, notice: Notice) -> None:
    """Tell of a wait, unless another thread waits for the same: one line for all of them."""
    line, now = fault.line.split(";")[0], time.monotonic()
    with _quiet_lock:
        told = _waits.get(line.split(" and asks")[0], 0.0) >= now
        if not told:
            _waits[line.split(" and asks")[0]] = now + wait
    if not told:
        notice(f"{about}{line}; waiting {max(wait, 1.0):.0f} s")


def _wait(fault: _Fault, failures: int) -> float | None:
    """Seconds to wait before the next try; None if there is to be none."""
    if fault.wait is None or fault.wait > _LONGEST or failures > _tries():
        return None
    return fault.wait or min(2.0 ** (failures - 1), 30.0)


def _tries() -> int:
    text = os.environ.get(TRIES, "")
    return int(text) if _is_number(text) else _TRIES


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


@contextmanager
def _watched() -> Iterator[None]:
    """Mark this thread's requests as ours, and keep the client's own log off the screen."""
    global _quiet_count
    logger = logging.getLogger("huggingface_hub")
    with _quiet_lock:
        if _quiet_count == 0:
            _ours_level.append(logger.level)
            logger.setLevel(logging.CRITICAL)
        _quiet_count += 1
    session()
    _ours.active = True
    try:
        yield
    finally:
        _ours.active = False
        with _quiet_lock:
            _quiet_count -= 1
            if _quiet_count == 0:
                logger.setLevel(_ours_level.pop())


_ours_level: list[int] = []


def _limit(request: Any) -> None:
    """Give a request of ours a time limit: the client sets none for most."""
    from huggingface_hub import constants

    if getattr(_ours, "active", False):
        seconds = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        kinds = ("connect", "read", "write", "pool")
        request.extensions = {**request.extensions, "timeout": dict.fromkeys(kinds, seconds)}


def _look(response: Any) -> None:
    """Raise for answers after which the client would wait without bound, or misread."""
    if not getattr(_ours, "active", False):
        return
    status, host = response.status_code, urlsplit(str(response.url)).netloc
    page = str(response.headers.get("content-type", "")).lower().startswith(_PAGES)
    if status == _PORTAL or (status == 200 and page):
        raise WebPage(host)
    if status in _BUSY or status >= 500:
        raise BusyHub(status, _asked_wait(response.headers), host)


def _asked_wait(headers: Any) -> float | None:
    """Seconds that a hub asks to wait, by `Retry-After` or its rate-limit header."""
    from email.utils import parsedate_to_datetime

    from huggingface_hub.utils import parse_ratelimit_headers

    text = str(headers.get("retry-after", "")).strip()
    if _is_number(text):
        return float(text)
    if text:
        try:
            return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
        except (ValueError, OverflowError, OSError):
            return None
    limits = parse_ratelimit_headers(headers)
    return float(limits.reset_in_seconds) if limits and limits.remaining == 0 else None


def _fault(error: BaseException) -> _Fault:
    """What an error of the client's means."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    for part in chain:
        if found := _of_answer(part) or _of_connection(part, chain):
            return found
    return _Fault(f"the hub cannot be used ({type(error).__name__}: {line_of(error)})")


def _of_answer(error: BaseException) -> _Fault | None:
    """Where a hub, or somebody in its place, has answered."""
    from huggingface_hub import errors

    host = urlsplit(_endpoint()).netloc
    if isinstance(error, BusyHub):
        asked = "" if error.wait is None else f" and asks to wait {error.wait:.0f} s"
        what = {429: "too many requests"}.get(error.status, "the hub is not well")
        return _Fault(
            f"{error.host} answers {error.status} ({what}){asked}; run again later, nothing is lost",
            error.wait or 0.0,
        )
    if isinstance(error, (WebPage, json.JSONDecodeError)):
        page = str(error) if isinstance(error, WebPage) else host
        return _Fault(
            f"{page} answers with a web page instead of data; log in to this network, or mend "
            "HF_ENDPOINT or the proxy"
        )
    if isinstance(error, Broken):
        return _Fault(
            f"a download from {host} breaks off ({error}); run again, it goes on there", 0.0
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return _Fault("the hub has no such revision", gone=True)
    if isinstance(error, errors.EntryNotFoundError) and isinstance(error, errors.HfHubHTTPError):
        return _Fault("the hub has no such file", gone=True)
    if isinstance(error, errors.GatedRepoError):
        return _Fault(
            "is gated; accept its terms on its page of the hub, and set HF_TOKEN to one of that account"
        )
    if isinstance(error, errors.DisabledRepoError):
        return _Fault("the hub has disabled access to it")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 407:
        return _Fault(f"the proxy wants a login (407); {_PROXY}")
    elsewhere = _other_host(error)
    if (
        status is not None and elsewhere
    ):  # where a hub keeps large files; its links end after a while
        return _Fault(f"{elsewhere} answers {status} for a file of the hub's; run again later", 0.0)
    if isinstance(error, errors.RepositoryNotFoundError):
        return _Fault(
            f"the hub shows no such repository ({status}); mend its name, or set HF_TOKEN to a token "
            "that may read it if it is private"
        )
    if status == 401:
        refused = "does not take the token that is set" if _has_token() else "wants a token"
        return _Fault(f"the hub {refused} (401); set HF_TOKEN to one that may read it")
    if status == 403:
        return _Fault(
            "the hub forbids it (403); set HF_TOKEN to a token that may read it, and accept its terms on "
            "its page if it has any"
        )
    if status is not None:
        return _Fault(f"{host} answers {status}, which is no hub's answer; is HF_ENDPOINT right?")
    return None


def _other_host(error: BaseException) -> str:
    """The host that answered, if it is not the hub itself."""
    url = getattr(getattr(error, "response", None), "url", None)
    host = "" if url is None else urlsplit(str(url)).netloc
    return "" if host == urlsplit(_endpoint()).netloc else host


def _of_connection(error: BaseException, chain: list[BaseException]) -> _Fault | None:
    """Where nobody has answered."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    host = _asked_host(chain)
    if isinstance(error, ssl.SSLError):
        return _Fault(
            f"{host} cannot be reached safely (TLS: {line_of(error)}); mend HF_ENDPOINT, or name the "
            "network's certificates in SSL_CERT_FILE"
        )
    if "ProxyError" in kinds:
        return _Fault(f"the proxy does not let us through ({line_of(error)}); {_PROXY}")
    if "ConnectError" in kinds or isinstance(error, (socket.gaierror, ConnectionRefusedError)):
        if any(isinstance(part, ssl.SSLError) for part in chain):
            return None  # its turn comes
        proxy = _proxy(chain)
        through = f" through the proxy {proxy}" if proxy else ""
        return _Fault(
            f"{host} cannot be reached{through} ({line_of(error)}); {_PROXY if proxy else _FETCH}",
            0.0 if _answered.is_set() else None,
        )
    if "TimeoutException" in kinds or isinstance(error, TimeoutError):
        return _Fault(f"{host} cannot be reached: no answer in time; run again later", 0.0)
    if {"NetworkError", "RemoteProtocolError"} & kinds or isinstance(error, ConnectionError):
        return _Fault(f"{host} cannot be reached: the connection breaks off; run again later", 0.0)
    return None


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _has_token() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())


def _asked_url(chain: list[BaseException]) -> str:
    """What was asked when nobody answered: the hub, or where it sent us."""
    for error in chain:
        try:
            return str(error.request.url)  # type: ignore[attr-defined]  # of some kinds
        except (AttributeError, RuntimeError):
            continue
    return _endpoint()


def _asked_host(chain: list[BaseException]) -> str:
    return urlsplit(_asked_url(chain)).netloc


def _proxy(chain: list[BaseException]) -> str:
    """The proxy that stands before an address, without its password; "" if there is none."""
    asked = urlsplit(_asked_url(chain))
    proxies = getproxies()
    found = proxies.get(asked.scheme) or proxies.get("all") or ""
    return "" if not found or proxy_bypass(asked.netloc) else urlsplit(found).netloc.split("@")[-1]
