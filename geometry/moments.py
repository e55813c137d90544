"""Mean and scatter of hidden states, streamed in float64 so that no state need be kept.

Updates follow Chan, Golub & LeVeque 1983 (pairwise combination of centred sums), which loses no
digits to a large common mean.
"""

from typing import Any

import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor

from geometry.spectrum import mean_round_off, spectrum_of

_BLOCK = 4096  # rows held in float64 at a time


class Moments:
    """Count, mean and centred scatter of a stream of vectors.

    Parameters
    ----------
    dim
        Length of a vector.
    device
        Where the accumulators live and the products are computed; put it where the states are. On
        MPS, which has no float64, they stay on the CPU.

    Notes
    -----
    The result depends only on the sequence of updates and merges (and, in the last digits, on
    device and thread count). NaN or Inf in a row that counts makes the moments it touches NaN and
    the whole spectrum NaN. Memory: dim² float64, and one block of rows in float64 during `update`.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        if dim < 1:
            raise ValueError(f"dim is {dim}; give the length of a hidden state, at least 1")
        wanted = torch.device(device)
        self.dim = dim
        self.device = torch.device("cpu") if wanted.type == "mps" else wanted
        self.count = 0
        with torch.inference_mode(False):  # else they could not be updated outside of it
            self._mean = torch.zeros(dim, dtype=torch.float64, device=self.device)
            self._scatter = torch.zeros(dim, dim, dtype=torch.float64, device=self.device)
        self._triangle = self.device.type == "cpu"  # only the scatter's lower triangle is kept up

    def update(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Take in vectors.

        Parameters
        ----------
        x
            Shape (…, dim), any real dtype, any device.
        mask
            Boolean, broadcastable to the leading dims of `x`: True where a vector counts. What
            stands elsewhere is never read into a sum, so it may be NaN.

        Raises
        ------
        ValueError
            If `x` does not end in `dim` or `mask` is not boolean or does not broadcast.

        Notes
        -----
        One symmetric float64 product for every 4096 rows: rows·dim²/2 multiply-adds on the CPU.
        """
        rows = self._rows(x, mask)
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            # One row more carries the between-blocks term: the scatter moves by one product.
            block = torch.empty((len(part) + 1, self.dim), dtype=torch.float64, device=self.device)
            within = block[:-1].copy_(part)
            mean = within.mean(dim=0)
            within -= mean
            self._combine(mean, len(part), block)

    def merge(self, other: "Moments") -> None:
        """Take in everything another accumulator has seen; `other` is left as it was.

        Parameters
        ----------
        other
            Moments of the same `dim`.

        Raises
        ------
        ValueError
            If the dimensions differ.
        """
        if other.dim != self.dim:
            raise ValueError(f"other has dim {other.dim}; give moments of dim {self.dim}")
        if other.count == 0:
            return
        scatter, mean = other._scatter.to(self.device), other._mean.to(self.device)
        if other._triangle != self._triangle:
            scatter = other._symmetric().to(self.device)
        self._scatter += scatter
        block = torch.empty((1, self.dim), dtype=torch.float64, device=self.device)
        self._combine(mean, other.count, block)

    @property
    def mean(self) -> Tensor:
        """Mean vector, shape (dim,), float64; NaN before the first update."""
        return self._mean / (1.0 if self.count else 0.0)

    def covariance(self) -> Tensor:
        """Centred scatter divided by the count, shape (dim, dim), float64; NaN when empty."""
        return self._symmetric() / self.count

    def eigenvalues(self, *, centered: bool = True) -> Tensor:
        """Spectrum of the covariance, or of the second moment about 0.

        Parameters
        ----------
        centered
            False adds mean meanᵀ back.

        Returns
        -------
        torch.Tensor
            Shape (min(count, dim),), float64, on the CPU, descending: what
            `geometry.spectrum.eigenvalues` gives for the same points. NaN throughout if any
            moment is.
        """
        matrix = self.covariance()
        if not centered:
            matrix.addr_(self._mean, self._mean)
            floor = 0.0
        else:
            floor = mean_round_off(self._mean.cpu().numpy(), self.count)
        values = spectrum_of(matrix.cpu().numpy().T, floor=floor)
        return torch.from_numpy(values[: min(self.count, self.dim)].copy())

    def _combine(self, mean: Tensor, added: int, block: Tensor) -> None:
        """Move to the joint mean; `block` is centred rows, its last row free for the shift."""
        total = self.count + added
        shift = mean - self._mean
        torch.mul(shift, (self.count * added / total) ** 0.5, out=block[-1])
        self._mean += shift * (added / total)
        self.count = total
        if self._triangle:
            # dsyrk does half the work of a general product, and in place. Transposed views are
            # the Fortran order it needs; its upper triangle is our lower one.
            fortran: Any = self._scatter.numpy().T
            dsyrk(1.0, block.numpy().T, beta=1.0, c=fortran, overwrite_c=1)
        else:
            self._scatter.addmm_(block.T, block)

    def _rows(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Vectors that count, shape (rows, dim), on the accumulators' device."""
        if x.ndim == 0 or x.shape[-1] != self.dim:
            raise ValueError(f"x has shape {tuple(x.shape)}; give (…, {self.dim})")
        x = x.detach()
        if mask is None:
            return x.reshape(-1, self.dim).to(self.device)
        if mask.dtype != torch.bool:
            raise ValueError(f"mask has dtype {mask.dtype}; give booleans, True where x counts")
        try:
            keep = mask.to(x.device).expand(x.shape[:-1])
        except RuntimeError as error:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}; give one that broadcasts to "
                f"{tuple(x.shape[:-1])}"
            ) from error
        return x[keep].to(self.device)

    def _symmetric(self) -> Tensor:
        """Scatter with both triangles, a new tensor."""
        if not self._triangle:
            return self._scatter.clone()
        lower = self._scatter.tril()
        return lower + lower.tril(-1).T
