"""A repository laid out as a hub's cache, with the faults that published series have had."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from runs.models.tokenizer import save_tokenizer, train_tokenizer
from tests.runs.conftest import save_step, speeches

REPOSITORY = "somebody/tiny"
RATE = 256
SHARDS = 2
GOOD = ("step0", "step2", "step8", "step128")
BAD = {
    "step1": "duplicate: its weights are those of main/step0",
    "step4": "duplicate: its weights are those of main/step128",
    "step16": "partial duplicate: ",
    "step32": "truncated: ",
    "step64": "not finite: ",
}


def make_cache(root: Path) -> Path:
    """`models--somebody--tiny` with nine revisions; the folder of the cache."""
    work = root / "work"
    work.mkdir(parents=True)
    for step in (0, 2, 8, 16, 32, 64, 128):
        save_step(work, step)
        shard(work / f"step{step}")
    shutil.copytree(work / "step0", work / "step1")
    shutil.copytree(work / "step128", work / "step4")
    # The first shard is the final model's, as in pythia-12b.
    first = "model-00001-of-00002.safetensors"
    shutil.copy(work / "step128" / first, work / "step16" / first)
    truncated = work / "step32" / first
    truncated.write_bytes(truncated.read_bytes()[:-1000])
    spoilt = work / "step64" / "model-00002-of-00002.safetensors"
    tensors = load_file(spoilt)
    next(t for t in tensors.values() if t.ndim == 2).view(-1)[3] = float("nan")
    save_file(tensors, spoilt, metadata={"format": "pt"})
    to_bin(work / "step8")
    save_tokenizer(train_tokenizer(speeches(), vocabulary=300), work / "step128")
    for folder in sorted(work.iterdir()):
        add_revision(root, folder.name, folder)
    shutil.rmtree(work)
    return root


def shard(folder: Path) -> None:
    """Split the weights into two shards with an index."""
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    weight_map = {}
    for part in range(SHARDS):
        mine = names[part * len(names) // SHARDS : (part + 1) * len(names) // SHARDS]
        file = f"model-{part + 1:05d}-of-{SHARDS:05d}.safetensors"
        save_file({n: tensors[n] for n in mine}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(mine, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()


def to_bin(folder: Path) -> None:
    """As older series are: one pickle, no safetensors."""
    state: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    torch.save(state, folder / "pytorch_model.bin")


def add_revision(root: Path, revision: str, files: Path, repository: str = REPOSITORY) -> None:
    """Put files into the cache as a download does: blobs by hash, links in a snapshot, a ref."""
    base = root / f"models--{repository.replace('/', '--')}"
    commit = hashlib.sha1(revision.encode()).hexdigest()
    snapshot = base / "snapshots" / commit
    for folder in (base / "blobs", base / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (base / "refs" / revision).write_text(commit)
    for file in files.iterdir():
        large = file.suffix in (".safetensors", ".bin")
        content = file.read_bytes()
        digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % len(content))
        digest.update(content)
        blob = base / "blobs" / digest.hexdigest()
        blob.write_bytes(content)
        (snapshot / file.name).symlink_to(Path("../..") / "blobs" / blob.name)
