"""Fixtures: a hub that huggingface_hub, in this process or in another, takes for the real one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.server import Hub

_UNSET = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HUGGINGFACE_HUB_CACHE",
    "HF_TOKEN_PATH",
    "HF_DEBUG",
    "HF_HUB_ETAG_TIMEOUT",
    "HF_HUB_DOWNLOAD_TIMEOUT",
)


def settings(hub: Hub, home: Path) -> dict[str, str]:
    """Environment variables that lead to the hub, with a home of the client's own."""
    home.mkdir(parents=True, exist_ok=True)
    # Asked for by every process of the client that has no such file; then it asks no more.
    (home / ".agent_harnesses.json").write_text('{"harnesses": {}}')
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    """The whole environment of a subprocess; `more` adds to it or overrides."""
    kept = {name: value for name, value in os.environ.items() if name not in _UNSET}
    return {**kept, **settings(hub, home), **more}


def point_here(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead this process's client, imported long ago with other settings, to the hub."""
    from huggingface_hub import constants, hf_api, hf_file_system
    from huggingface_hub.utils import _cache_manager, _detect_agent, _http

    for name in _UNSET:
        monkeypatch.delenv(name, raising=False)
    for name, value in settings(hub, home).items():
        monkeypatch.setenv(name, value)
    cache = str(home / "hub")
    for name, constant in {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": cache,
        "HUGGINGFACE_HUB_CACHE": cache,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
    }.items():
        monkeypatch.setattr(constants, name, constant)
    monkeypatch.setattr(hf_api.api, "endpoint", hub.endpoint)
    monkeypatch.setattr(hf_file_system.hffs, "endpoint", hub.endpoint)
    monkeypatch.setattr(hf_file_system.hffs._api, "endpoint", hub.endpoint)
    monkeypatch.setattr(_cache_manager, "HF_HUB_CACHE", cache)
    monkeypatch.setattr(_detect_agent, "_registry", {"harnesses": {}})
    origins = _http._HUB_ORIGINS | {_http._url_origin(hub.endpoint)}
    monkeypatch.setattr(_http, "_HUB_ORIGINS", origins)
    forget()


def forget() -> None:
    """Connections and listings that the client keeps between calls."""
    from huggingface_hub import HfFileSystem, close_session, hf_file_system

    close_session()
    HfFileSystem.clear_instance_cache()
    hf_file_system.hffs.invalidate_cache()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, and this process's client pointed at it with an empty cache."""
    with Hub() as served:
        point_here(served, tmp_path / "hf_home", monkeypatch)
        try:
            yield served
        finally:
            forget()


def patience(monkeypatch: pytest.MonkeyPatch, *, longest: float = 0.01) -> list[float]:
    """Cut the client's waiting between its tries short; the list gets the seconds it asked for.

    It waits with `time.sleep` of its module; everyone else's stays as it is.
    """
    import time
    from types import SimpleNamespace

    from huggingface_hub import file_download
    from huggingface_hub.utils import _http

    asked: list[float] = []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        time.sleep(min(seconds, longest))

    for module in (_http, file_download):
        others = {name: getattr(time, name) for name in ("time", "monotonic", "perf_counter")}
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep, **others))
    return asked


def timeouts(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long the client waits for a silent server; refs, infos and trees have no limit at all."""
    from huggingface_hub import constants, file_download

    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, name, seconds)
    monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", seconds)
