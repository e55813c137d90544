"""What computed a cell, as far as it decides the last digits of numbers, and what to say of several."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from threadpoolctl import threadpool_info

_CPUINFO = Path("/proc/cpuinfo")
_NOT_NOTED = "not noted"


def processor(device: str = "cpu") -> str:
    """Name the processor as this process uses it: kernels and threads that round sums in their own order.

    Parameters
    ----------
    device
        Where the model runs, as the recipe has it.

    Returns
    -------
    str
        Such as "x86_64 AuthenticAMD, torch AVX2, OpenBLAS Haswell, 1 thread": machine and vendor (by
        which MKL picks its kernels), torch's instruction set, `MKL_CBWR` if it is set, kernels of the
        OpenBLAS libraries that are loaded, torch's threads, and the accelerator if there is one.
    """
    blas = sorted({_kernel(i) for i in threadpool_info() if i["user_api"] == "blas"})
    branch = os.environ.get("MKL_CBWR", "")
    threads = torch.get_num_threads()
    parts = [
        f"{platform.machine()} {_vendor()}".strip(),
        f"torch {torch.backends.cpu.get_cpu_capability()}",
        *([f"MKL_CBWR {branch}"] if branch else []),
        *blas,
        f"{threads} thread{'s' if threads > 1 else ''}",
        *_accelerators(device),
    ]
    return ", ".join(parts)


def several(processors: Iterable[str]) -> str:
    """One sentence on cells that were not all computed alike; empty if they were, or none is known.

    Parameters
    ----------
    processors
        Of each cell, as `processor` names it; "" where a version that did not note it captured.
    """
    counts = Counter(name or _NOT_NOTED for name in processors)
    if len(counts) < 2:
        return ""
    shown = "; ".join(f"{n} on {name}" for name, n in counts.most_common() if name != _NOT_NOTED)
    unknown = counts.get(_NOT_NOTED, 0)
    rest = f"; {unknown} it was not noted on which" if unknown else ""
    return (
        f"captured on more than one processor ({shown}{rest}): numbers are equal up to the rounding of "
        "float32, docs/performance.md"
    )


def _kernel(library: dict[str, str]) -> str:
    names = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}
    kind = library["internal_api"]
    return f"{names.get(kind, kind)} {library.get('architecture') or ''}".strip()


def _vendor() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("vendor_id")), "")


def _accelerators(device: str) -> list[str]:
    if device.startswith("cuda") and torch.cuda.is_available():
        return [f"cuda {torch.cuda.get_device_name(torch.device(device))}"]
    return [] if device == "cpu" else [device]
