"""What the products of predictive geometry cost beside the plain forward pass.

    python -m benchmarks.predictive RECIPE [--checkpoint -1] [--samples 320]

Processor time of this process, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from time import process_time

import torch

from benchmarks.numbers import positive, ratio
from runs.backends.torch_hooks import TorchHooks
from runs.inputs import InputSet
from runs.loading import load_model
from runs.passes import capture_set
from runs.plan import make_plan
from runs.points import choose_points
from runs.products import PRODUCTS
from runs.products.base import Spec
from runs.recipe import load_recipe


def seconds(backend: TorchHooks, spec: Spec, names: tuple[str, ...]) -> float:
    start = process_time()
    head = backend.loaded.unembedding
    collectors = [PRODUCTS[name].collector(spec, head) for name in names]
    capture_set(backend, spec.inputs, collectors, block=spec.capture.block)
    for collector in collectors:
        collector.finish()
    return process_time() - start


def first(inputs: InputSet, count: int) -> InputSet:
    return replace(
        inputs,
        tokens=inputs.tokens[:count],
        length=inputs.length[:count],
        fold=inputs.fold[:count],
        group=inputs.group[:count],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--checkpoint", type=int, default=-1)
    parser.add_argument("--samples", type=positive, default=320)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    plan = make_plan(load_recipe(asked.recipe))
    spec = next(iter(plan.specs.values()))
    inputs = first(spec.inputs, asked.samples)
    backend = TorchHooks(load_model(plan.series.checkpoints[asked.checkpoint].path))

    def specified(pools: tuple[str, ...]) -> Spec:
        fisher = spec.capture.fisher.model_copy(update={"pools": pools})
        capture = spec.capture.model_copy(update={"fisher": fisher})
        return replace(spec, inputs=inputs, points=choose_points(inputs), capture=capture)

    rows: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
        ("forward alone", (), ("last",)),
        ("tokens", ("tokens",), ("last",)),
        ("fisher, last tokens", ("fisher",), ("last",)),
        ("fisher, all tokens", ("fisher",), ("all",)),
        ("contexts", ("contexts",), ("last",)),
    ]
    seconds(backend, specified(("last",)), ("fisher",))  # warm
    alone = 0.0
    for label, names, pools in rows:
        best = min(seconds(backend, specified(pools), names) for _ in range(3))
        alone = alone or best
        print(f"{label:22s} {best:7.2f} s  {ratio(best, alone):>5} × forward", flush=True)


if __name__ == "__main__":
    main()
