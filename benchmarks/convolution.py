"""From a five-line definition to the fast convolution, and from there to a fast training step.

Each way of writing the same thing is checked against the first and timed; docs/convolution.md explains them.
"""

from __future__ import annotations

import argparse
from unittest import mock

from measuring import in_turns, machine, same_terms

SHAPES = [(2, 3, 256), (1, 32, 128), (1, 32, 256)]  # images, maps in and out, pixels
DILATION = 8
STEPS = [(3, 2, 64), (3, 2, 256), (32, 1, 128)]  # maps, images, pixels


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1, help="of the BLAS (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    args = parser.parse_args(argv)
    same_terms(args.threads)
    import numpy as np  # only now: it reads its number of threads when it is loaded
    from engines import Tinyseg, work

    from tinyseg import layers
    from tinyseg.ops import conv, conv2d
    from tinyseg.ops.fused import definition as by_parts
    from tinyseg.ops.norm import moments
    from tinyseg.training import keep_memory

    def five_lines(x, weight, d):
        h, w = x.shape[2:]
        padded = np.pad(x, [(0, 0), (0, 0), (d, d), (d, d)])
        taps = {
            (i, j): padded[:, :, i * d : i * d + h, j * d : j * d + w] for i in range(3) for j in range(3)
        }
        return sum(np.einsum("oc,nchw->nohw", weight[:, :, i, j], taps[i, j]) for i, j in taps)

    def nine_products(x, weight, d):
        n, c, h, w = x.shape
        padded = np.pad(x, [(0, 0), (0, 0), (d, d), (d, d)])
        y = np.zeros((n, len(weight), h * w), x.dtype)
        for i in range(3):
            for j in range(3):
                tap = padded[:, :, i * d : i * d + h, j * d : j * d + w].reshape(n, c, h * w)
                y += weight[:, :, i, j] @ tap
        return y.reshape(n, -1, h, w)

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

    def in_bands(x, weight, d):
        return conv2d(x, weight, dilation=d)

    ways = (five_lines, nine_products, one_product, rows_and_columns, rows_apart, in_bands)
    times, steps = {}, {}
    for case in STEPS:  # first, while the C library still gives memory back
        steps[case] = in_turns({"memory fetched anew": Tinyseg(work(*case, "batch")).step}, args.rounds)
    keep_memory()

    for n, c, size in SHAPES:
        rng = np.random.default_rng(0)
        x, weight = rng.normal(size=(n, c, size, size)), rng.normal(size=(c, c, 3, 3))
        x, weight = x.astype(np.float32), weight.astype(np.float32)
        expected = five_lines(x, weight, DILATION)
        for way in ways:
            np.testing.assert_allclose(way(x, weight, DILATION), expected, atol=1e-3)
        calls = {way.__name__: lambda way=way, x=x, weight=weight: way(x, weight, DILATION) for way in ways}
        x, weight = x.astype(np.float64), weight.astype(np.float64)
        calls["in_double"] = lambda x=x, weight=weight: in_bands(x, weight, DILATION)
        times[n, c, size] = in_turns(calls, args.rounds)

    def parts(y, gamma, beta, skip, *, axes, eps, y_moments):
        return by_parts(y, gamma, beta, skip, y_moments or moments(y, axes), axes=axes, eps=eps)

    def one_after_the_other(x, weight, y, dilation):
        dx = conv._gemm_output(y, weight.swapaxes(0, 1), None, -dilation)
        return dx, conv._gemm_weight(x, y, weight.shape[2:], dilation)

    for case in STEPS:
        plain, apart, alike, step, double = (Tinyseg(work(*case, "batch")) for _ in range(5))
        double.to_float64()

        def one_by_one(plain=plain):
            with mock.patch.object(layers, "norm_add_relu", parts):
                plain.step()

        def gradients_apart(apart=apart):
            method = conv.METHODS["gemm"]._replace(input_and_weight=one_after_the_other)
            with mock.patch.dict(conv.METHODS, gemm=method):
                apart.step()

        def bands_alike(alike=alike):
            with mock.patch.object(conv, "SMALL", 0):
                alike.step()

        calls = {
            "norm, add, relu one by one": one_by_one,
            "a convolution's gradients one by one": gradients_apart,
            "bands of one height for all kernels": bands_alike,
            "in float64": double.step,
            "as it is": step.step,
        }
        steps[case] |= in_turns(calls, args.rounds)

    print(f"{machine()}, {args.threads} threads, numpy {np.__version__}\n")
    print(f"One convolution, dilation {DILATION}, ms:\n")
    print(
        "| | " + " | ".join(f"{c} maps, {n} x {size} px" for n, c, size in SHAPES) + " |\n|---|---|---|---|"
    )
    for name in times[SHAPES[0]]:
        print(f"| `{name}` |", " | ".join(f"{1000 * times[shape][name]:.2f}" for shape in SHAPES), "|")
    print("\nOne training step, ms:\n")
    print(
        "| | " + " | ".join("{} maps, {} x {} px".format(*case) for case in STEPS) + " |\n|---|---|---|---|"
    )
    for name in steps[STEPS[0]]:
        print(f"| {name} |", " | ".join(f"{1000 * steps[case][name]:.1f}" for case in STEPS), "|")


if __name__ == "__main__":
    main()
