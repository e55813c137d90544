"""A hub's fault is no checkpoint's: one line, exit 2, nothing failed; the run goes on when it is over."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from runs import run
from runs.errors import HubError, InputError
from runs.hub import client, listing
from runs.series import hub as hub_series
from runs.writing import FAILED
from tests.hub.doors import STEPS, Door
from tests.hub.fixtures import environment, forget
from tests.hub.series import FINEWEB, PYTHIA
from tests.hub.server import Hub

COMMANDS = ("plan", "fetch", "run", "verify")
LATER = formatdate(time.time() + 90_000, usegmt=True)
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "401": ({"what": "status", "status": 401, "code": ""}, "set HF_TOKEN"),
    "401 no repository": ({"what": "status", "status": 401}, "mend its name, or set HF_TOKEN"),
    "401 gated": ({"what": "status", "status": 401, "code": "GatedRepo"}, "accept its terms"),
    "403": ({"what": "status", "status": 403}, "set HF_TOKEN"),
    "403 gated": ({"what": "status", "status": 403, "code": "GatedRepo"}, "accept its terms"),
    "404": ({"what": "status", "status": 404}, "is HF_ENDPOINT right?"),
    "407": ({"what": "status", "status": 407}, "the proxy wants a login"),
    "429": ({"what": "status", "status": 429}, "too many requests"),
    "429 1 s": ({"what": "status", "status": 429, "retry_after": 1}, "asks to wait 1 s"),
    "429 long": ({"what": "status", "status": 429, "retry_after": 100_000}, "wait 100000 s"),
    "429 date": ({"what": "status", "status": 429, "retry_after": LATER}, "asks to wait 8"),
    "429 no number": (
        {"what": "status", "status": 429, "retry_after": "\xb2"},
        "too many requests",
    ),
    **{
        str(s): ({"what": "status", "status": s}, f"answers {s}") for s in (500, 502, 503, 504, 521)
    },
    "511": ({"what": "status", "status": 511}, "a web page instead of data"),
    "portal": ({"what": "html"}, "a web page instead of data"),
    "cut": ({"what": "cut"}, "the connection breaks off"),
    "cut body": ({"what": "cut", "after": 20}, "the connection breaks off"),
    "dropped": ({"what": "dropped"}, "the connection breaks off"),
    "dropped body": ({"what": "dropped", "after": 20}, "the connection breaks off"),
    "stalled": ({"what": "stalled"}, "no answer in time"),
    "stalled body": ({"what": "stalled", "after": 20}, "no answer in time"),
}
# What a command asks for on an empty cache, and the file.
MODEL = [("refs", "*"), ("tree", "*"), ("resolve-get", "config.json")]
TEXTS = [("info", "*"), ("tree", "*"), ("resolve-get", "README.md"), ("cdn", "*.parquet")]
PLACES = [
    *((PYTHIA, kind, file) for kind, file in MODEL),
    *((FINEWEB, kind, file) for kind, file in TEXTS),
    (PYTHIA, "resolve-get", "model.safetensors"),
    (PYTHIA, "cdn", "model.safetensors"),
]
ASKED = {  # by each command, as many of these places
    "plan": PLACES[:6],
    "verify": PLACES[:2],
    "fetch": PLACES,
    "run": PLACES,
}
_CDN = {"401", "401 no repository", "403", "404"}  # of another host they are not the hub's word


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)


def afresh(door: Door) -> None:
    shutil.rmtree(door.cache, ignore_errors=True)
    shutil.rmtree(door.store, ignore_errors=True)
    listing._asked.clear()
    client._waits.clear()
    door.hub.clear()


def refused(door: Door, command: str, recipe: Path, *words: str) -> str:
    """A command ends with one line, exit 2, and nothing failed; the line."""
    listing._asked.clear()
    code, out, err = door.cli(command, recipe)
    assert (code, err.count("\n")) == (2, 1), (command, code, out, err)
    assert err.startswith("phasescope: ")
    assert FAILED not in door.statuses(), (command, err)
    for word in (*words, *(() if "cannot be written" in err else ("; ",))):
        assert word in err, (command, word, err)
    assert "Traceback" not in out + err
    assert "thrown while" not in out + err
    return err


def finishes(door: Door, command: str, recipe: Path) -> str:
    """The fault is over: the same command comes to its end."""
    listing._asked.clear()
    code, out, err = door.cli(command, recipe)
    assert (code, err) == (0, ""), err
    if command == "run":
        assert door.statuses() == [1] * len(door.statuses()) != []
    return out


def faulty(door: Door, command: str, place: tuple[str, str, str], name: str) -> None:
    repository, kind, file = place
    options, word = FAULTS[name]
    afresh(door)
    fault = door.hub.fail(kind=kind, file=file, repository=repository, **options)
    if kind == "cdn" and name in _CDN:
        word = "for a file of the hub's"
    word = "" if kind == "cdn" and name == "407" else word
    err = refused(door, command, door.folder / "recipe.toml", word, repository)
    assert fault.hits, (command, place, name)
    host = door.hub.cdn if kind == "cdn" else door.hub.endpoint
    if "answers" in err or "cannot be reached" in err:
        assert host.split("/")[-1] in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_fault_is_one_line_and_nothing_failed(door: Door, command: str) -> None:
    """Each fault somewhere, each place with several faults; together all of them with all commands."""
    recipe = door.recipe()
    places = ASKED[command]
    for number, name in enumerate(FAULTS):
        faulty(door, command, places[(number + COMMANDS.index(command)) % len(places)], name)
    door.hub.clear()
    finishes(door, command, recipe)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_fault_at_every_place(door: Door, command: str) -> None:
    door.recipe()
    for place in ASKED[command]:
        for name in FAULTS:
            faulty(door, command, place, name)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_fault_that_passes_is_waited_for(
    door: Door, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for the wait, and all is done; in a pipe one line a checkpoint."""
    monkeypatch.setenv("PHASESCOPE_HUB_TRIES", "2")
    recipe = door.recipe()
    repository, kind, file = ASKED[command][-1]
    for name in ("429 1 s", "503", "dropped"):
        afresh(door)
        door.hub.fail(kind=kind, file=file, repository=repository, times=1, **FAULTS[name][0])
        out = finishes(door, command, recipe)
        waits = [line for line in out.splitlines() if "waiting" in line]
        assert len(waits) == 1, out
        assert FAULTS[name][1] in waits[0]
        if command in ("fetch", "run"):
            done = [line for line in out.splitlines() if line.startswith(("captured", "fetched"))]
            assert len(done) == len(STEPS)


