"""The twin of `ops.conv2d`: one matrix product for all taps, a band of pixels at a time.

A 3x3 kernel is three rows of three columns. Shift the image by the three column offsets, let one product
apply all the weights, and add up the three rows that it gives, each shifted by its row offset.
docs/convolution.md goes there step by step, on paper and by the clock.

A negative dilation means a kernel turned by 180 degrees: all its offsets change their sign.
"""

from __future__ import annotations

import numpy as np
from autograd.extend import primitive

from tinyseg import ops
from tinyseg.fast.twin import define_gradients
from tinyseg.ops.conv import check_conv2d


def conv2d(x, weight, bias=None, *, dilation: int = 1):
    """As `ops.conv2d`: arguments, result and errors."""
    check_conv2d(x, weight, bias, dilation)
    return _conv2d(x, weight, bias, dilation=int(dilation))


@primitive
def _conv2d(x, weight, bias, *, dilation):
    return _output(x, weight, bias, dilation)


def _output(x, weight, bias, dilation):
    """The convolution, and the bias, which joins each pixel's sum once: (N, O, H, W)."""
    weight = _within(weight, dilation, *x.shape[2:])
    matrix, rows = _matrix(weight), _rows(x, weight)
    for pixels, columns in _bands(x, weight.size, across=_offsets(weight.shape[3], dilation)):
        _multiply(matrix, columns, out=rows[:, :, pixels])
    return _sum_rows(rows, x, weight, bias, dilation)


def _gradients(g, ans, x, weight, bias, *, dilation):
    """The cotangents of x, weight and bias. The first two want g shifted back by the columns: do it once.

    To x goes g, through the kernel with its channels swapped and every offset's sign changed. A weight gets
    the sum over all pixels of x shifted by its row, times g shifted back by its column.
    """
    gradient = np.zeros(weight.shape, weight.dtype.type)
    inside = _within(gradient, dilation, *x.shape[2:])
    swapped = _within(weight, dilation, *x.shape[2:]).swapaxes(0, 1)
    matrix, rows = _matrix(swapped), _rows(g, swapped)
    kh, kw = inside.shape[2:]
    down = _bands(x, inside.size, down=_offsets(kh, dilation))
    across = _bands(g, inside.size, across=_offsets(kw, -dilation))
    for (_, x_shifted), (pixels, g_shifted) in zip(down, across):
        _multiply(matrix, g_shifted, out=rows[:, :, pixels])
        _add_products(inside, x_shifted, g_shifted)
    dx = _sum_rows(rows, g, swapped, None, -dilation)
    return dx, gradient, None if bias is None else sum_pixels(g).sum(axis=0)  # (N, O) -> (O,)


def _matrix(weight):
    """All weights as one matrix, by which columns become rows."""
    o, c, kh, kw = weight.shape
    return weight.transpose(2, 0, 3, 1).reshape(kh * o, kw * c)  # (O, C, kh, kw) -> (kh*O, kw*C)


def _rows(x, weight):
    """Memory for what the kernel's rows give, (N, kh*O, H*W); for a single row, that is the output."""
    (n, _, h, w), (o, _, kh, _) = x.shape, weight.shape
    return np.empty((n, o, h * w), x.dtype.type) if kh == 1 else _matrices(n, kh * o, h * w, x.dtype.type)


def _multiply(matrix, columns, out):
    """(kh*O, kw*C) @ (N, kw*C, P) -> (N, kh*O, P)."""
    if matrix.shape[1] == 1:  # an outer product, for which matmul does not ask the BLAS
        np.multiply(matrix, columns, out=out)
    else:
        np.matmul(matrix, columns, out=out)


