"""The hub on the loopback against huggingface_hub's own client; nothing of phasescope is under test."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pyarrow.parquet as pq
import pytest
from huggingface_hub import (
    HfApi,
    HfFileSystem,
    constants,
    dataset_info,
    hf_hub_download,
    list_repo_refs,
    model_info,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from tests.hub import Hub
from tests.hub.fixtures import environment, patience, point_here, timeouts
from tests.hub.series import documents, parquet, publish_converted, publish_fineweb, publish_plain

NAME = "somebody/tiny"
WEIGHTS = bytes(range(256)) * 1200
LABEL = "stage1-step150-tokens1B"
SMALL = {"config.json": '{"model_type": "none"}', "tokenizer/vocab.txt": "a\nb\n"}


@pytest.fixture
def filled(hub: Hub, capsys: pytest.CaptureFixture[str]) -> Hub:
    hub.publish(NAME, {**SMALL, "model.safetensors": WEIGHTS})
    hub.publish(NAME, {**SMALL, "model.safetensors": WEIGHTS[::-1]}, LABEL)
    hub.publish(NAME, {"config.json": "{}"}, "refs/pr/1")
    hub.repository(NAME).tag("v1")
    return hub


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client wanted to wait between its tries."""
    return patience(monkeypatch)


def weights(revision: str = "main") -> bytes:
    return Path(hf_hub_download(NAME, "model.safetensors", revision=revision)).read_bytes()


def test_refs_are_listed(filled: Hub) -> None:
    publish_converted(filled)
    refs = list_repo_refs(NAME)
    commits = filled.repository(NAME).branches
    assert {b.name: b.target_commit for b in refs.branches} == commits
    assert [(t.name, t.ref) for t in refs.tags] == [("v1", "refs/tags/v1")]
    converted = list_repo_refs("somebody/converted-text", repo_type="dataset").converts
    assert [(c.name, c.ref) for c in converted] == [("parquet", "refs/convert/parquet")]


def test_trees_come_in_pages(filled: Hub) -> None:
    filled.page_size = 2
    tree = list(HfApi().list_repo_tree(NAME, revision=LABEL, recursive=True))
    names = ["config.json", "model.safetensors", "tokenizer", "tokenizer/vocab.txt"]
    assert [entry.path for entry in tree] == names
    assert len(filled.of_kind("tree")) == 2
    large = tree[1]
    assert isinstance(large, RepoFile)
    assert large.lfs is not None
    assert large.lfs.sha256 == hashlib.sha256(WEIGHTS[::-1]).hexdigest()
    assert [e.path for e in HfApi().list_repo_tree(NAME, "tokenizer")] == ["tokenizer/vocab.txt"]
    expanded = list(HfApi().list_repo_tree(NAME, expand=True, revision="refs/pr/1"))
    assert expanded[0].last_commit is not None


def test_infos_name_commits_and_files(filled: Hub) -> None:
    publish_plain(filled)
    commits = filled.repository(NAME).branches
    assert model_info(NAME).sha == commits["main"]
    info = model_info(NAME, revision=LABEL, files_metadata=True)
    assert info.sha == commits[LABEL]
    assert info.siblings is not None
    sizes = {s.rfilename: (s.size, s.lfs is not None) for s in info.siblings}
    assert sizes["model.safetensors"] == (len(WEIGHTS), True)
    assert sizes["config.json"] == (len(SMALL["config.json"]), False)
    held = filled.repository("somebody/plain-text", "dataset")
    assert dataset_info("somebody/plain-text").sha == held.branches["main"]
    paths = HfApi().get_paths_info(NAME, ["config.json", "tokenizer", "none"], revision=LABEL)
    assert [p.path for p in paths] == ["config.json", "tokenizer"]


def test_small_files_come_directly_and_large_ones_through_the_cdn(filled: Hub) -> None:
    path = Path(hf_hub_download(NAME, "config.json", revision="refs/pr/1"))
    assert path.read_text() == "{}"
    assert path.parent.name == filled.repository(NAME).pulls["1"]
    assert weights(LABEL) == WEIGHTS[::-1]
    assert [r.kind for r in filled.downloads()] == ["resolve-get", "cdn"]
    commit = filled.repository(NAME).branches["main"]
    assert weights(commit) == WEIGHTS
    assert filled.bytes_of(".safetensors") == 2 * len(WEIGHTS)
    assert weights(commit) == WEIGHTS
    assert len(filled.downloads(".safetensors")) == 2


def test_a_snapshot_fetches_what_its_patterns_name(filled: Hub) -> None:
    folder = Path(snapshot_download(NAME, revision="v1", allow_patterns=["*.json", "tokenizer/*"]))
    files = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
    assert files == sorted(SMALL)
    assert filled.downloads(".safetensors") == []
    filled.clear()
    snapshot_download(NAME, revision="v1")
    assert [r.path for r in filled.downloads()] == ["model.safetensors"]


