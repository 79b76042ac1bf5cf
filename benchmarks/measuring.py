"""Fair measurements: everyone in turn, in one process, on the same cores; memory each in its own process."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

PAUSE = 0.2  # seconds; a BLAS's idle threads spin for a while and would slow down whoever comes next
TURN = 0.2  # seconds of calls in a turn
PATIENCE = 20.0  # seconds for one function; what is slower gets fewer rounds

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
KERNELS = (
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES",
    "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY",
)  # fmt: skip


def same_terms(threads: int):
    """The same terms for every library, to be called before they are imported.

    Each gets so many threads and cores, and chooses its kernels for this processor itself: what the
    environment says about one library's kernels and not the other's is dropped, and that is said.
    """
    for variable in THREADS:
        os.environ[variable] = str(threads)
    several = "true" if threads > 1 else "false"
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={several} intra_op_parallelism_threads={threads}"
    if hasattr(os, "sched_setaffinity"):  # Linux; XLA takes its threads from here
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for variable in KERNELS:
        if variable in os.environ:
            print(f"{variable}={os.environ.pop(variable)}: dropped from the environment", file=sys.stderr)


def machine() -> str:
    """The processor's name, as well as this system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def in_turns(functions: dict, rounds: int) -> dict:
    """Median seconds of a call of each function, all in turn: A B C A B C ...

    A turn is a pause, one call that is not timed, and timed calls for a while.
    """
    times = {name: [] for name in functions}
    spent = dict.fromkeys(functions, 0.0)
    for _ in range(rounds):
        for name, function in functions.items():
            if spent[name] > PATIENCE:
                continue
            time.sleep(PAUSE)
            begin = time.perf_counter()
            function()
            while True:
                start = time.perf_counter()
                function()
                end = time.perf_counter()
                times[name].append(end - start)
                if end - begin > TURN:
                    break
            spent[name] += end - begin
    return {name: statistics.median(each) for name, each in times.items()}


def added_memory(script: str, *args) -> float | None:
    """MB by which the resident memory of a fresh process, `script --peak args`, grows at most in a step."""
    command = [sys.executable, script, "--peak", *map(str, args)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def peak_of(function) -> float | None:
    """MB by which resident memory grows at most while this runs; None where Linux's /proc does not tell.

    What earlier calls left free in the C library's heap is given back first, or it would be used unseen.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
        before = _resident("VmRSS")
        function()
        return (_resident("VmHWM") - before) / 1024
    except (OSError, AttributeError, TypeError):
        return None


def _resident(field) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
