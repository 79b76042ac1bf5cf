"""A training step in tinyseg and in its peers, side by side: time and memory.

The same network (the article's, modified), weights and images in every engine that is installed, and in
tinyseg's own definitions; outputs and gradients are compared before anything is timed. Prints a table, in
Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys

from measuring import added_memory, in_turns, machine, peak_of, same_terms

CASES = [(3, 2, 64), (3, 2, 128), (3, 2, 256), (32, 1, 128), (32, 1, 256)]  # maps, images, pixels
PARTS = ("forward", "gradient", "step")
NEEDS = {"pytorch": "torch", "pytorch-channels-last": "torch", "jax": "jax"}  # the others come with tinyseg
AUTOGRAD_PIXELS = 2 * 64 * 64 * 9  # with 32 maps, autograd's own convolution takes up to a minute a step


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, choices=(1, 2), default=2, help="for every engine (default 2)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256], help="only these, in pixels")
    parser.add_argument("--maps", type=int, nargs="+", default=[3, 32], help="only these")
    parser.add_argument("--norms", nargs="+", choices=("batch", "instance"), default=["batch", "instance"])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each engine (default 5)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there, too")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)  # how this script measures memory
    args = parser.parse_args(argv)
    same_terms(args.threads)
    import engines  # only now: the libraries read their number of threads when they are loaded

    from tinyseg.fast.memory import keep_memory
    from tinyseg.io.files import write_whole

    keep_memory()  # every engine in this process has the same C library
    if args.peak:
        name, maps, batch, size, norm = args.peak
        print(json.dumps(peak(engines, name, engines.work(int(maps), int(batch), int(size), norm))))
        return

    here = []
    for peer in engines.PEERS:
        if peer.name not in NEEDS or importlib.util.find_spec(NEEDS[peer.name]):
            here.append(peer)
        else:
            print(f"{peer.name}: skipped, {NEEDS[peer.name]} is not installed", file=sys.stderr)
    print(f"{machine()}, {args.threads} threads, {versions()}\n")
    print("| network, images, norm | engine | forward | gradient | step, ms | tinyseg / it | memory, MB |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for maps, batch, size in CASES:
        for norm in args.norms:
            if size in args.sizes and maps in args.maps:
                case = {"maps": maps, "batch": batch, "size": size, "norm": norm}
                rows += measure(engines, here, case, args)
                if args.json:
                    write_whole(args.json, json.dumps(rows, indent=1))


def measure(engines, peers, case, args):
    """The rows of one case: every engine checked, timed and weighed."""
    work = engines.work(**case)
    if case["batch"] * case["size"] ** 2 * case["maps"] ** 2 > AUTOGRAD_PIXELS:
        peers = [peer for peer in peers if peer is not engines.Scipy]
    built = [engine(work) for engine in (engines.Tinyseg, *peers)]
    for peer in built[1:]:
        agree(engines, built[0], peer)
    built += [engines.Gemms(work), engines.Flops(work)]
    functions = {
        (engine, part): getattr(engine, part) for engine in built for part in PARTS if hasattr(engine, part)
    }
    times = in_turns(functions, args.rounds)
    flops = built[-1]
    times |= {(flops, part): times[flops, "forward"] * flops.scale(part) for part in PARTS}
    rows = []
    for engine in built:
        memory = None
        if engine.name not in ("gemms", "flops", "jax"):  # XLA keeps a step's memory to itself until the next
            memory = added_memory(__file__, engine.name, *case.values(), "--threads", args.threads)
        ms = {part: 1000 * times[engine, part] for part in PARTS}
        for part in PARTS:
            of_step = memory if part == "step" else None
            rows.append({"engine": engine.name, **case, "part": part, "ms": ms[part], "peak_mb": of_step})
        ratio = times[built[0], "step"] / times[engine, "step"]
        title = "{maps} maps, {batch} x {size} px, {norm}".format(**case)
        cells = [title, engine.name, *(f"{ms[part]:.1f}" for part in PARTS), f"{ratio:.2f}"]
        print("|", " | ".join([*cells, "" if memory is None else f"{memory:.0f}"]), "|", flush=True)
    return rows


def agree(engines, ours, theirs):
    """Stop unless outputs and gradients are the same, as far as float32 can tell.

    Each gradient is held to a thousandth of the largest of all, and to a hundredth of its own largest entry,
    so that small ones count too. (Where rounding moves a pixel across relu's kink, one differs by 0.002.)
    """
    import numpy as np

    def largest(array):
        return np.abs(array).max()

    def close(name, a, b, bound):
        if not largest(a - b) <= bound:
            sys.exit(f"{theirs.name}: {name} differs from tinyseg's by {largest(a - b):g}")

    y = ours.forward()
    close("the output", y, theirs.numpy(theirs.forward()), 1e-3 * largest(y))
    expected, got = ours.gradient(), theirs.gradient()
    of_all = max(map(largest, expected.values()))
    for name, a in expected.items():
        close(f"the gradient of {name}", a, theirs.numpy(got[name]), min(1e-3 * of_all, 1e-2 * largest(a)))


def peak(engines, name, work):
    """MB that a training step adds, once everything is loaded, built and compiled and has run before."""
    engine = next(e for e in (engines.Tinyseg, *engines.PEERS) if e.name == name)(work)
    engine.step(), engine.step()
    return peak_of(engine.step)


def versions():
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in ("numpy", "autograd", "torch", "jax"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


if __name__ == "__main__":
    main()
