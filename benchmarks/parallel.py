"""When a second process pays: a training step on one thread, on two, and on two workers of one thread each.

Prints a table, in Markdown: the median milliseconds of a step with Adam, over epochs of a few steps, all
three in turns. docs/parallel.md says what it means.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context

from measuring import THREADS, machine, same_terms

CASES = [(3, 64, 2), (3, 64, 8), (3, 64, 16), (3, 128, 2), (3, 128, 8), (3, 128, 16),
         (3, 256, 2), (3, 256, 8), (32, 128, 4)]  # maps, pixels, images in a minibatch  # fmt: skip
PIXELS = 2**18  # of the steps of an epoch, more or less: so that each epoch takes about half a second


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs in a turn (default 3)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256], help="only these, in pixels")
    parser.add_argument("--maps", type=int, nargs="+", default=[3, 32], help="only these")
    args = parser.parse_args(argv)
    same_terms(2)
    print(f"{machine()}\n")
    print("| network, images | 1 thread | 2 threads | 2 workers, ms | better of the first two / workers |")
    print("|---|---|---|---|---|")
    with ExitStack() as stack:
        one, two, workers = (
            stack.enter_context(pool(processes, threads)) for processes, threads in ((1, 1), (1, 2), (2, 1))
        )
        ways = {
            "one": lambda case: one.submit(alone, case, args.epochs).result(),
            "two": lambda case: two.submit(alone, case, args.epochs).result(),
            "workers": lambda case: shared(case, args.epochs, workers),
        }
        for maps, size, batch in CASES:
            if size in args.sizes and maps in args.maps:
                case = maps, size, batch, max(2, PIXELS // (batch * size**2))
                print(row(case, in_turns(ways, case, args.rounds)), flush=True)


def pool(processes, threads):
    """Fresh processes, whose libraries each use so many threads."""
    os.environ |= dict.fromkeys(THREADS, str(threads))
    executor = ProcessPoolExecutor(processes, get_context("spawn"), initializer=keep)
    for future in [executor.submit(time.sleep, 0.1) for _ in range(processes)]:  # they start while this holds
        future.result()
    return executor


def keep():
    """Each process keeps the memory that it frees, as in `demos/`."""
    from tinyseg.fast.memory import keep_memory

    keep_memory()


def in_turns(ways, case, rounds) -> dict:
    """Median milliseconds of a step, each way."""
    times: dict = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name] += way(case)
    return {name: statistics.median(each) for name, each in times.items()}


def row(case, ms) -> str:
    """A line of the table."""
    cells = [f"{ms[name]:.1f}" for name in ("one", "two", "workers")]
    gain = min(ms["one"], ms["two"]) / ms["workers"]
    return "| " + " | ".join(["{} maps, {} px, batch {}".format(*case), *cells, f"{gain:.2f}"]) + " |"


def work(case):
    """(net, data, start, steps of an epoch, batch): the article's modified network on phantoms."""
    from tinyseg import begin, modified
    from tinyseg.data import phantom

    maps, size, batch, steps = case
    net = modified(maps=maps, widths=(4 * maps, maps))
    return net, phantom(steps * batch, seed=0, size=size), begin(net), steps, batch


def alone(case, epochs) -> list[float]:
    """Milliseconds of a step in each epoch, in this process."""
    from tinyseg import fit

    net, data, start, steps, batch = work(case)
    return timed(fit(net, data, start, epochs=epochs + 1, batch=batch), steps)


def shared(case, epochs, executor) -> list[float]:
    """Milliseconds of a step in each epoch, on two workers."""
    from tinyseg.parallel import fit_parallel

    net, data, start, steps, batch = work(case)
    how = {"executor": executor, "workers": 2, "epochs": epochs + 1, "batch": batch}
    return timed(fit_parallel(net, data, start, **how), steps)


def timed(snapshots, steps) -> list[float]:
    """Milliseconds of a step in each epoch but the first, in which all that is new gets ready."""
    next(snapshots)
    times, before = [], time.perf_counter()
    for _ in snapshots:
        before, start = time.perf_counter(), before
        times.append(1000 * (before - start) / steps)
    return times


if __name__ == "__main__":
    main()
