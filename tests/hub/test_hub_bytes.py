"""The bytes are the hub's: flipped ones are fetched once more, then that checkpoint fails alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from runs.hub import listing
from runs.hub.cache import repository_folder
from runs.hub.download import digester
from runs.store import open_store
from runs.writing import DONE, FAILED
from tests.hub.doors import STEPS, Door
from tests.hub.faults import Fault, Kind
from tests.hub.series import PYTHIA, publish_series, pythia_steps
from tests.runs.conftest import sets_digest
from tests.runs.hub_cache import to_bin

SHARD = "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
FORMS = {  # of the weights, and the files that may be damaged
    "whole": ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"),
    "sharded": (INDEX, SHARD),
    "bin": ("pytorch_model.bin",),
}
POSITIONS = (0, 9, -1, 1 << 13)  # first byte, header, last, middle
QUICK = ("tokenizer.json", INDEX, "model.safetensors")
EVERY = [
    pytest.param(form, file, marks=() if file in QUICK else pytest.mark.slow)
    for form, files in FORMS.items()
    for file in files
]


def published(door: Door, form: str, *, own: str = "") -> dict[str, str]:
    """The series in a form; `own` is a revision whose small files are not those of the others."""
    root = door.folder / f"{form}-{own}"
    folders = pythia_steps(root, STEPS, sharded=form != "whole")
    for name, folder in folders.items():
        if form == "bin":
            to_bin(folder)
        if name == own:
            for file in (*folder.glob("*.json"), *folder.glob("*.txt")):
                file.write_text(file.read_text() + "\n")
    return publish_series(door.hub, PYTHIA, folders)


def command(door: Door, *words: object) -> tuple[int, str]:
    listing._asked.clear()
    code, out, err = door.cli(*words)
    assert err == ""
    return code, out


def flipped(door: Door, file: str, **options: Any) -> Fault:
    kind: Kind = "cdn" if file.endswith((".safetensors", ".bin")) else "resolve-get"
    return door.hub.fail("flipped", kind=kind, file=file, **options)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1
    path.write_bytes(content)


def blobs_are_named_by_their_digests(door: Door) -> int:
    found = list((repository_folder(PYTHIA, door.cache) / "blobs").iterdir())
    for blob in found:
        state = digester(blob.name, blob.stat().st_size)
        state.update(blob.read_bytes())
        assert blob.name == state.hexdigest()
    return len(found)


def status(door: Door) -> dict[str, int]:
    found = open_store(door.store)["checkpoints"]["status"].max("product")
    return dict(zip(found["checkpoint"].values, found.values.tolist(), strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_flipped_once_is_fetched_once_more(door: Door, form: str) -> None:
    published(door, form)
    recipe = door.recipe()
    for file in FORMS[form]:
        for at in POSITIONS:
            shutil.rmtree(door.cache, ignore_errors=True)
            door.hub.clear()
            fault = flipped(door, file, at=at, times=1)
            code, out = command(door, "fetch", recipe)
            assert (code, fault.hits) == (0, 1)
            assert f"{file}: what came is not the hub's bytes; fetching it once more" in out
            assert blobs_are_named_by_their_digests(door) > len(STEPS)
    assert command(door, "verify", recipe)[0] == 0


def test_every_file_flipped_once_is_captured_as_published(door: Door) -> None:
    recipe = door.recipe()
    commits = door.hub.repository(PYTHIA).branches
    for file in FORMS["whole"][:3]:
        flipped(door, file, at=40, times=1)
    for step in STEPS:
        flipped(door, "model.safetensors", revision=commits[f"step{step}"], at=40, times=1)
    assert command(door, "run", recipe)[0] == 0
    assert set(status(door).values()) == {DONE}
    command(door, "run", door.local_recipe())
    assert sets_digest(door.store) == sets_digest(door.folder / "local.zarr")


@pytest.mark.parametrize(
    ("form", "file", "revision"),
    [pytest.param(*case.values, "step2", marks=case.marks) for case in EVERY]
    + [("whole", "config.json", "step4")],
)
def test_what_stays_flipped_fails_alone_until_it_is_over(
    door: Door, form: str, file: str, revision: str
) -> None:
    commits = published(door, form, own=revision)
    flipped(door, file, revision=commits[revision], at=-1)
    recipe = door.recipe("prefetch = 1")
    code, out = command(door, "run", recipe)
    assert code == 1
    label = f"main/{revision}"
    assert status(door) == {f"main/step{s}": DONE for s in STEPS} | {label: FAILED}
    blob = door.hub.repository(PYTHIA).at(revision).files[file]
    reason = str(open_store(door.store)["checkpoints"]["error"].sel(checkpoint=label).values[0])
    kind = "SHA-256" if blob.sha256 else "git hash"
    assert f"its {kind} is " in reason
    assert f"the hub says {blob.etag}" in reason
    assert file in reason
    assert reason.split(f"its {kind} is ")[1].split(",")[0] != blob.etag
    # Without --retry it stays so; with it, it is captured.
    door.hub.clear()
    assert command(door, "run", recipe)[0] == 1
    assert door.hub.downloads() == []
    code, out = command(door, "run", "--retry", recipe)
    assert code == 0, out
    assert set(status(door).values()) == {DONE}


@pytest.mark.parametrize(("form", "file"), EVERY)
def test_what_went_bad_in_the_cache_is_fetched_once_more(door: Door, form: str, file: str) -> None:
    commits = published(door, form)
    recipe = door.recipe()
    assert command(door, "fetch", recipe)[0] == 0
    snapshot = repository_folder(PYTHIA, door.cache) / "snapshots" / commits["step2"]
    flip((snapshot / file).resolve(), 9)
    code, out = command(door, "verify", recipe)
    assert code == 1
    assert "not the hub's bytes" in out
    door.hub.clear()
    code, out = command(door, "run", recipe)
    assert code == 0, out
    assert set(status(door).values()) == {DONE}
    assert [r.path for r in door.hub.downloads()] == [file]
    assert blobs_are_named_by_their_digests(door) > len(STEPS)
    assert (snapshot / file).is_file()
    assert command(door, "verify", recipe)[0] == 0


def test_a_bad_blob_without_a_link_is_not_taken(door: Door) -> None:
    """What an interrupted fetch or another program left is compared before it is linked."""
    recipe = door.recipe()
    assert command(door, "fetch", recipe)[0] == 0
    folder = repository_folder(PYTHIA, door.cache)
    shutil.rmtree(folder / "snapshots")
    for blob in (folder / "blobs").iterdir():
        flip(blob, -1)
    assert command(door, "fetch", recipe)[0] == 0
    assert blobs_are_named_by_their_digests(door) > len(STEPS)
    door.hub.clear()
    shutil.rmtree(folder / "snapshots")
    assert command(door, "fetch", recipe)[0] == 0
    assert door.hub.downloads() == []


def test_cuts_lose_nothing_and_are_not_counted_while_bytes_come(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASESCOPE_HUB_TRIES", "1")
    recipe = door.recipe()
    recipe.write_text(recipe.read_text().replace("steps = [0, 1, 2, 4]", "steps = [4]"))
    size = (door.checkpoints / "step4" / "model.safetensors").stat().st_size
    door.hub.fail("cut", kind="cdn", file="*.safetensors", after=size // 3 + 1)
    assert command(door, "fetch", recipe)[0] == 0
    assert len(door.hub.downloads(".safetensors")) == 3
    assert door.hub.bytes_of(".safetensors") == size
    blobs_are_named_by_their_digests(door)
