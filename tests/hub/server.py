"""A hub on the loopback: two HTTP servers, the hub itself and its CDN, for a client of the real one."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.hub.answers import Answer, Question, answer, cdn_answer, question
from tests.hub.faults import Fault, Faults, Record, What
from tests.hub.repositories import Blob, Files, Repository

PORTAL = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Log in to go on.</body></html>"
)
_CHUNK = 1 << 16


class Hub:
    """The whole hub: repositories, faults, records; a context manager that serves while it is open.

    Parameters
    ----------
    page_size
        Entries of one page of a listing.
    token
        The only bearer's token that is valid.
    rate
        Bytes a second of one answer of the CDN; None is as fast as it goes.
    """

    def __init__(
        self, *, page_size: int = 1000, token: str = "hf_loopback", rate: int | None = None
    ) -> None:
        self.page_size = page_size
        self.token = token
        self.rate = rate
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults = Faults()
        self.closing = threading.Event()
        self._blobs: dict[str, Blob] = {}
        self._records: list[Record] = []
        self._lock = threading.RLock()
        self._hub = _Server(self, "hub")
        self._cdn = _Server(self, "cdn")
        self._garbled = _Garbled()

    def __enter__(self) -> Self:
        for server in (self._hub, self._cdn, self._garbled):
            server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        for server in (self._hub, self._cdn, self._garbled):
            server.stop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._hub.server_port}"

    @property
    def cdn(self) -> str:
        """Another host to the client: its name and its port differ."""
        return f"http://localhost:{self._cdn.server_port}"

    @property
    def tls_endpoint(self) -> str:
        """Promises TLS and speaks garbage."""
        return f"https://127.0.0.1:{self._garbled.port}"

    def add(self, name: str, kind: str = "model", **options: Any) -> Repository:
        """A new repository, empty; options are `Repository`'s."""
        made = Repository(kind, name, **options)
        self.repositories[kind, name] = made
        return made

    def repository(self, name: str, kind: str = "model") -> Repository:
        """One that is there, or a new one."""
        found = self.repositories.get((kind, name))
        return self.add(name, kind) if found is None else found

    def publish(
        self, name: str, files: Files, revision: str = "main", *, kind: str = "model"
    ) -> str:
        """Put files on a revision; returns the commit."""
        return self.repository(name, kind).commit(files, revision)

    def fail(self, what: What, **options: Any) -> Fault:
        """Add a fault; options are `Fault`'s, and for a status `retry_after` (seconds) and `code`.

        A 401 says that there is no such repository, as the hub's do, unless another code is given:
        the client takes one without a code for that only where the address has TLS.
        """
        retry_after = options.pop("retry_after", None)
        code = options.pop("code", "RepoNotFound" if options.get("status") == 401 else "")
        fault = Fault(what, **options)
        if code:
            fault.headers.setdefault("X-Error-Code", code)
        if retry_after is not None:
            fault.headers["Retry-After"] = str(retry_after)
        return self.faults.add(fault)

    def clear(self) -> None:
        """Forget requests and faults; repositories stay."""
        self.faults.clear()
        with self._lock:
            self._records.clear()

    @property
    def records(self) -> list[Record]:
        with self._lock:
            return list(self._records)

    def of_kind(self, *kinds: str) -> list[Record]:
        return [record for record in self.records if record.kind in kinds]

    def downloads(self, ending: str = "") -> list[Record]:
        """Requests that got content of files whose names end so, from the hub or from the CDN."""
        found = self.of_kind("resolve-get", "cdn")
        return [
            r
            for r in found
            if r.path.endswith(ending) and r.method == "GET" and r.status // 100 == 2
        ]

    def bytes_of(self, ending: str = "") -> int:
        """Bytes of files' content that were sent."""
        return sum(record.sent for record in self.downloads(ending))

    def wait_for(self, ending: str, sent: int = 1, seconds: float = 20.0) -> Record:
        """The first download of such a file that has had so many bytes; for tests that kill then."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for record in self.downloads(ending):
                if record.sent >= sent:
                    return record
            time.sleep(0.01)
        raise TimeoutError(f"no download of *{ending} of {sent} bytes within {seconds} s")

    def note(self, record: Record) -> None:
        with self._lock:
            self._records.append(record)

    def blob(self, sha256: str) -> Blob | None:
        """A large file's content; signed addresses work on when the revision is gone."""
        with self._lock:
            if sha256 not in self._blobs:
                for repository in list(self.repositories.values()):
                    blob = repository.blob(sha256)
                    if blob is not None:
                        self._blobs[sha256] = blob
            return self._blobs.get(sha256)

    def sign(self, blob: Blob) -> None:
        with self._lock:
            self._blobs[str(blob.sha256)] = blob


