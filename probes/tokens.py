"""Token statistics: what a model predicts, from hidden states, without all logits at once."""

from __future__ import annotations

import torch
from torch import Tensor

_LOGITS = 1 << 20  # logits held at a time
_ROWS = 2048  # rows that share one reading of the unembedding
_CLOSE = 4.0  # how far logits may rise above the shift before sums move to a new one


@torch.no_grad()
def token_statistics(
    hidden: Tensor,
    unembedding: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    vocab_size: int | None = None,
    softcap: float | None = None,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """Surprisal, entropy, varentropy, most likely token and rank of the target at every position.

    Parameters
    ----------
    hidden : tensor (…, feature)
        Final states, after the final norm.
    unembedding : tensor (vocabulary, feature)
        Output embedding.
    targets : int64 tensor (…)
        The token that came next; −1 (or any negative) where there is none.
    bias : tensor (vocabulary,), optional
        Added to the logits.
    vocab_size
        Real vocabulary; rows beyond it are padding and left out.
    softcap
        Logits become softcap · tanh(logit / softcap).
    chunk
        Vocabulary entries a block; chosen so that a block has about a million logits.

    Returns
    -------
    dict of tensors (…)
        `surprisal` −ln p(target) and `entropy` in nats, `varentropy` Var(−ln p) in nats², float32;
        `top1`, the most likely token (the first of equals), and `target_rank`, the number of
        strictly larger logits, int64.
        Without a target surprisal is NaN and the rank −1.

    Raises
    ------
    ValueError
        If shapes do not fit or a target lies outside the vocabulary.

    Notes
    -----
    Rows go in groups of 2048 and the vocabulary in blocks, with running sums of e^s, s e^s and s² e^s
    in which s is the logit less a shift close to the largest so far. Logits in float32, running sums
    in float64, no gradients. Costs the product the model would compute anyway plus a few passes over
    blocks that stay in cache. Memory: two blocks of about a million float32 numbers.
    """
    weight = unembedding[:vocab_size]
    _check(hidden, weight, targets)
    rows = hidden.reshape(-1, hidden.shape[-1])
    wanted = targets.reshape(-1)
    offset = None if bias is None else bias[: len(weight)].float()
    parts = [
        _Rows(rows[i : i + _ROWS].float(), wanted[i : i + _ROWS], weight, offset, softcap).scan(
            chunk
        )
        for i in range(0, len(rows), _ROWS)
    ]
    names = ("surprisal", "entropy", "varentropy", "top1", "target_rank")
    if not parts:
        kinds = (torch.float32,) * 3 + (torch.int64,) * 2
        empty = {
            n: torch.empty(0, dtype=t, device=hidden.device)
            for n, t in zip(names, kinds, strict=True)
        }
        return {name: x.reshape(targets.shape) for name, x in empty.items()}
    return {name: torch.cat([p[name] for p in parts]).reshape(targets.shape) for name in names}


class _Rows:
    """A group of rows on its way through the vocabulary."""

    def __init__(
        self,
        rows: Tensor,
        targets: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        softcap: float | None,
    ) -> None:
        self._rows, self._weight, self._bias, self._softcap = rows, weight, bias, softcap
        self._has = targets >= 0
        self._targets = targets.clamp_min(0)
        count, device = len(rows), rows.device
        wide = torch.float32 if device.type == "mps" else torch.float64
        self._shift = torch.zeros(count, device=device)
        self._largest = torch.full((count,), -torch.inf, device=device)
        self._top = torch.zeros(count, dtype=torch.int64, device=device)
        self._rank = torch.zeros(count, dtype=torch.int64, device=device)
        self._sums = torch.zeros(3, count, dtype=wide, device=device)
        self._target_logit = self._target_logits()

    def scan(self, chunk: int | None) -> dict[str, Tensor]:
        """Walk the vocabulary and give the statistics."""
        size = min(chunk or max(256, _LOGITS // len(self._rows)), len(self._weight))
        scratch = torch.empty(2, len(self._rows) * size, device=self._rows.device)
        for start in range(0, len(self._weight), size):
            stop = min(start + size, len(self._weight))
            shape = (len(self._rows), stop - start)
            logits, other = (x[: shape[0] * shape[1]].view(shape) for x in scratch)
            self._logits(start, stop, logits)
            self._count(start, stop, logits, other)
            self._find_top(start, logits, first=start == 0)
            self._add(logits, other)
        return self._finish()

    def _logits(self, start: int, stop: int, out: Tensor) -> None:
        """Logits less the shift, which the product takes off for free unless they are capped."""
        weight = self._weight[start:stop].float().T
        shift = self._shift[:, None]
        if self._softcap is None:
            torch.addmm(-shift, self._rows, weight, out=out)
        else:
            torch.mm(self._rows, weight, out=out)
        if self._bias is not None:
            out.add_(self._bias[start:stop])
        if self._softcap is not None:
            out.div_(self._softcap).tanh_().mul_(self._softcap).sub_(shift)

    def _count(self, start: int, stop: int, logits: Tensor, other: Tensor) -> None:
        """Count larger logits; the target's own may differ in the last bit and is left out."""
        target = self._target_logit - self._shift
        torch.gt(logits, target[:, None], out=other)  # a sum of floats is faster than one of bools
        place = (self._targets - start).clamp(0, stop - start - 1)
        inside = (self._targets >= start) & (self._targets < stop)
        own = other.gather(1, place[:, None])[:, 0]
        self._rank += (other.sum(1) - torch.where(inside, own, 0)).long()

    def _find_top(self, start: int, logits: Tensor, *, first: bool) -> None:
        """Follow the largest logit, and move the shift to it where it has run away."""
        highest = logits.amax(1)
        grew = (highest + self._shift > self._largest) | first
        rows = grew.nonzero()[:, 0]  # fewer and fewer: most rows need no second look
        self._top[rows] = logits[rows].argmax(1) + start
        self._largest = torch.where(grew, highest + self._shift, self._largest)
        far = (highest > _CLOSE) | first
        if bool(far.any()):
            move = torch.where(far, highest, 0)
            logits -= move[:, None]
            self._move(move)

    def _move(self, by: Tensor) -> None:
        """Raise the shift, and restate the running sums for it."""
        zero, one, two = self._sums
        d = by.to(zero.dtype)
        self._sums = torch.where(
            zero == 0,
            self._sums,  # nothing there yet, and e^(−d) may be infinite
            (-d).exp() * torch.stack([zero, one - d * zero, two - 2 * d * one + d * d * zero]),
        )
        self._shift = self._shift + by

    def _add(self, logits: Tensor, other: Tensor) -> None:
        torch.exp(logits, out=other)
        for power in range(3):
            if power:
                other *= logits
            self._sums[power] += other.sum(1)

    def _finish(self) -> dict[str, Tensor]:
        mass, first, second = self._sums
        mean = first / mass
        entropy = mass.log() - mean
        log_mass = self._shift.to(mass.dtype) + mass.log()
        surprisal = log_mass - self._target_logit.to(mass.dtype)
        spread = (second / mass - mean.square()).clamp_min(0)
        return {
            "surprisal": torch.where(self._has, surprisal, torch.nan).float(),
            "entropy": entropy.float(),
            "varentropy": spread.float(),
            "top1": self._top,
            "target_rank": torch.where(self._has, self._rank, -1),
        }

    def _target_logits(self) -> Tensor:
        found = (self._rows * self._weight[self._targets].float()).sum(1)
        if self._bias is not None:
            found = found + self._bias[self._targets]
        if self._softcap is not None:
            found = self._softcap * torch.tanh(found / self._softcap)
        return found


def _check(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    if hidden.shape[:-1] != targets.shape or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)}, unembedding {tuple(weight.shape)} and targets "
            f"{tuple(targets.shape)} must be (…, feature), (vocabulary, feature) and (…)"
        )
    if targets.numel() and int(targets.max()) >= len(weight):
        raise ValueError(
            f"targets hold {int(targets.max())}; the vocabulary has {len(weight)} entries"
        )