def test_two_faults_one_after_the_other(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASESCOPE_HUB_TRIES", "2")
    recipe = door.recipe("prefetch = 0")
    door.hub.fail("status", kind="cdn", file="*.safetensors", status=503, times=1)
    door.hub.fail("cut", kind="cdn", file="*.safetensors", after=30_000, times=1)
    door.hub.fail("html", kind="cdn", file="*.safetensors", times=1)
    # A page is nothing that passes by itself: said at once, and the next run is on its way.
    refused(door, "run", recipe, "a web page")
    finishes(door, "run", recipe)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_what_is_here_is_captured_before_the_line(door: Door, prefetch: int) -> None:
    """The fault begins at the weights of one revision."""
    recipe = door.recipe(f"prefetch = {prefetch}")
    commits = door.hub.repository(PYTHIA).branches
    # Steps 0 and 4 are on this disk.
    text = recipe.read_text()
    recipe.write_text(text.replace("steps = [0, 1, 2, 4]", "steps = [0, 4]"))
    finishes(door, "fetch", recipe)
    recipe.write_text(text)
    for what in ("cut", "status"):
        door.hub.fail(what, kind="cdn", file="*.safetensors", revision=commits["step1"])
    door.hub.fail("status", kind="cdn", file="*.safetensors", revision=commits["step2"])
    refused(door, "run", recipe)
    assert sorted(door.statuses()) == [0] * 4 + [1] * 4  # two products of a checkpoint
    door.hub.clear()
    finishes(door, "run", recipe)
    assert {r.revision for r in door.hub.downloads(".safetensors")} <= {
        commits["step1"],
        commits["step2"],
    }


def test_a_fault_in_the_background_loses_nothing(door: Door) -> None:
    """Without any patience: what a fetch ahead could not have is asked for again when it is needed."""
    commits = door.hub.repository(PYTHIA).branches
    door.hub.fail("dropped", kind="cdn", file="*.safetensors", revision=commits["step2"], times=1)
    out = finishes(door, "run", door.recipe("prefetch = 2"))
    assert "captured main/step4, 4/4" in out


def test_a_terminal_shows_bars_of_its_own_and_one_line_a_wait(door: Door) -> None:
    """A real process at a terminal of 80 columns."""
    recipe = door.recipe()
    door.hub.fail("status", kind="cdn", file="*.safetensors", status=429, retry_after=1, times=2)
    door.hub.fail("slow", kind="cdn", file="*.safetensors", rate=200_000)
    words = [sys.executable, "-c", "from runs.cli import main; main()", "fetch", str(recipe)]
    more = {"PHASESCOPE_HUB_TRIES": "3", "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    env = environment(door.hub, door.cache.parent, **more)
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        screen = b""
        with suppress(OSError):  # of its end
            while piece := os.read(ours, 65536):
                screen += piece
    os.close(ours)
    text = screen.decode()
    if place := os.environ.get("SHOW_SCREEN"):
        Path(place).write_text(text)
    assert process.returncode == 0, text
    assert text.count("waiting 1 s") == 1  # though several fetches wait
    for foreign in ("thrown while", "Fetching", "it/s", "Retrying", "Warning", "Traceback"):
        assert foreign not in text
    assert "4/4" in text


def test_private_and_gated_repositories(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = door.recipe()
    repository = door.hub.repository(PYTHIA)
    repository.private = True
    for command in COMMANDS:
        refused(door, command, recipe, "mend its name, or set HF_TOKEN")
    repository.private, repository.gated = False, True
    for command in ("plan", "fetch", "run"):
        refused(door, command, recipe, "accept its terms")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for command in COMMANDS:
        refused(door, command, recipe, "does not take the token that is set")
    monkeypatch.setenv("HF_TOKEN", door.hub.token)
    refused(door, "run", recipe, "accept its terms")
    repository.granted.add(door.hub.token)
    door.hub.clear()
    finishes(door, "run", recipe)
    asked = [r for r in door.hub.records if r.kind != "cdn"]
    assert asked
    assert all(r.authorized for r in asked)
    assert door.hub.of_kind("cdn")
    assert not any(r.authorized for r in door.hub.of_kind("cdn"))


def test_the_token_follows_no_link_to_another_host(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next page of a list is the hub's that was asked, whatever host an answer names."""
    monkeypatch.setenv("HF_TOKEN", door.hub.token)
    commit = door.hub.repository(PYTHIA).branches["step4"]
    door.hub.page_size = 2
    monkeypatch.setattr(Hub, "endpoint", property(lambda served: served.cdn))  # of the next pages
    listing.files_at(PYTHIA, commit)
    asked = {(r.kind, r.authorized) for r in door.hub.records}
    assert len(door.hub.records) > 1
    assert asked == {("tree", True)}


def unreachable(door: Door, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    from huggingface_hub import hf_api

    monkeypatch.setattr(hf_api.api, "endpoint", endpoint)
    forget()


def test_no_name_no_port_no_tls(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = door.recipe()
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    for endpoint, word in (
        ("http://hub.invalid", "hub.invalid cannot be reached"),
        (f"http://127.0.0.1:{port}", "phasescope fetch RECIPE"),
        (door.hub.tls_endpoint, "(TLS: "),
    ):
        with monkeypatch.context() as patch:
            unreachable(door, patch, endpoint)
            for command in COMMANDS:
                refused(door, command, recipe, word)
    forget()
    finishes(door, "run", recipe)


def test_a_proxy_that_refuses(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = door.recipe()
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with monkeypatch.context() as patch:
        for name in ("NO_PROXY", "no_proxy"):
            patch.delenv(name)
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
            patch.setenv(name, f"http://somebody:secret@127.0.0.1:{port}")
        forget()
        for command in COMMANDS:
            err = refused(door, command, recipe, f"through the proxy 127.0.0.1:{port}", "NO_PROXY")
            assert "secret" not in err
        # The CDN speaks no CONNECT: to a client that wants TLS it is a proxy that says no.
        unreachable(door, patch, "https://hub.invalid")
        patch.setenv("https_proxy", door.hub.endpoint)
        patch.setenv("HTTPS_PROXY", door.hub.endpoint)
        forget()
        refused(door, "run", recipe, "the proxy does not let us through")
    forget()
    finishes(door, "plan", recipe)


def test_offline(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked; a plan is made from published tables and a verification is of what is here."""
    recipe = door.recipe()
    with monkeypatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        for command in ("fetch", "run"):
            refused(door, command, recipe, "HF_HUB_OFFLINE is set")
        assert door.cli("plan", recipe)[0] == 0
        assert "4 are not on this disk" in door.cli("verify", recipe)[1]
    assert door.hub.records == []
    finishes(door, "run", recipe)


def test_a_cache_that_cannot_be_written(door: Door) -> None:
    """A file where the cache should be; and one that fails only when the weights come."""
    blocked = door.folder / "no-folder"
    blocked.write_text("")
    recipe = door.recipe(f'cache = "{blocked}"')
    for command in ("plan", "fetch", "run"):
        refused(door, command, recipe, "cannot be written", "set series.cache")
    recipe = door.recipe()
    finishes(door, "plan", recipe)
    leases = door.cache / ".phasescope"
    shutil.rmtree(leases)
    leases.write_text("")
    for command in ("fetch", "run"):
        refused(door, command, recipe, "cannot be written")
    leases.unlink()
    finishes(door, "run", recipe)


def test_the_library_raises_what_the_command_says(door: Door) -> None:
    recipe = door.recipe()
    commits = door.hub.repository(PYTHIA).branches
    for number, name in enumerate(("403 gated", "429 long", "portal", "dropped", "503")):
        repository, kind, file = PLACES[(2 * number) % len(PLACES)]
        afresh(door)
        door.hub.fail(kind=kind, file=file, repository=repository, **FAULTS[name][0])
        with pytest.raises(InputError) as error:
            run(recipe)
        assert isinstance(error.value, HubError)
        assert FAULTS[name][1] in str(error.value)
        assert FAILED not in door.statuses()
    afresh(door)
    door.hub.fail("status", kind="refs", status=503, times=1)
    with pytest.raises(HubError, match="answers 503"):
        hub_series(PYTHIA, rate=1)
    assert [c.step for c in hub_series(PYTHIA, rate=1).checkpoints] == list(STEPS)
    tree = run(recipe)
    assert (tree["checkpoints"]["status"] == 1).all()
    assert list(tree["checkpoints"]["commit"].values) == [commits[f"step{s}"] for s in STEPS]
