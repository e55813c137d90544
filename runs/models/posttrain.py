"""Post-training of a small model: imitation, preference, reward, each a branch of its series.

The chain is that of Tülu 3 (arXiv 2411.15124), as in arXiv 2509.23024 §5: supervised fine-tuning on
questions with answers (`sft`), direct preference optimisation (`dpo`), and reinforcement learning with a
reward that a program checks (`rlvr`). Beside it, fine-tuning from several checkpoints of pretraining.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from probes.arithmetic import Problem, addition_problems
from runs.checkpoints import Checkpoint
from runs.errors import InputError, PhasescopeError
from runs.folders import local
from runs.loading import quiet_transformers
from runs.models.answers import AnswerBatch, draw, encode
from runs.models.atomic import whole
from runs.models.diverging import DivergedError, check_update, check_weights
from runs.models.neox import batch_rows
from runs.models.objectives import (
    answer_log_likelihoods,
    group_advantages,
    imitation_loss,
    policy_loss,
    preference_loss,
)
from runs.models.tokenizer import copy_tokenizer
from runs.models.training_run import MANIFEST, locked, no_bar, threads_set, write_json

Progress = Callable[[str, int, int, float], None]
_Losses = Iterator[tuple[int, float]]  # step and loss of every update
_Stage = Callable[[Any, int], _Losses]  # from a model and a number of updates


@dataclass(frozen=True)
class PostConfig:
    """Everything that decides the weights of post-training, but the model it starts from.

    Attributes
    ----------
    largest : int
        Sums are of numbers 0 … `largest`.
    sft_steps, dpo_steps, rlvr_steps : int
        Updates of each branch.
    sft_lr, dpo_lr, rlvr_lr : float
        Learning rates: constant after a tenth of warm-up.
    batch : int
        Answers, or pairs of answers, an update.
    beta : float
        Of direct preference optimisation.
    problems, draws : int
        Of an update of `rlvr`: so many problems, and so many draws of each.
    kept : int
        Checkpoints kept of each branch.
    seed, threads : int
        Of problems, order and draws; threads of one operation.
    """

    largest: int = 30
    sft_steps: int = 400
    dpo_steps: int = 60
    rlvr_steps: int = 100
    sft_lr: float = 1e-3
    dpo_lr: float = 5e-5
    rlvr_lr: float = 2e-4
    batch: int = 32
    beta: float = 0.1
    problems: int = 16
    draws: int = 16
    kept: int = 5
    clip: float = 1.0
    seed: int = 0
    threads: int = 2


_DEFAULT = PostConfig()


def post_train(
    base: str | Path,
    folder: str | Path,
    config: PostConfig = _DEFAULT,
    *,
    starts: Sequence[int] = (64, 181, 362, 724),
    progress: Progress | None = None,
) -> Path:
    """Train the branches and write them as one series with the checkpoints they come from.

    Parameters
    ----------
    base
        Series of the pretrained model: as `runs.models.pretrain.train` leaves it.
    folder
        Gets one folder a checkpoint, the tokenizer, `problems.jsonl` and the like, and a manifest
        `series.json`. A second call trains only branches that are not whole.
    config
        Hyper-parameters.
    starts
        Steps of pretraining from which fine-tuning starts as well, beside the last.
    progress
        Called after every update with branch, step, steps and loss.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If `base` is no series or lacks a step, or `folder` holds other post-training.
    PhasescopeError
        If a loss, a gradient, a weight or a probability stops being a number.

    Notes
    -----
    About two minutes on two cores for the default model. Each branch is repeatable byte for byte on one
    machine and thread count; one that is killed is trained again from its own beginning.
    """
    root, series = Path(folder), local(base)
    main = [c for c in series.checkpoints if c.branch == "main"]
    by_step = {c.step: c for c in main}
    lacking = sorted(set(starts) - set(by_step))
    if lacking:
        raise InputError(f"{base}: no checkpoint at step {lacking[0]}; give other `starts`")
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        run = _Run(root, config, [*(by_step[s] for s in sorted(starts)), main[-1]], progress)
        run.claim(str(series.name))
        copy_tokenizer(Path(base), root)
        with threads_set(config.threads):
            run.all_branches()
    return root


@dataclass
class _Run:
    root: Path
    config: PostConfig
    bases: list[Checkpoint]
    progress: Progress | None

    def claim(self, name: str) -> None:
        """Compare with what is there, or begin."""
        told = {**asdict(self.config), "bases": [c.label for c in self.bases], "base": name}
        manifest = self.root / MANIFEST
        if not manifest.is_file():
            write_json(manifest, {"training": told, "checkpoints": []})
            return
        there = json.loads(manifest.read_text(encoding="utf-8")).get("training", {})
        keys = [k for k in {**there, **told} if there.get(k) != told.get(k)]
        if keys:
            shown = ", ".join(f"{k} is {there.get(k)!r}, not {told.get(k)!r}" for k in keys)
            raise InputError(f"{self.root}: holds other post-training: {shown}; give a new folder")

    def all_branches(self) -> None:
        tokenizer = AutoTokenizer.from_pretrained(self.root, local_files_only=True)
        train = addition_problems(
            self._size("train"), seed=self.config.seed, split="train", largest=self.config.largest
        )
        data = encode(tokenizer, train)
        last = self.bases[-1]
        sft = self._branch("sft", last.path, self.config.sft_steps, self._imitate(data))
        dpo = self._branch("dpo", sft, self.config.dpo_steps, self._prefer(data))
        self._branch("rlvr", dpo, self.config.rlvr_steps, self._reward(data))
        for base in self.bases[:-1]:
            name = f"sft-from-{base.step}"
            self._branch(name, base.path, self.config.sft_steps, self._imitate(data), kept=1)
        self._write_problems()
        self._write_manifest()

    def _size(self, split: str) -> int:
        pairs = (self.config.largest + 1) ** 2
        return pairs // 5 if split == "test" else pairs - pairs // 5

    def _branch(
        self, name: str, start: Path, steps: int, stage: _Stage, *, kept: int | None = None
    ) -> Path:
        """Train one branch unless its last checkpoint is there; returns that."""
        marks = _marks(steps, self.config.kept if kept is None else kept)
        final = self.root / _folder(name, steps)
        if not final.is_dir():
            with quiet_transformers():
                model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
            model.train()
            try:
                for step, loss in stage(model, steps):
                    if step in marks:
                        check_weights(step, model)
                        self._keep(model, name, step)
                    if self.progress is not None:
                        self.progress(name, step, steps, loss)
            except DivergedError as error:
                raise PhasescopeError(f"{self.root}: {name}: {error}; lower its rate") from None
        return final

    def _keep(self, model: Any, name: str, step: int) -> None:
        target = self.root / _folder(name, step)
        if not target.is_dir():
            target.parent.mkdir(exist_ok=True)
            with whole(target) as partial, no_bar():
                model.save_pretrained(partial)

    def _imitate(self, data: AnswerBatch) -> _Stage:
        def stage(model: Any, steps: int) -> _Losses:
            optimizer = _adam(model)
            for step in range(1, steps + 1):
                batch = data.rows(_picked(self.config, step, len(data), "sft"))
                loss = imitation_loss(model(batch.tokens).logits, batch.tokens, batch.mask)
                rate = self._rate("sft", step, steps)
                yield step, _descend(model, optimizer, loss, rate, step)

        return stage

    def _prefer(self, data: AnswerBatch) -> _Stage:
        """Pairs of the right answer and a wrong one that the model itself gives."""

        def stage(model: Any, steps: int) -> _Losses:
            pairs, wrong = _wrong_answers(model, data, self.config)
            right = data.rows(pairs)
            with torch.no_grad():
                held = [_whole_answers(model, part) for part in (right, wrong)]
            optimizer = _adam(model)
            for step in range(1, steps + 1):
                rows = _picked(self.config, step, len(right), "dpo")
                good, bad = right.rows(rows), wrong.rows(rows)
                loss = preference_loss(
                    _whole_answers(model, good),
                    _whole_answers(model, bad),
                    held[0][rows],
                    held[1][rows],
                    beta=self.config.beta,
                )
                rate = self._rate("dpo", step, steps)
                yield step, _descend(model, optimizer, loss, rate, step)

        return stage

    def _reward(self, data: AnswerBatch) -> _Stage:
        config = self.config

        def stage(model: Any, steps: int) -> _Losses:
            optimizer = _adam(model)
            generator = torch.Generator().manual_seed(config.seed)
            for step in range(1, steps + 1):
                rows = _picked(config, step, len(data), "rlvr")[: config.problems]
                asked = data.rows(np.repeat(rows, config.draws))
                drawn = draw(model, asked, generator=generator)
                reward = drawn.equal(asked).float().view(len(rows), config.draws)
                advantage = group_advantages(reward).flatten()
                logits = model(drawn.tokens).logits
                logp = answer_log_likelihoods(logits, drawn.tokens, drawn.mask)
                loss = policy_loss(logp, drawn.mask[:, 1:], advantage)
                _descend(model, optimizer, loss, self._rate("rlvr", step, steps), step)
                yield step, float(1.0 - reward.mean())

        return stage

    def _rate(self, stage: str, step: int, steps: int) -> tuple[float, float]:
        highest = float(getattr(self.config, f"{stage}_lr"))
        return highest * min(1.0, step / max(1, steps // 10)), self.config.clip

    def _write_problems(self) -> None:
        """Questions nobody was trained on: as they were asked, and asked otherwise."""
        count = self._size("test")
        for form, name in (("asked", "problems"), ("worded", "problems-worded")):
            found = addition_problems(
                count, seed=self.config.seed, split="test", largest=self.config.largest, form=form
            )
            _write_lines(self.root / f"{name}.jsonl", found)

    def _write_manifest(self) -> None:
        rows: list[dict[str, Any]] = []
        for base in self.bases:
            path = os.path.relpath(base.path, self.root)
            rows.append({"path": path, "step": base.step, "tokens": base.tokens, "branch": "main"})
        last = self.bases[-1].tokens
        each = self.config.batch * _WINDOW
        before = last
        plan = [
            ("sft", self.config.sft_steps, each),
            ("dpo", self.config.dpo_steps, 2 * each),
            ("rlvr", self.config.rlvr_steps, self.config.problems * self.config.draws * _WINDOW),
        ]
        for name, steps, rate in plan:
            for step in _marks(steps, self.config.kept):
                rows.append(_row(name, step, before + step * rate))
            before += steps * rate
        for base in self.bases[:-1]:
            steps = self.config.sft_steps
            rows.append(_row(f"sft-from-{base.step}", steps, base.tokens + steps * each))
        manifest = self.root / MANIFEST
        told = json.loads(manifest.read_text(encoding="utf-8"))["training"]
        write_json(
            manifest,
            {"name": f"{told['base']}, post-trained", "training": told, "checkpoints": rows},
        )


_WINDOW = 24  # tokens of a question with its answer, about; tokens of a branch are counted with it


def _row(branch: str, step: int, tokens: int) -> dict[str, Any]:
    return {"path": _folder(branch, step), "step": step, "tokens": tokens, "branch": branch}


def _folder(branch: str, step: int) -> str:
    return f"{branch}/step{step:04d}"


def _marks(steps: int, kept: int) -> list[int]:
    return sorted({round(steps * i / kept) for i in range(1, kept + 1)})


def _write_lines(path: Path, problems: Sequence[Problem]) -> None:
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        for problem in problems:
            file.write(json.dumps(asdict(problem)) + "\n")


def _picked(config: PostConfig, step: int, count: int, stage: str) -> NDArray[np.int64]:
    """Rows of one update; every epoch is a permutation of its own, and every branch has its own."""
    salt = config.seed + 1000 * ("sft", "dpo", "rlvr").index(stage)
    return batch_rows(step, batch=min(config.batch, count), count=count, seed=salt)


def _adam(model: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0, fused=True)


def _descend(
    model: Any,
    optimizer: torch.optim.Optimizer,
    loss: torch.Tensor,
    rate: tuple[float, float],
    step: int,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate[0]
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), rate[1])
    optimizer.step()
    check_update(step, loss.item(), norm.item())
    return float(loss.item())


def _whole_answers(model: Any, batch: AnswerBatch) -> torch.Tensor:
    """Log-likelihood of each answer, its end included."""
    logits = model(batch.tokens).logits
    return answer_log_likelihoods(logits, batch.tokens, batch.mask).sum(dim=1)


def _wrong_answers(
    model: Any, data: AnswerBatch, config: PostConfig
) -> tuple[NDArray[np.int64], AnswerBatch]:
    """Problems that a draw of the model's own gets wrong, and those draws.

    Raises
    ------
    PhasescopeError
        If the model gets everything right: then there is nothing to prefer.
    """
    generator = torch.Generator().manual_seed(config.seed + 1)
    drawn = draw(model, data, generator=generator)
    rows = np.flatnonzero(~drawn.equal(data).numpy())
    if len(rows) < 2:
        raise PhasescopeError(
            "the fine-tuned model makes no mistake to learn from; lower sft_steps"
        )
    return rows, drawn.rows(rows)
