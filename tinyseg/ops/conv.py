"""Dilated 2-D convolution: one trilinear form, seen from three sides.

A convolution layer looks at each pixel's neighbours through a small kernel of `kh x kw` weights
("taps"). Dilation spreads the taps `dilation` pixels apart, so that the same nine numbers see a
window of `2 * dilation + 1` pixels: the field of view grows, the cost does not (Yu & Koltun 2016).

Everything in this file follows from one number,

    T(x, w, y) = sum over n, o, c, p, q, i, j of
                 y[n, o, p, q] * w[o, c, i, j] * x[n, c, p + dilation*(i - kh//2), q + dilation*(j - kw//2)]

in which x is zero outside the image. T is linear in each of its three arguments, so its derivative by
one of them is a function of the other two alone, and no more than a rearrangement of the same sum:

    output(x, w) = dT/dy      the convolution itself
    input(y, w)  = dT/dx      what autodiff needs to go back to the image
    weight(x, y) = dT/dw      what autodiff needs to go back to the weights

Here is the proof that each one's derivatives are the other two. Take output(x, w) and a cotangent y:
<y, output(x, w)> is T(x, w, y), whose gradient by x is input(y, w) and by w is weight(x, y). The same holds
for input and for weight, since T does not care which of its arguments is called the output. Nothing
else is ever needed, however often one differentiates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from autograd.extend import defjvp, defvjp, defvjp_argnums, primitive
from autograd.tracer import isbox


def conv2d(x, weight, bias=None, *, dilation: int = 1, method: str = "gemm"):
    """Dilated 2-D cross-correlation of stride 1 with zero padding to the same size.

        y[n, o, p, q] = bias[o] + sum over c, i, j of
                        weight[o, c, i, j] * x[n, c, p + dilation*(i - kh//2), q + dilation*(j - kw//2)]

    Args:
        x: images, (N, C_in, H, W), float32 or float64.
        weight: kernels, (C_out, C_in, kh, kw) with odd kh and kw, of x's dtype.
        bias: (C_out,) of x's dtype, or None.
        dilation: pixels from one tap to the next; 1 is a dense kernel. It may exceed the image.
        method: "gemm", through matrix products, or "scipy", the definition through SciPy.

    Returns:
        (N, C_out, H, W) of x's dtype.

    Raises:
        ValueError: shapes, dtypes, dilation or method do not fit.

    Source: Yu & Koltun 2016 (arXiv 1511.07122), section 2; the paper's block, Anthimopoulos et al. 2018.
    """
    if isinstance(dilation, np.integer):
        dilation = int(dilation)  # it is going to be negated, and an unsigned one cannot be
    return _output(x, weight, bias, dilation=dilation, method=method)


# The three sides of T. Each is a primitive for autograd, linear in x, weight and y: going forward, its
# derivative is itself; going back, it is the other two sides. The bias only joins y's sum, once a pixel.
# From here on, a negative dilation means a kernel turned by 180 degrees: all its offsets change sign.


@primitive
def _output(x, weight, bias, *, dilation, method):
    """dT/dy, and the bias: (N, C, H, W), (O, C, kh, kw) and (O,) or None to (N, O, H, W)."""
    _check(x, weight, bias, dilation, method)
    return METHODS[method].output(x, weight, bias, dilation)


@primitive
def _input(y, weight, *, dilation, method):
    """dT/dx: (N, O, H, W) and (O, C, kh, kw) to (N, C, H, W).

    Substitute p by p - dilation*(i - kh//2) and q alike in T: it is the convolution of y with the roles of
    the kernel's channels swapped and every offset's sign changed.
    """
    return METHODS[method].output(y, weight.swapaxes(0, 1), None, -dilation)


@primitive
def _weight(x, y, *, kernel, dilation, method):
    """dT/dw: (N, C, H, W) and (N, O, H, W) to (O, C, kh, kw), where kernel = (kh, kw)."""
    return METHODS[method].weight(x, y, kernel, dilation)


def _output_vjp(argnums, ans, args, how):
    x, weight, _ = args

    def vjp(y):
        if argnums == (0, 1, 2) and not any(map(isbox, (x, weight, y))):
            # A training step. Nothing is differentiated any further, so no primitive is needed, and one pass
            # gives both gradients.
            both = METHODS[how["method"]].input_and_weight(x, weight, y, how["dilation"])
            return *both, sum_pixels(y).sum(axis=0)  # (N, O) -> (O,)
        sides = (
            lambda: _input(y, weight, **how),
            lambda: _weight(x, y, kernel=weight.shape[2:], **how),
            lambda: y.sum(axis=(0, 2, 3)),
        )
        return [sides[argnum]() for argnum in argnums]

    return vjp


defvjp_argnums(_output, _output_vjp)
defvjp(
    _input,
    lambda ans, y, weight, **how: lambda x: _output(x, weight, None, **how),
    lambda ans, y, weight, **how: lambda x: _weight(x, y, kernel=weight.shape[2:], **how),
)
defvjp(
    _weight,
    lambda ans, x, y, *, kernel, **how: lambda weight: _input(y, weight, **how),
    lambda ans, x, y, *, kernel, **how: lambda weight: _output(x, weight, None, **how),
)
defjvp(
    _output,
    lambda dx, ans, x, weight, bias, **how: _output(dx, weight, None, **how),
    lambda dweight, ans, x, weight, bias, **how: _output(x, dweight, None, **how),
    lambda dbias, ans, x, weight, bias, **how: (
        np.zeros(ans.shape, ans.dtype) + dbias.reshape((1, -1, 1, 1))  # (O,) -> (1, O, 1, 1)
    ),
)
defjvp(_input, "same", "same")
defjvp(_weight, "same", "same")


# Through SciPy: the definition. Write the zeros of the dilated kernel out and correlate plane by plane.


def _zero_stuffed(weight, dilation):
    """The dense kernel that a dilated one stands for; a negative dilation fills it from the other end."""
    o, c, kh, kw = weight.shape
    reach = abs(dilation)
    dense = np.zeros((o, c, (kh - 1) * reach + 1, (kw - 1) * reach + 1), weight.dtype)
    dense[:, :, ::dilation, ::dilation] = weight
    return dense


def _padded(x, kernel, dilation):
    """Zeros round each image, as far as the outermost taps reach."""
    return np.pad(x, [(0, 0), (0, 0)] + [(abs(dilation) * (k // 2),) * 2 for k in kernel])


def _inside(plane, kernel):
    """SciPy's correlation wherever the whole kernel lies on the (padded) plane."""
    from scipy.signal import correlate  # here, because it takes a second to load and few call this

    return correlate(plane, kernel, mode="valid")


def _scipy_output(x, weight, bias, dilation):
    x, kernels = _padded(x, weight.shape[2:], dilation), _zero_stuffed(weight, dilation)
    y = np.array([[sum(map(_inside, image, kernel)) for kernel in kernels] for image in x])
    return y if bias is None else y + bias[:, None, None]  # (O,) -> (O, 1, 1)


def _scipy_weight(x, y, kernel, dilation):
    x = _padded(x, kernel, dilation)
    dense = [[[_inside(plane, g) for plane in image] for g in gs] for image, gs in zip(x, y)]
    return np.sum(dense, axis=0)[:, :, ::dilation, ::dilation]  # (N, O, C, ...) -> (O, C, kh, kw)


def _scipy_input_and_weight(x, weight, y, dilation):
    dx = _scipy_output(y, weight.swapaxes(0, 1), None, -dilation)
    return dx, _scipy_weight(x, y, weight.shape[2:], dilation)


# Through matrix products: fast. A 3x3 kernel is three rows of three columns. So move the image by the three
# column offsets, let one product apply all the weights, and add up the three rows that it gives, each moved
# by its row offset. docs/convolution.md goes there step by step, on paper and by the clock.


def _gemm_output(x, weight, bias, dilation):
    weight = _within(weight, dilation, *x.shape[2:])
    matrix, rows = _matrix(weight), _rows(x, weight)
    for pixels, columns in _bands(x, weight.size, across=_offsets(weight.shape[3], dilation)):
        _multiply(matrix, columns, out=rows[:, :, pixels])
    return _added_up(rows, x, weight, bias, dilation)


def _gemm_weight(x, y, kernel, dilation):
    # T again: x moved by the rows times y moved back by the columns, summed over all pixels.
    gradient = np.zeros((y.shape[1], x.shape[1], *kernel), x.dtype)
    inside = _within(gradient, dilation, *x.shape[2:])
    kh, kw = inside.shape[2:]
    down = _bands(x, inside.size, down=_offsets(kh, dilation))
    across = _bands(y, inside.size, across=_offsets(kw, -dilation))
    for (_, x_moved), (_, y_moved) in zip(down, across):
        _add_products(inside, x_moved, y_moved)
    return gradient


def _gemm_input_and_weight(x, weight, y, dilation):
    # Both of the above want y moved back by the columns. So move it once, band by band, for both.
    gradient = np.zeros(weight.shape, weight.dtype)
    inside = _within(gradient, dilation, *x.shape[2:])
    swapped = _within(weight, dilation, *x.shape[2:]).swapaxes(0, 1)
    matrix, rows = _matrix(swapped), _rows(y, swapped)
    kh, kw = inside.shape[2:]
    down = _bands(x, inside.size, down=_offsets(kh, dilation))
    across = _bands(y, inside.size, across=_offsets(kw, -dilation))
    for (_, x_moved), (pixels, y_moved) in zip(down, across):
        _multiply(matrix, y_moved, out=rows[:, :, pixels])
        _add_products(inside, x_moved, y_moved)
    return _added_up(rows, y, swapped, None, -dilation), gradient


def _matrix(weight):
    """All weights as one matrix, by which columns become rows."""
    o, c, kh, kw = weight.shape
    return weight.transpose(2, 0, 3, 1).reshape(kh * o, kw * c)  # (O, C, kh, kw) -> (kh*O, kw*C)


def _rows(x, weight):
    """Memory for what the kernel's rows give, (N, kh*O, H*W); for a single row, that is the output."""
    (n, _, h, w), (o, _, kh, _) = x.shape, weight.shape
    return np.empty((n, o, h * w), x.dtype) if kh == 1 else _matrices(n, kh * o, h * w, x.dtype)


def _multiply(matrix, columns, out):
    """(kh*O, kw*C) @ (N, kw*C, P) -> (N, kh*O, P)."""
    if matrix.shape[1] == 1:  # an outer product, for which matmul does not ask the BLAS
        np.multiply(matrix, columns, out=out)
    else:
        np.matmul(matrix, columns, out=out)


def _added_up(rows, x, weight, bias, dilation):
    """The output: what each row of the kernel gave, moved by its offset, and the bias."""
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


def _add_products(gradient, x_moved, y_moved):
    """To each weight, the sum over all pixels of x moved by its row times y moved back by its column."""
    o, c, kh, kw = gradient.shape
    products = x_moved @ y_moved.swapaxes(1, 2)  # (N, kh*C, P) @ (N, P, kw*O) -> (N, kh*C, kw*O)
    products = products.sum(axis=0).reshape(kh, c, kw, o)  # (N, kh*C, kw*O) -> (kh, C, kw, O)
    gradient += products.transpose(3, 1, 0, 2)  # (kh, C, kw, O) -> (O, C, kh, kw)


# Pixels at a time. OpenBLAS may multiply small matrices as they lie; larger ones it packs first, which costs
# more than the product if channels are few. So a band is lower where that keeps its product small. Any values
# give the same results; docs/convolution.md has the times.
BAND = 2**13  # what belongs to so many stays in the processor's caches
LOW = 1000  # lower bands are not worth a loop
SMALL = 10**6  # multiplications of a small product


def _bands(x, weights, down=(0,), across=(0,)):
    """Go down the images band by band: (pixels, moved), some of the H*W pixels and x moved by each offset.

    moved[:, k, :, p, q] is x[:, :, p + down, q + across] for the k-th pair of offsets, zero outside the
    image; as a matrix, (N, k*C, P). Each band uses the same memory again. `weights` is the kernel's number
    of them.
    """
    n, c, h, w = x.shape
    small = SMALL // weights
    height = min(h, max(1, (small if LOW <= small < BAND else BAND) // w))
    bands = [(top, min(h, top + height)) for top in range(0, h, height)]
    offsets = [(i, j) for i in down for j in across]
    if offsets == [(0, 0)]:  # nothing moves
        images = x.reshape(n, c, h * w)  # (N, C, H, W) -> (N, C, H*W)
        for top, bottom in bands:
            yield slice(top * w, bottom * w), images[:, :, top * w : bottom * w]
        return
    memory = _matrices(n, len(offsets) * c, height * w, x.dtype)
    for top, bottom in bands:
        moved = memory[:, :, : (bottom - top) * w]
        images = moved.reshape(n, len(offsets), c, bottom - top, w)  # (N, k*C, P) -> (N, k, C, rows, W)
        for k, (i, j) in enumerate(offsets):
            _look(x, top + i, j, out=images[:, k])
        yield slice(top * w, bottom * w), moved


def _look(x, top, left, out):
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


class Method(NamedTuple):
    """Two sides of T suffice: the third is the first again. A training step wants two of them at once."""

    output: Callable
    weight: Callable
    input_and_weight: Callable


METHODS = {
    "gemm": Method(_gemm_output, _gemm_weight, _gemm_input_and_weight),
    "scipy": Method(_scipy_output, _scipy_weight, _scipy_input_and_weight),
}


def _check(x, weight, bias, dilation, method):
    """One clear error before anything is computed."""
    if x.ndim != 4 or weight.ndim != 4:
        raise ValueError(
            f"conv2d: expected x (N, C, H, W) and weight (O, C, kh, kw), got {x.shape}, {weight.shape}"
        )
    o, c, kh, kw = weight.shape
    if 0 in weight.shape:
        raise ValueError(f"conv2d: expected weight (O, C, kh, kw) with no empty axis, got {weight.shape}")
    if x.shape[1] != c or 0 in x.shape:
        raise ValueError(f"conv2d: weight {weight.shape} expects x (N, {c}, H, W), got {x.shape}")
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"conv2d: expected an odd kernel, got {kh}x{kw}")
    if bias is not None and bias.shape != (o,):
        raise ValueError(f"conv2d: expected bias ({o},), got {bias.shape}")
    dtypes = {a.dtype for a in (x, weight, bias) if a is not None}
    if len(dtypes) > 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
        raise ValueError(f"conv2d: expected float32 or float64 throughout, got {sorted(map(str, dtypes))}")
    if isinstance(dilation, bool) or not isinstance(dilation, int | np.integer) or dilation < 1:
        raise ValueError(f"conv2d: expected a whole dilation of 1 (dense) or more, got {dilation!r}")
    if method not in METHODS:
        raise ValueError(f"conv2d: expected method {' or '.join(map(repr, METHODS))}, got {method!r}")