def test_one_row_group_reads_few_bytes(hub: Hub) -> None:
    texts = documents(400, words=400)
    content = parquet(texts, groups=8)
    hub.publish("somebody/text", {"data/train.parquet": content}, kind="dataset")
    files = HfFileSystem()
    with files.open("datasets/somebody/text/data/train.parquet", cache_type="none") as file:
        table = pq.ParquetFile(file).read_row_group(3, columns=["text"])
    assert table["text"].to_pylist() == texts[150:200]
    assert all(r.range is not None and r.status == 206 for r in hub.downloads(".parquet"))
    assert 0 < hub.bytes_of(".parquet") < len(content) / 4


def test_datasets_lie_as_the_published_ones_do(hub: Hub) -> None:
    held = publish_fineweb(hub)
    publish_converted(hub)
    files = HfFileSystem()
    found = files.glob("datasets/HuggingFaceFW/fineweb/sample/10BT/*")
    assert len(found) == 3
    assert {f.removeprefix("datasets/HuggingFaceFW/fineweb/") for f in found} < set(held)
    path = "datasets/somebody/converted-text@refs/convert/parquet/default/train/0000.parquet"
    with files.open(path) as file:
        assert pq.ParquetFile(file).num_row_groups == 2


def test_what_is_not_there_is_refused_as_the_hub_refuses(filled: Hub) -> None:
    with pytest.raises(RepositoryNotFoundError) as error:
        model_info("somebody/none")
    assert error.value.response.status_code == 401
    with pytest.raises(RepositoryNotFoundError) as error:
        list_repo_refs("somebody/none", token=filled.token)
    assert error.value.response.status_code == 404
    with pytest.raises(RevisionNotFoundError):
        model_info(NAME, revision="step3")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(NAME, "config.json", revision="step3")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(NAME, "none.json")
    with pytest.raises(EntryNotFoundError):
        list(HfApi().list_repo_tree(NAME, "none"))
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        model_info(NAME, token="hf_other")


def test_private_and_gated_ones_ask_for_a_token(hub: Hub) -> None:
    hub.add("somebody/private", private=True).commit({"a.bin": WEIGHTS})
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("somebody/private", "a.bin")
    hf_hub_download("somebody/private", "a.bin", token=hub.token)
    assert [(r.kind, r.authorized) for r in hub.downloads()] == [("cdn", False)]
    hub.add("somebody/gated", gated=True, granted={"hf_granted"}).commit({"a.json": "{}"})
    assert model_info("somebody/gated").gated == "auto"
    for token, status in ((None, 401), (hub.token, 403)):
        with pytest.raises(GatedRepoError) as error:
            hf_hub_download("somebody/gated", "a.json", token=token)
        assert error.value.response.status_code == status
    hf_hub_download("somebody/gated", "a.json", token="hf_granted")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_the_client_tries_listings_again(filled: Hub, status: int, asked: list[float]) -> None:
    filled.fail("status", kind="tree", status=status, times=2)
    assert len(list(HfApi().list_repo_tree(NAME))) == 3
    assert asked == [1, 2]


def test_refs_and_infos_have_one_try(filled: Hub, asked: list[float]) -> None:
    filled.fail("status", kind=("refs", "info"), status=503)
    for call in (list_repo_refs, model_info):
        with pytest.raises(HfHubHTTPError):
            call(NAME)
    assert len(filled.records) == 2
    assert asked == []


def test_retry_after_is_obeyed(filled: Hub, asked: list[float]) -> None:
    filled.fail("status", kind="cdn", status=429, times=1, retry_after=7)
    assert weights() == WEIGHTS
    assert asked == [8.0]
    filled.fail("status", kind="tree", status=429)
    with pytest.raises(HfHubHTTPError, match="429"):
        list(HfApi().list_repo_tree(NAME))
    assert asked[1:] == [1, 2, 4, 8, 8]


def test_a_failing_cdn_is_not_asked_again(filled: Hub, asked: list[float]) -> None:
    filled.fail("status", kind="cdn", status=503)
    with pytest.raises(HfHubHTTPError, match="503"):
        weights()
    assert len(filled.of_kind("cdn")) == 1


def test_a_failing_head_is_tried_again_then_given_up(filled: Hub, asked: list[float]) -> None:
    fault = filled.fail("status", kind="resolve-head", status=500)
    with pytest.raises(LocalEntryNotFoundError):
        weights()
    assert fault.hits == 7  # once without patience, then six times with
    assert asked == [1, 2, 4, 8, 8]


def test_forbidden_and_gated(filled: Hub) -> None:
    filled.fail("status", kind="info", status=403, times=1, message="No")
    with pytest.raises(HfHubHTTPError, match="403 Forbidden: No"):
        model_info(NAME)
    filled.fail("status", kind="resolve-head", status=403, code="GatedRepo")
    with pytest.raises(GatedRepoError):
        weights()
    filled.fail("status", kind="refs", status=401)
    with pytest.raises(RepositoryNotFoundError):
        list_repo_refs(NAME)


def test_a_portal_answers_everything_with_a_page(filled: Hub) -> None:
    filled.fail("html")
    for call in (list_repo_refs, model_info):
        with pytest.raises(ValueError, match="Expecting value"):
            call(NAME)
    with pytest.raises(LocalEntryNotFoundError, match="X-Repo-Commit"):
        weights()


