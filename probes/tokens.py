"""Token statistics: what a model predicts, from hidden states, without all logits at once."""

from __future__ import annotations

import torch
from torch import Tensor

_LOGITS = 1 << 20  # logits held at a time
_ROWS = 512  # rows that share one reading of the unembedding


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
        The token that came next; −1 where there is none.
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
        `top1`, the most likely token, and `target_rank`, the number of strictly larger logits, int64.
        Without a target surprisal is NaN and the rank −1.

    Raises
    ------
    ValueError
        If shapes do not fit or a target lies outside the vocabulary.

    Notes
    -----
    Rows go in groups of 512 and the vocabulary in blocks, with running maximum and running sums of e^s,
    s e^s and s² e^s that are rescaled when the maximum grows. Logits in float32, running sums in float64.
    Costs the product the model would compute anyway plus a few passes over blocks that stay in cache;
    memory is one block of logits.
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
        self._largest = torch.full((count,), -torch.inf, device=device)
        self._top = torch.zeros(count, dtype=torch.int64, device=device)
        self._rank = torch.zeros(count, dtype=torch.int64, device=device)
        self._sums = torch.zeros(3, count, dtype=wide, device=device)
        self._target_logit = self._target_logits()

    def scan(self, chunk: int | None) -> dict[str, Tensor]:
        """Walk the vocabulary and give the statistics."""
        size = chunk or max(256, _LOGITS // max(len(self._rows), 1))
        logits = torch.empty(
            len(self._rows) * min(size, len(self._weight)), device=self._rows.device
        )
        other = torch.empty_like(logits)
        for start in range(0, len(self._weight), size):
            self._block(start, min(start + size, len(self._weight)), logits, other)
        return self._finish()

    def _block(self, start: int, stop: int, logits: Tensor, other: Tensor) -> None:
        count, width = len(self._rows), stop - start
        block = logits[: count * width].view(count, width)
        weights = other[: count * width].view(count, width)
        torch.mm(self._rows, self._weight[start:stop].float().T, out=block)
        if self._bias is not None:
            block.add_(self._bias[start:stop])
        if self._softcap is not None:
            block.div_(self._softcap).tanh_().mul_(self._softcap)
        self._rank += torch.gt(block, self._target_logit[:, None]).sum(1)
        self._forget_own(block, start, stop)
        highest, place = block.max(1)
        grew = highest > self._largest
        self._top = torch.where(grew, place + start, self._top)
        largest = torch.where(grew, highest, self._largest)
        self._rescale(largest)
        block.sub_(largest[:, None])
        torch.exp(block, out=weights)
        self._sums[0] += weights.sum(1)
        weights.mul_(block)
        self._sums[1] += weights.sum(1)
        weights.mul_(block)
        self._sums[2] += weights.sum(1)

    def _forget_own(self, block: Tensor, start: int, stop: int) -> None:
        """The target's own logit may differ in the last bit from the one it is compared with."""
        inside = (self._targets >= start) & (self._targets < stop)
        place = (self._targets - start).clamp(0, stop - start - 1)
        own = block.gather(1, place[:, None])[:, 0]
        self._rank -= (inside & (own > self._target_logit)).long()

    def _rescale(self, largest: Tensor) -> None:
        """Move running sums of e^(s−m), (s−m) e^(s−m) and (s−m)² e^(s−m) to a larger m."""
        sums = self._sums
        shift = torch.where(torch.isinf(self._largest), 0.0, self._largest - largest).to(sums.dtype)
        factor = shift.exp()
        zero, one, two = sums
        self._sums = factor * torch.stack(
            [zero, one + shift * zero, two + 2 * shift * one + shift.square() * zero]
        )
        self._largest = largest

    def _finish(self) -> dict[str, Tensor]:
        mass, first, second = self._sums
        mean = first / mass
        entropy = mass.log() - mean
        log_mass = self._largest.to(mass.dtype) + mass.log()
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
