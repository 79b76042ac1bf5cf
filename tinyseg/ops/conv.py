"""Dilated 2-D convolution: first as autograd can follow it, then with its derivatives by hand.

A convolution layer looks at each pixel's neighbours through a small kernel of `kh x kw` weights, its
"taps". Dilation puts the taps `dilation` pixels apart. With a 3 x 3 kernel, the same nine weights then see a
square window with sides of `2 * dilation + 1` pixels: the window grows, the cost does not (Yu & Koltun 2016).

    y[n, o, p, q] = bias[o] + sum over c, i, j of
                    weight[o, c, i, j] * x[n, c, p + dilation*(i - kh//2), q + dilation*(j - kw//2)]

Here x is zero outside the image. This file computes y in two ways:

1. `conv2d_scipy` is the definition, by autograd's version of `scipy.signal.convolve`. Nobody wrote a
   derivative for it here: autograd finds one.
2. `conv2d` is written by hand: one matrix product for each tap, and both gradients right below.

A third way, made fast, is not on the reading path. The end of this file says where it is.
"""

from __future__ import annotations

from functools import lru_cache

import autograd.numpy as np
import numpy
from autograd.extend import defjvp, defvjp, primitive
from autograd.scipy.signal import convolve

from tinyseg.ops.check import check_nchw, floats

# 1. The definition. Take every d-th pixel in both directions: a dilated convolution of the image is a dense
# convolution of these. There are d * d such sub-images. Take them apart, convolve all of them with the dense
# kernel, and put them together again.