def _sum_rows(rows, x, weight, bias, dilation):
    """The output: what each row of the kernel gave, shifted by its offset, and the bias."""
    (n, _, h, w), (o, _, kh, _) = x.shape, weight.shape
    rows = rows.reshape(n, kh, o, h, w)  # (N, kh*O, H*W) -> (N, kh, O, H, W)
    bias = 0 if bias is None else bias[:, None, None]  # (O,) -> (O, 1, 1)
    middle = rows[:, kh // 2]
    y = np.add(middle, bias, out=middle if kh == 1 else None)  # a single row is the output already
    for i, offset in enumerate(_offsets(kh, dilation)):
        if offset:
            first, last = max(0, -offset), min(h, h - offset)
            y[:, :, first:last] += rows[:, i, :, first + offset : last + offset]
    return y


def _add_products(gradient, x_shifted, g_shifted):
    """To each weight, the sum over all pixels of x shifted by its row times g shifted back by its column."""
    o, c, kh, kw = gradient.shape
    products = x_shifted @ g_shifted.swapaxes(1, 2)  # (N, kh*C, P) @ (N, P, kw*O) -> (N, kh*C, kw*O)
    products = products.sum(axis=0).reshape(kh, c, kw, o)  # (N, kh*C, kw*O) -> (kh, C, kw, O)
    gradient += products.transpose(3, 1, 0, 2)  # (kh, C, kw, O) -> (O, C, kh, kw)


# Pixels at a time. OpenBLAS may multiply small matrices as they lie; larger ones it packs first, which costs
# more than the product if channels are few. So a band is lower where that keeps its product small. Any values
# give the same results; docs/convolution.md has the times.
BAND = 2**13  # what belongs to so many stays in the processor's caches
LOW = 1000  # lower bands are not worth a loop
SMALL = 10**6  # multiplications of a small product


def _bands(x, weights, down=(0,), across=(0,)):
    """Go down the images band by band: (pixels, shifted), some of the pixels, and x shifted there.

    shifted[:, k, :, p, q] is x[:, :, p + down, q + across] for the k-th pair of offsets, zero outside the
    image; as a matrix, (N, k*C, P). Each band uses the same memory again. `weights` is the kernel's number
    of them.
    """
    n, c, h, w = x.shape
    small = SMALL // weights
    height = min(h, max(1, (small if LOW <= small < BAND else BAND) // w))
    bands = [(top, min(h, top + height)) for top in range(0, h, height)]
    offsets = [(i, j) for i in down for j in across]
    if offsets == [(0, 0)]:  # no shift
        images = x.reshape(n, c, h * w)  # (N, C, H, W) -> (N, C, H*W)
        for top, bottom in bands:
            yield slice(top * w, bottom * w), images[:, :, top * w : bottom * w]
        return
    memory = _matrices(n, len(offsets) * c, height * w, x.dtype.type)
    for top, bottom in bands:
        shifted = memory[:, :, : (bottom - top) * w]
        images = shifted.reshape(n, len(offsets), c, bottom - top, w)  # (N, k*C, P) -> (N, k, C, rows, W)
        for k, (i, j) in enumerate(offsets):
            _copy_shifted(x, top + i, j, out=images[:, k])
        yield slice(top * w, bottom * w), shifted


def _copy_shifted(x, top, left, out):
    """out[:, :, p, q] = x[:, :, top + p, left + q], zero outside the image."""
    (h, w), (rows, columns) = x.shape[2:], out.shape[2:]
    first, start = max(0, -top), max(0, -left)
    last, stop = max(first, min(rows, h - top)), min(columns, w - left)
    if first or last < rows:
        out[:, :, :first] = out[:, :, last:] = 0
    if start or stop < columns:
        out[..., :start] = out[..., stop:] = 0
    out[:, :, first:last, start:stop] = x[:, :, top + first : top + last, left + start : left + stop]


def _matrices(n, rows, columns, dtype):
    """Memory for N matrices, with 16 unused numbers after each of their rows."""
    # Images often have 2**k pixels, and rows that lie 2**k numbers apart compete for few cache lines.
    return np.empty((n, rows, columns + 16), dtype)[:, :, :columns]


def _within(weight, dilation, h, w):
    """A view of the taps that can touch an image of h x w: the others meet zeros alone."""
    ci, cj = weight.shape[2] // 2, weight.shape[3] // 2
    ri, rj = min(ci, (h - 1) // abs(dilation)), min(cj, (w - 1) // abs(dilation))
    return weight[:, :, ci - ri : ci + ri + 1, cj - rj : cj + rj + 1]


def _offsets(taps, dilation):
    """Where each of an odd number of taps looks, relative to its pixel: 3 taps at 2 give -2, 0, 2."""
    return [dilation * (i - taps // 2) for i in range(taps)]


def sum_pixels(x):
    """The sum over each image's pixels, (N, C, H, W) to (N, C), of x's dtype."""
    # Rows first, times ones, since the BLAS adds faster than NumPy; then what the rows gave, by NumPy, since
    # one long float32 product would lose digits.
    return (x @ np.ones(x.shape[3], x.dtype)).sum(axis=2)  # (N, C, H, W) -> (N, C, H) -> (N, C)


define_gradients(_conv2d, ops.conv2d, _gradients)
