"""What the logits at an answer's position say: entropy, normaliser, winner and margin."""

from __future__ import annotations

import torch


def answer_statistics(
    logits: torch.Tensor, *, vocabulary: int | None = None
) -> dict[str, torch.Tensor]:
    """Statistics of the distribution over the whole vocabulary.

    The entropy of the answer token is the uncertainty of arXiv 2511.02243, section 3, in nats.

    Parameters
    ----------
    logits : float tensor (…, vocabulary)
        Of any number of positions; computed with in float64, so eight bytes a logit are held twice.
    vocabulary : int, optional
        Entries beyond it are padding of the unembedding and left out.

    Returns
    -------
    dict of tensor (…)
        `entropy` (nats), `log_partition` (logsumexp), `top1_probability`, `margin` (probability of the
        first less the second), in float64, and `top1` (int64); the lowest id wins a tie.

    Raises
    ------
    ValueError
        If fewer than two entries are left.
    """
    kept = logits if vocabulary is None else logits[..., :vocabulary]
    if kept.shape[-1] < 2:
        raise ValueError(f"a distribution over {kept.shape[-1]} answers has no margin")
    # MPS has no float64.
    kept = kept.cpu() if kept.device.type == "mps" else kept
    kept = kept.double()
    normaliser = torch.logsumexp(kept, dim=-1)
    logp = kept - normaliser[..., None]
    probability = logp.exp()
    # 0 · log 0 is 0: a logit of minus infinity rules a token out.
    entropy = -torch.where(probability > 0, probability * logp, 0.0).sum(-1)
    first, second = probability.topk(2, dim=-1).values.unbind(-1)
    return {
        "entropy": torch.where(torch.isfinite(normaliser), entropy, torch.nan),
        "log_partition": normaliser,
        "top1": kept.argmax(-1),
        "top1_probability": first,
        "margin": first - second,
    }
