"""The numeric tests under every processor this machine can play: `make test-processors`.

One run of pytest for each setting of torch's instruction set, MKL's, OpenBLAS's kernels and threads, and
a table at the end. What a machine cannot run is left out, with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

# What adds, multiplies and decomposes floats; a minute or so of one core. The rest counts, draws or
# lays out, and more files can be given after `--`.
_NUMERIC = {
    "attention": "streaming fused columns weights reach attention_floors",
    "geometry": "spectrum moments similarity separation class_geometry angles correlation predictive "
    "scaling matrix_entropy geometry_floors",
    "probes": "clustering balance means modality patching_steering probe_floors",
    "runs": "products models/trial models/toy",
}
_SINGLE = (
    "tests/runs/test_backends.py::test_the_chunk_changes_nothing",
    "tests/runs/test_backends.py::test_streamed_and_materialised_rows_agree_in_every_statistic",
    "tests/runs/models/test_diverging.py::test_a_trial_is_logged_until_it_diverges",
    "tests/runs/models/test_diverging.py::test_norms_of_weights_whose_products_overflow_float32",
)
TESTS = (
    *(
        str(Path("tests", folder, name).with_name(f"test_{Path(name).name}.py"))
        for folder, names in _NUMERIC.items()
        for name in names.split()
    ),
    *_SINGLE,
)
# Settings of the environment that are taken away first, so that each run has its own alone.
_KNOBS = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE")
_PROBE = """
import json, numpy, scipy.linalg, torch
from threadpoolctl import threadpool_info
found = [i.get("architecture", "") for i in threadpool_info() if i["internal_api"] == "openblas"]
seen = {"torch": torch.backends.cpu.get_cpu_capability(), "mkl": torch.backends.mkl.is_available()}
print(json.dumps(seen | {"openblas": sorted({*found})}))
"""


@dataclass(frozen=True, eq=False)
class Setting:
    """One way to run: what is put into the environment, and what must be seen of it."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    torch: str = ""
    openblas: str = ""
    needs: str = ""  # flag of the processor


SETTINGS = (
    Setting("as it comes"),
    Setting("2 threads", threads=2),
    Setting("4 threads", threads=4),
    Setting("torch default", {"ATEN_CPU_CAPABILITY": "default"}, torch="DEFAULT"),
    Setting("torch avx2", {"ATEN_CPU_CAPABILITY": "avx2"}, torch="AVX2", needs="avx2"),
    Setting("torch avx512", {"ATEN_CPU_CAPABILITY": "avx512"}, torch="AVX512", needs="avx512f"),
    Setting("MKL COMPATIBLE", {"MKL_CBWR": "COMPATIBLE"}),
    Setting("MKL AVX2", {"MKL_CBWR": "AVX2"}, needs="avx2"),
    Setting("OpenBLAS Nehalem", {"OPENBLAS_CORETYPE": "Nehalem"}, openblas="Nehalem"),
    Setting("OpenBLAS Haswell", {"OPENBLAS_CORETYPE": "Haswell"}, openblas="Haswell", needs="avx2"),
    Setting("OpenBLAS Zen", {"OPENBLAS_CORETYPE": "Zen"}, openblas="Zen", needs="avx2"),
    Setting(
        "OpenBLAS SkylakeX", {"OPENBLAS_CORETYPE": "SkylakeX"}, openblas="SkylakeX", needs="avx512f"
    ),
)


def environment_of(setting: Setting) -> dict[str, str]:
    """What a run's process is given."""
    kept = {name: value for name, value in os.environ.items() if name not in _KNOBS}
    threads = str(setting.threads)
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return (
        kept
        | dict.fromkeys(pools, threads)
        | {"PHASESCOPE_TEST_THREADS": threads}
        | setting.environment
    )


@cache
def seen_by(setting: Setting) -> dict[str, Any]:
    """Kernels that a process of a setting really has; its exit status if it fails."""
    command = [sys.executable, "-c", _PROBE]
    run = subprocess.run(
        command, env=environment_of(setting), capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = {"ends": run.returncode} if run.returncode else json.loads(run.stdout)
    return found


def left_out(setting: Setting, flags: frozenset[str]) -> str:
    """Why a setting is not run here; empty if it is."""
    if setting.needs and setting.needs not in flags:
        return f"this processor has no {setting.needs}"
    seen = seen_by(setting)
    if "ends" in seen:
        return f"a process ends with {seen['ends']}"
    if setting.torch and seen["torch"] != setting.torch:
        return f"torch runs {seen['torch']} instead"
    if setting.openblas and seen["openblas"] != [setting.openblas]:
        return f"OpenBLAS runs {', '.join(seen['openblas'])} instead"
    if (setting.torch or setting.openblas) and seen == seen_by(SETTINGS[0]):
        return "is how it comes here"
    if "MKL_CBWR" in setting.environment and not seen["mkl"]:
        return "torch is built without MKL"
    return ""


def processor_flags() -> frozenset[str]:
    """What Linux says this processor can; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            line = next((x for x in file if x.startswith("flags")), ":")
    except OSError:
        return frozenset()
    return frozenset(line.split(":", 1)[1].split())


def run_tests(setting: Setting, more: list[str]) -> tuple[bool, str]:
    """Run the tests; whether all passed, and pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow and not real", *TESTS, *more]
    run = subprocess.run(
        command, env=environment_of(setting), stdout=subprocess.PIPE, text=True, check=False
    )
    lines = run.stdout.strip().splitlines() or [""]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(line, flush=True)
    if run.returncode and not any(line.startswith("FAILED") for line in lines):
        print(run.stdout, flush=True)
    return run.returncode == 0, lines[-1].strip("= ")


def main() -> int:
    """Run every setting, or those whose name holds a word given before `--`; the rest goes to pytest."""
    given = sys.argv[1:]
    words, more = given, []
    if "--" in given:
        words, more = given[: given.index("--")], given[given.index("--") + 1 :]
    chosen = [s for s in SETTINGS if not words or any(word in s.name for word in words)]
    flags = processor_flags()
    rows: list[tuple[str, str, str]] = []
    failed = 0
    for setting in chosen:
        why = left_out(setting, flags)
        if why:
            rows.append((setting.name, "left out", why))
            continue
        print(f"{setting.name} …", flush=True)
        started = time.monotonic()
        passed, line = run_tests(setting, more)
        failed += not passed
        shown = f"{line}; {time.monotonic() - started:.0f} s in all"
        rows.append((setting.name, "passed" if passed else "FAILED", shown))
    width = max(len(name) for name, _, _ in rows)
    for name, result, detail in rows:
        print(f"{name:<{width}}  {result:<8}  {detail}")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    raise SystemExit(main())
