"""From the definition to the fast convolution, and from there to a fast training step.

Each way of writing the same sum is checked against five lines of NumPy and timed; docs/convolution.md
explains them.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from unittest import mock

from measuring import in_turns, machine, same_terms

SHAPES = [(2, 3, 256), (1, 32, 128), (1, 32, 256)]  # images, maps in and out, pixels
DILATION = 8
STEPS = [(3, 2, 64), (3, 2, 256), (32, 1, 128)]  # maps, images, pixels
PATIENCE = 2.0  # seconds for one call of `conv2d_scipy`; what is slower is left out


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1, help="of the BLAS (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    args = parser.parse_args(argv)
    same_terms(args.threads)
    import numpy as np  # only now: it reads its number of threads when it is loaded
    from engines import Definitions, Tinyseg, work

    from tinyseg import fast, ops
    from tinyseg.fast import FAST, conv
    from tinyseg.fast.memory import keep_memory

    def conv2d_scipy(x, weight, d):  # the definition
        return ops.conv2d_scipy(x, weight, dilation=d)

    def five_lines(x, weight, d):
        h, w = x.shape[2:]
        padded = np.pad(x, [(0, 0), (0, 0), (d, d), (d, d)])
        taps = {
            (i, j): padded[:, :, i * d : i * d + h, j * d : j * d + w] for i in range(3) for j in range(3)
        }
        return sum(np.einsum("oc,nchw->nohw", weight[:, :, i, j], taps[i, j]) for i, j in taps)

    def nine_products(x, weight, d):  # by hand
        return ops.conv2d(x, weight, dilation=d)

    def one_product(x, weight, d):  # the textbook's im2col
        n, c, h, w = x.shape
        padded = np.pad(x, [(0, 0), (0, 0), (d, d), (d, d)])
        taps = [padded[:, :, i * d : i * d + h, j * d : j * d + w] for i in range(3) for j in range(3)]
        matrix = weight.transpose(0, 2, 3, 1).reshape(-1, 9 * c)  # (O, C, 3, 3) -> (O, 9*C)
        return (matrix @ np.stack(taps, axis=1).reshape(n, 9 * c, h * w)).reshape(n, -1, h, w)

    def rows_and_columns(x, weight, d, apart=0):
        n, c, h, w = x.shape
        padded = np.pad(x, [(0, 0), (0, 0), (0, 0), (d, d)])
        columns, rows = (np.empty((n, 3 * c, h * w + apart), x.dtype)[:, :, : h * w] for _ in range(2))
        for j in range(3):
            columns.reshape(n, 3, c, h, w)[:, j] = padded[..., j * d : j * d + w]
        matrix = weight.transpose(2, 0, 3, 1).reshape(-1, 3 * c)  # (O, C, 3, 3) -> (3*O, 3*C)
        np.matmul(matrix, columns, out=rows)
        rows = rows.reshape(n, 3, c, h, w)
        y = rows[:, 1].copy()
        y[:, :, d:] += rows[:, 0, :, :-d]
        y[:, :, :-d] += rows[:, 2, :, d:]
        return y

    def rows_apart(x, weight, d):
        return rows_and_columns(x, weight, d, apart=16)

    def in_bands(x, weight, d):  # the fast twin
        return fast.conv2d(x, weight, dilation=d)

    ways = (conv2d_scipy, five_lines, nine_products, one_product, rows_and_columns, rows_apart, in_bands)
    times, steps = {}, {}
    for case in STEPS:  # first, while the C library still gives memory back
        steps[case] = in_turns({"memory fetched anew": Tinyseg(work(*case, "batch")).step}, args.rounds)
    keep_memory()

    for n, c, size in SHAPES:
        rng = np.random.default_rng(0)
        x, weight = rng.normal(size=(n, c, size, size)), rng.normal(size=(c, c, 3, 3))
        x, weight = x.astype(np.float32), weight.astype(np.float32)
        expected = five_lines(x, weight, DILATION)
        calls = {}
        for way in ways:
            start = time.perf_counter()
            y = way(x, weight, DILATION)
            seconds = time.perf_counter() - start
            np.testing.assert_allclose(y, expected, atol=1e-3)
            if way is conv2d_scipy and seconds > PATIENCE:
                print(f"{way.__name__}: {seconds:.1f} s for {c} maps, {size} px, left out", file=sys.stderr)
            else:
                calls[way.__name__] = lambda way=way, x=x, weight=weight: way(x, weight, DILATION)
        x, weight = x.astype(np.float64), weight.astype(np.float64)
        calls["in_double"] = lambda x=x, weight=weight: in_bands(x, weight, DILATION)
        times[n, c, size] = in_turns(calls, args.rounds)

    for case in STEPS:
        each = work(*case, "batch")
        plain, alike, double, step = Definitions(each), Tinyseg(each), Tinyseg(each), Tinyseg(each)
        apart = Tinyseg(each.by(replace(FAST, norm_add_relu=None)))
        double.to_float64()

        def bands_alike(alike=alike):
            with mock.patch.object(conv, "SMALL", 0):
                alike.step()

        steps[case] |= in_turns(
            {
                "by the definitions": plain.step,
                "norm, add, relu one by one": apart.step,
                "bands of one height for all kernels": bands_alike,
                "in float64": double.step,
                "as it is": step.step,
            },
            args.rounds,
        )

    print(f"{machine()}, {args.threads} threads, numpy {np.__version__}\n")
    print(f"One convolution, dilation {DILATION}, ms:\n")
    print(
        "| | " + " | ".join(f"{c} maps, {n} x {size} px" for n, c, size in SHAPES) + " |\n|---|---|---|---|"
    )
    for name in (*(way.__name__ for way in ways), "in_double"):
        cells = [f"{1000 * times[shape][name]:.2f}" if name in times[shape] else "" for shape in SHAPES]
        print(f"| `{name}` |", " | ".join(cells), "|")
    print("\nOne training step, ms:\n")
    print(
        "| | " + " | ".join("{} maps, {} x {} px".format(*case) for case in STEPS) + " |\n|---|---|---|---|"
    )
    for name in steps[STEPS[0]]:
        print(f"| {name} |", " | ".join(f"{1000 * steps[case][name]:.1f}" for case in STEPS), "|")


if __name__ == "__main__":
    main()