class _Server(ThreadingHTTPServer):
    """One of the two servers; closing it ends its connections."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, hub: Hub, role: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.role = role
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, name=role, daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + 2.0
        while self._open and time.monotonic() < until:
            time.sleep(0.005)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away in the middle; that is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    """Reads one request, has it answered, does to the answer what a fault asks for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer waits for no acknowledgement of its headers
    server: _Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        hub = self.server.hub
        asked = self._asked(hub, body)
        record = asked.record
        fault = hub.faults.of(record)
        record.fault = fault.what if fault is not None else None
        hub.note(record)
        try:
            made = cdn_answer(hub, asked) if self.server.role == "cdn" else answer(hub, asked)
            self._send(record, made, fault)
        except OSError:
            self.close_connection = True
        finally:
            record.ended = time.monotonic()

    do_HEAD = do_GET
    do_POST = do_GET

    def _asked(self, hub: Hub, body: bytes) -> Question:
        split = urlsplit(self.path)
        query = {k: v[-1] for k, v in parse_qs(split.query).items()}
        return question(
            self.server.role, self.command, split.path, query, self.headers, body, hub.repositories
        )

    def _send(self, record: Record, made: Answer, fault: Fault | None) -> None:
        what = fault.what if fault is not None else None
        if fault is not None and what == "status":
            made = Answer.error(fault.status, fault.message, fault.headers)
        elif what == "html":
            made = Answer(200, {"Content-Type": "text/html; charset=utf-8"}, PORTAL)
        elif fault is not None and what == "redirect-lost" and made.status // 100 == 3:
            made.headers.pop("Location", None)
            if fault.location is not None:
                made.headers["Location"] = fault.location
        breaks = what in ("cut", "stalled", "dropped")
        if fault is not None and breaks and fault.after is None:
            self._break(fault)
            return
        record.status = made.status
        start, stop = made.span
        self.send_response(made.status)
        for name, value in made.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        rate = self.server.hub.rate if self.server.role == "cdn" else None
        if fault is not None and what == "slow":
            rate = fault.rate
        end = stop
        if fault is not None and breaks:
            end = min(stop, start + (fault.after or 0))
        flip = fault.at % max(made.whole, 1) if fault is not None and what == "flipped" else None
        self._body(record, made, (start, end), rate, flip)
        if fault is not None and breaks and end < stop:
            self._break(fault)

    def _body(
        self,
        record: Record,
        made: Answer,
        span: tuple[int, int],
        rate: int | None,
        flip: int | None,
    ) -> None:
        at, end = span
        step = _CHUNK if rate is None else max(1, rate // 20)
        while at < end:
            chunk = bytearray(made.read(at, min(end, at + step)))
            if flip is not None and at <= flip < at + len(chunk):
                chunk[flip - at] ^= 0x01
            self.wfile.write(chunk)
            at += len(chunk)
            record.sent += len(chunk)
            if rate is not None and at < end and self.server.hub.closing.wait(len(chunk) / rate):
                self.close_connection = True
                return

    def _break(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.what == "stalled":
            self.server.hub.closing.wait(fault.seconds)
        elif fault.what == "dropped":  # a reset instead of an end
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Garbled:
    """A port whose answer to a TLS greeting is no TLS."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.port: int = self._socket.getsockname()[1]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="garbled", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                continue
            with connection, suppress(OSError):
                connection.settimeout(1.0)
                connection.recv(4096)
                connection.sendall(b"this is no TLS, whatever the address says\r\n" * 4)