def conv2d_scipy(x, weight, bias=None, *, dilation: int = 1):
    """The same function as `conv2d`, as its definition says it; autograd differentiates it.

    Arguments, result and errors are those of `conv2d`. Slow: it serves to understand, and to test.
    """
    check_conv2d(x, weight, bias, dilation)
    (n, _, h, w), (o, _, kh, kw), d = x.shape, weight.shape, int(dilation)
    rows, columns = -(-h // d), -(-w // d)  # of each sub-image, rounded up
    x = np.pad(x, [(0, 0), (0, 0), (0, rows * d - h), (0, columns * d - w)], "constant")
    x = np.reshape(x, (n, -1, rows, d, columns, d))  # (N, C, H, W) -> (N, C, rows, d, columns, d)
    x = np.transpose(x, (3, 5, 0, 1, 2, 4))  # -> (d, d, N, C, rows, columns)
    x = np.reshape(x, (d * d * n, -1, rows, columns))  # -> (d*d*N, C, rows, columns): the sub-images
    x = np.pad(x, [(0, 0), (0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2)], "constant")
    turned = weight[:, :, ::-1, ::-1]  # a convolution turns its kernel by 180 degrees; this undoes it
    y = convolve(x, turned, axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")
    y = np.reshape(y, (d, d, n, o, rows, columns))  # (d*d*N, O, rows, columns) -> (d, d, N, O, ...)
    y = np.transpose(y, (2, 3, 4, 0, 5, 1))  # -> (N, O, rows, d, columns, d)
    y = np.reshape(y, (n, o, rows * d, columns * d))[:, :, :h, :w]  # -> (N, O, H, W)
    return y if bias is None else y + np.reshape(bias, (1, -1, 1, 1))  # (O,) -> (1, O, 1, 1)


defjvp(
    convolve, "same", "same"
)  # autograd has no forward mode for it; it is linear in both, so it is its own


# 2. By hand. Everything follows from one number. Multiply the convolution (without its bias) by any array g
# of its shape, and add up:
#
#     T(x, w, g) = sum over n, o, c, i, j, p, q of
#                  g[n, o, p, q] * w[o, c, i, j] * x[n, c, p + dilation*(i - kh//2), q + dilation*(j - kw//2)]
#
# T is linear in each of its three arguments: it is a trilinear form. Its derivative by one argument is a
# function of the other two, and it is the same sum, arranged in another way:
#
#     _output(x, w) = dT/dg    the convolution itself
#     _input(g, w)  = dT/dx    going back to the image, if g is the cotangent of the output
#     _weight(x, g) = dT/dw    going back to the weights
#
# This proves the gradients. Write <a, b> for the sum of all a * b. If g is the cotangent of _output(x, w),
# the chain rule wants the derivatives of <g, _output(x, w)> by x and by w. That number is T, so they are
# _input(g, w) and _weight(x, g). In the same way T = <x, _input(g, w)> = <w, _weight(x, g)>, which gives
# the derivatives of the other two functions. Each time they are the other two, however often we
# differentiate.


def conv2d(x, weight, bias=None, *, dilation: int = 1):
    """Dilated 2-D cross-correlation (no turned kernel) of stride 1, with zero padding to the same size.

        y[n, o, p, q] = bias[o] + sum over c, i, j of
                        weight[o, c, i, j] * x[n, c, p + dilation*(i - kh//2), q + dilation*(j - kw//2)]

    Args:
        x: images, (N, C_in, H, W), float32 or float64.
        weight: kernels, (C_out, C_in, kh, kw) with odd kh and kw, of x's dtype.
        bias: (C_out,) of x's dtype, or None.
        dilation: pixels from one tap to the next; 1 is a dense kernel. It may exceed the image.

    Returns:
        (N, C_out, H, W) of x's dtype.

    Raises:
        ValueError: shapes, dtypes or dilation do not fit.

    Source: Yu & Koltun 2016 (arXiv 1511.07122), section 2; the paper's block, Anthimopoulos et al. 2018.
    """
    check_conv2d(x, weight, bias, dilation)
    y = _output(x, weight, int(dilation))
    return y if bias is None else y + np.reshape(bias, (1, -1, 1, 1))  # (O,) -> (1, O, 1, 1)


@primitive
def _output(x, weight, dilation):
    """dT/dg: x (N, C, H, W) and weight (O, C, kh, kw) to (N, O, H, W)."""
    y = numpy.zeros((len(x), len(weight), *x.shape[2:]), x.dtype.type)  # in this machine's byte order
    for tap, here, there in _taps(weight.shape[2:], dilation, *x.shape[2:]):
        y[here] += _mix(weight[tap], x[there])
    return y


@primitive
def _input(g, weight, dilation):
    """dT/dx: g (N, O, H, W) and weight (O, C, kh, kw) to (N, C, H, W)."""
    dx = numpy.zeros((len(g), weight.shape[1], *g.shape[2:]), g.dtype.type)
    for tap, here, there in _taps(weight.shape[2:], dilation, *g.shape[2:]):
        dx[there] += _mix(weight[tap].T, g[here])
    return dx


@primitive
def _weight(x, g, kernel, dilation):
    """dT/dw: x (N, C, H, W) and g (N, O, H, W) to (O, C, kh, kw), where kernel = (kh, kw)."""
    dw = numpy.zeros((g.shape[1], x.shape[1], *kernel), x.dtype.type)
    for tap, here, there in _taps(kernel, dilation, *x.shape[2:]):
        products = _flat(g[here]) @ _flat(x[there]).swapaxes(1, 2)  # (N, O, h*w) @ (N, h*w, C)
        dw[tap] = products.sum(axis=0)  # (N, O, C) -> (O, C)
    return dw


# Reverse mode: of each function, the derivatives by its two arrays are the other two functions. Each array
# keeps its letter of T here: the cotangent of _input(g, w), which has x's shape, is called x, and that of
# _weight(x, g) is called weight. In all other files a cotangent is called g.
defvjp(
    _output,
    lambda ans, x, weight, dilation: lambda g: _input(g, weight, dilation),
    lambda ans, x, weight, dilation: lambda g: _weight(x, g, weight.shape[2:], dilation),
)
defvjp(
    _input,
    lambda ans, g, weight, dilation: lambda x: _output(x, weight, dilation),
    lambda ans, g, weight, dilation: lambda x: _weight(x, g, weight.shape[2:], dilation),
)
defvjp(
    _weight,
    lambda ans, x, g, kernel, dilation: lambda weight: _input(g, weight, dilation),
    lambda ans, x, g, kernel, dilation: lambda weight: _output(x, weight, dilation),
)
# Forward mode: each function is linear in each array, so a change of the array goes where the array went.
for function in (_output, _input, _weight):
    defjvp(function, "same", "same")


@lru_cache
def _taps(kernel, dilation, height, width) -> tuple:
    """For each tap three indices: its weights, the pixels of y that it adds to, those of x that it reads.

    The pixels x[there] lie one offset away from y[here]. A tap that sees only zeros does not come up.
    """

    def overlap(offset, length):  # which places have a neighbour at this offset, and which are neighbours
        return slice(max(0, -offset), length - max(0, offset)), slice(
            max(0, offset), length - max(0, -offset)
        )

    taps, everything = [], (slice(None), slice(None))
    for i, j in numpy.ndindex(kernel):
        down, right = dilation * (i - kernel[0] // 2), dilation * (j - kernel[1] // 2)
        if abs(down) < height and abs(right) < width:
            (rows, rows_there), (columns, columns_there) = overlap(down, height), overlap(right, width)
            here, there = (rows, columns), (rows_there, columns_there)
            taps.append(((*everything, i, j), (*everything, *here), (*everything, *there)))
    return tuple(taps)


def _mix(matrix, x):
    """Multiply the channels of every pixel by one matrix: (O, C) and (N, C, h, w) to (N, O, h, w)."""
    return (matrix @ _flat(x)).reshape(len(x), -1, *x.shape[2:])  # (N, O, h*w) -> (N, O, h, w)


def _flat(x):
    """(N, C, h, w) -> (N, C, h*w)."""
    return x.reshape(*x.shape[:2], -1)


# 3. Fast: fast/conv.py computes the same with one product for all taps, a band of pixels at a time, and both
# gradients in one pass. docs/convolution.md goes there step by step, on paper and by the clock.


def check_conv2d(x, weight, bias, dilation):
    """One clear error before anything is computed."""
    x, weight = floats("conv2d", x=x, weight=weight)
    check_nchw("conv2d", x=x)
    if weight.ndim != 4 or 0 in weight.shape:
        raise ValueError(f"conv2d: expected weight (O, C, kh, kw) with no empty axis, got {weight.shape}")
    o, c, kh, kw = weight.shape
    if x.shape[1] != c:
        raise ValueError(f"conv2d: weight {weight.shape} expects x (N, {c}, H, W), got {x.shape}")
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"conv2d: expected an odd kernel, got {kh}x{kw}")
    if bias is not None:
        _, bias = floats("conv2d", x=x, bias=bias)
        if bias.shape != (o,):
            raise ValueError(f"conv2d: expected bias ({o},), got {bias.shape}")
    if isinstance(dilation, bool) or not isinstance(dilation, int | numpy.integer) or dilation < 1:
        raise ValueError(f"conv2d: expected a whole dilation of 1 (dense) or more, got {dilation!r}")
