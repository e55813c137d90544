"""How many samples fit into memory at a time."""

from __future__ import annotations

import psutil
import torch

from runs.products.base import Spec

# Numbers a token that a forward pass with statistics holds at its peak, in units of the width: the
# residual stream, q, k, v and their float32 copies, the widest MLP in use. Measured: 19 on GPT-NeoX.
_WIDTHS = 32
_SHARE = 0.5  # of what is free: the estimate is rough, and other work grows too


def fitting_micro_batch(spec: Spec, *, companions: int = 1) -> int:
    """Samples a forward pass that fit into the memory that is free now, at least 1.

    Parameters
    ----------
    spec
        The set, the model's sizes and the capture table.
    companions
        Processes that share the memory.

    Returns
    -------
    int
        At most `block`. A back-off at run time stands behind this estimate.
    """
    capture, shape = spec.capture, spec.shape
    length = int(spec.inputs.length.max())
    item = torch.finfo(getattr(torch, capture.dtype)).bits // 8
    sample = sample_bytes(length, shape.width)
    free = free_bytes(capture.device) * _SHARE / companions
    if capture.block * sample <= free:
        return capture.block
    # A block in parts keeps its states until it is whole, for sums that must not depend on the parts.
    layers = {"moments": shape.layers, "fisher": 1}
    summed = max((n for product, n in layers.items() if product in capture.products), default=0)
    held = capture.block * length * shape.width * summed * item
    return int(max(1, min(capture.block, (free - held) // sample)))


def sample_bytes(length: int, width: int) -> int:
    """What one sample of a forward pass with statistics takes at its peak."""
    return length * width * _WIDTHS * 4


def free_bytes(device: str) -> int:
    """Memory that is free on a device; of the machine for `cpu` and `mps`."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available)
