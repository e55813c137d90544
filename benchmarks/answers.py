"""Cost of the visit `answers` against bare forward passes, and against asking case by case.

python -m benchmarks.answers [--groups 12] [--repeats 5] [--threads 1]

The tiny vision-language model, untrained, on its own cases; medians of paired runs in one process.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.capture import load, paired, peak_mb
from benchmarks.numbers import positive
from runs.loaded import LoadedModel
from runs.loading import load_model, quiet_transformers
from runs.models.tiny_vlm import build_tokenizer
from runs.models.vlm_training import VlmConfig, build_model
from runs.plan import make_plan
from runs.products.base import Spec
from runs.recipe import load_recipe
from runs.vision.asking import answers_of, batches, open_adapter, questions, scenes_of, shown
from runs.vision.base import CONDITIONS
from runs.visits.answers import NAME, ROW

_RECIPE = """
name = "answers"
store = "answers.zarr"
[series]
path = "series"
tokens_per_step = 1
[inputs.scenes]
mode = "scenes"
style = "tiny"
groups = {groups}
shuffle_seed = 0
kinds = ["conflict", "agreement", "irrelevant_text", "irrelevant_image"]
[capture]
products = []
visits = ["answers"]
block = 128
"""


def make(folder: Path, groups: int) -> tuple[LoadedModel, Spec]:
    """An untrained model, and the cases as a recipe makes them."""
    checkpoint = folder / "series" / "step0"
    with quiet_transformers():
        build_model(VlmConfig()).save_pretrained(checkpoint)
        build_tokenizer().save_pretrained(checkpoint)
    (folder / "recipe.toml").write_text(_RECIPE.format(groups=groups))
    spec = make_plan(load_recipe(folder / "recipe.toml")).specs["scenes"]
    return load_model(checkpoint), spec


def bare(loaded: LoadedModel, spec: Spec, *, every_case: bool) -> int:
    """Final answers only: of each distinct question, or of every case as it comes; gives how many."""
    scenes = scenes_of(spec, NAME)
    cases = scenes.cases
    adapter = open_adapter(loaded, spec, cases, answers_of(spec, cases))
    asked_in_all = 0
    for condition in CONDITIONS:
        asked = questions(cases, condition)
        if every_case:
            texts = [asked.texts[row] for row in asked.row]
            images = None if asked.images is None else [asked.images[row] for row in asked.row]
            size = spec.capture.block
            parts = [
                (texts[at : at + size], shown(scenes, images and images[at : at + size]))
                for at in range(0, len(texts), size)
            ]
        else:
            parts = [(texts, images) for _, texts, images in batches(spec, scenes, asked)]
        for words, pictures in parts:
            asked_in_all += len(words)
            with torch.inference_mode():
                last = loaded.model.base_model(**adapter.inputs(words, pictures), use_cache=False)
                adapter.final_logits(last.last_hidden_state[:, -1])
    return asked_in_all


def main() -> None:
    parser = argparse.ArgumentParser(description="the visit `answers` against bare forward passes")
    parser.add_argument("--groups", type=positive, default=12)
    parser.add_argument("--repeats", type=positive, default=5)
    parser.add_argument("--threads", type=positive, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        loaded, spec = make(Path(folder), args.groups)
        few, many = (bare(loaded, spec, every_case=every) for every in (False, True))
        before = peak_mb()
        ROW.function(loaded, spec)
        growth = peak_mb() - before
        seconds, others = paired(
            lambda: bare(loaded, spec, every_case=False),
            {
                "answers: every layer, logit lens, entropies": lambda: ROW.function(loaded, spec),
                "bare, case by case": lambda: bare(loaded, spec, every_case=True),
            },
            args.repeats,
        )
    cases = len(scenes_of(spec, NAME).cases)
    print(f"{cases} cases, {many} questions, {few} of them distinct; {args.threads} threads;")
    print(f"the visit's peak {growth:.0f} MB above the bare passes'; load {load()}\n")
    print("| | seconds | × bare |\n|---|---|---|")
    print(f"| bare, distinct questions | {seconds:.2f} | 1 |")
    for name, (own, ratio) in others.items():
        print(f"| {name} | {own:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