def test_a_cut_body_is_resumed(
    filled: Hub, monkeypatch: pytest.MonkeyPatch, asked: list[float]
) -> None:
    # Parts of a chunk (10 MiB unless one says so) are thrown away.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)
    filled.fail("cut", kind="cdn", after=100_000, times=1)
    assert weights() == WEIGHTS
    first, second = filled.downloads(".safetensors")
    assert (first.range, first.sent) == (None, 100_000)
    assert (second.range, second.status) == (f"bytes={6 << 14}-", 206)
    assert second.sent == len(WEIGHTS) - (6 << 14)
    assert asked == [1]


def test_a_body_always_cut_is_given_up(filled: Hub, asked: list[float]) -> None:
    filled.fail("cut", kind="cdn", after=0)
    with pytest.raises(httpx2.RemoteProtocolError):
        weights()
    assert len(filled.of_kind("cdn")) == 6
    assert asked == [1] * 5


@pytest.mark.parametrize("after", [None, 0, 1000])
def test_silence_ends_with_the_clients_timeout(
    filled: Hub, monkeypatch: pytest.MonkeyPatch, asked: list[float], after: int | None
) -> None:
    timeouts(monkeypatch, 0.2)
    filled.fail("stalled", kind="cdn", after=after, times=1)
    assert weights() == WEIGHTS
    assert len(filled.of_kind("cdn")) == 2


def test_silence_before_a_head(
    filled: Hub, monkeypatch: pytest.MonkeyPatch, asked: list[float]
) -> None:
    timeouts(monkeypatch, 0.2)
    filled.fail("stalled", kind="resolve-head", times=2)
    assert weights() == WEIGHTS
    assert asked == [1]


def test_a_reset_connection(filled: Hub, asked: list[float]) -> None:
    filled.fail("dropped", kind="info", times=1)
    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        model_info(NAME)
    filled.fail("dropped", kind="tree", times=1)
    assert len(list(HfApi().list_repo_tree(NAME))) == 3
    # The download knows cut bodies, not resets.
    filled.fail("dropped", kind="cdn", after=1000, times=1)
    with pytest.raises(httpx2.ReadError):
        weights()


def test_a_flipped_byte_goes_unseen(filled: Hub) -> None:
    filled.fail("flipped", kind="cdn", at=70_000, times=1)
    got = weights()
    assert [i for i in range(len(got)) if got[i] != WEIGHTS[i]] == [70_000]


def test_slow_answers(filled: Hub) -> None:
    filled.fail("slow", kind="cdn", rate=1_000_000)
    began = time.monotonic()
    assert weights() == WEIGHTS
    assert 0.2 < time.monotonic() - began < 5


def test_a_branch_moves(filled: Hub) -> None:
    repository = filled.repository(NAME)
    old = repository.branches["main"]
    weights()
    new = repository.move("main", {"model.safetensors": b"new"})
    assert model_info(NAME).sha == new != old
    assert weights() == b"new"
    assert model_info(NAME, revision=old).sha == old
    repository.move("main", {"model.safetensors": b"newer"}, keep=False)
    with pytest.raises(RevisionNotFoundError):
        model_info(NAME, revision=new)


def test_revisions_and_files_go(filled: Hub) -> None:
    repository = filled.repository(NAME)
    repository.remove_revision(LABEL)
    with pytest.raises(RevisionNotFoundError):
        weights(LABEL)
    assert LABEL not in [b.name for b in list_repo_refs(NAME).branches]
    repository.remove_file("model.safetensors")
    with pytest.raises(EntryNotFoundError):
        weights()
    repository.lose("config.json")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(NAME, "config.json", revision="v1")


def test_a_redirect_that_leads_nowhere(filled: Hub, asked: list[float]) -> None:
    filled.fail("redirect-lost", kind="resolve-head", location="http://localhost:9/gone")
    with pytest.raises(httpx2.ConnectError):
        weights()
    assert asked == [1] * 5


def test_tls_is_not_spoken(
    filled: Hub, monkeypatch: pytest.MonkeyPatch, asked: list[float]
) -> None:
    with pytest.raises(httpx2.ConnectError, match="SSL"):
        HfApi(endpoint=filled.tls_endpoint).model_info(NAME)


def test_a_subprocess_finds_the_hub(filled: Hub, tmp_path: Path) -> None:
    code = f"from huggingface_hub import model_info; print(model_info({NAME!r}).sha)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(filled, tmp_path / "theirs"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == filled.repository(NAME).branches["main"]
    assert done.stderr == ""
    assert [r.kind for r in filled.records] == ["info"]


def test_closing_ends_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub() as first:
        point_here(first, tmp_path, monkeypatch)
        first.publish(NAME, SMALL)
        model_info(NAME)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    with pytest.raises(httpx2.ConnectError):
        model_info(NAME)
    assert os.environ["HF_ENDPOINT"] == first.endpoint
