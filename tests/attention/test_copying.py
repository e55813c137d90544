"""Eigenvalues of a head's path from tokens to logits, against those of the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attention.copying import copying_eigenvalues, copying_score


def parts(heads: int = 3, d: int = 10, width: int = 4, vocabulary: int = 23) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    shapes = ((heads, d, width), (heads, width, d), (vocabulary, d), (d, vocabulary))
    return [torch.randn(*s, generator=g, dtype=torch.float64) for s in shapes]


def test_the_small_products_eigenvalues_are_the_whole_matrixs() -> None:
    value, output, embed, unembed = parts()
    found = copying_eigenvalues(value, output, unembed @ embed)
    for head in range(3):
        whole = torch.linalg.eigvals(embed @ value[head] @ output[head] @ unembed)
        whole = whole[whole.abs() > 1e-8]
        assert len(whole) == 4
        np.testing.assert_allclose(
            np.sort_complex(found[head].numpy()), np.sort_complex(whole.numpy()), atol=1e-8
        )
        trace = torch.trace(embed @ value[head] @ output[head] @ unembed)
        assert abs(found[head].sum().real - trace) < 1e-8


def test_a_head_that_writes_what_it_reads_copies_and_its_negative_does_the_opposite() -> None:
    value, _, embed, _ = parts()
    same = torch.stack([value[0].T, -value[0].T, value[0].T])
    value = value[:1].expand(3, -1, -1).clone()
    value[2, :, 2:] *= -1  # two directions of four raise, two lower: in between
    score = copying_score(copying_eigenvalues(value, same, embed.T @ embed))
    torch.testing.assert_close(score[:2], torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert -1 < score[2] < 1


def test_a_rotation_scores_its_cosine() -> None:
    """Eigenvalues exp(±iφ): Σ λ / Σ |λ| = cos φ."""
    angle = 0.7
    turn = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    eye = torch.eye(2, dtype=torch.float64)
    found = copying_score(copying_eigenvalues(eye[None], turn[None], eye))
    np.testing.assert_allclose(found, [np.cos(angle)], rtol=1e-12)


def test_the_basis_inside_a_head_does_not_matter() -> None:
    value, output, embed, unembed = parts()
    change = 2 * torch.eye(4, dtype=torch.float64) + 0.2 * parts()[0][0, :4]
    before = copying_score(copying_eigenvalues(value, output, unembed @ embed))
    after = copying_eigenvalues(value @ change, torch.linalg.inv(change) @ output, unembed @ embed)
    torch.testing.assert_close(copying_score(after), before, atol=1e-8, rtol=0)
    scaled = copying_eigenvalues(3 * value, output, unembed @ embed)
    torch.testing.assert_close(copying_score(scaled), before, atol=1e-8, rtol=0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    value, output, embed, unembed = parts()
    with pytest.raises(ValueError, match="overlap"):
        copying_eigenvalues(value, output, embed @ unembed)
