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
from autograd.extend import defjvp, defvjp, primitive


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
    _check(x, weight, bias, dilation, method)
    y = _output(x, weight, dilation=dilation, method=method)
    return y if bias is None else y + bias.reshape((1, -1, 1, 1))  # (C_out,) -> (1, C_out, 1, 1)


# The three sides of T. Each is a primitive for autograd, linear in both arguments: going forward, its
# derivative is itself ("same"); going back, it is the other two sides.


@primitive
def _output(x, weight, *, dilation, method):
    """dT/dy: (N, C, H, W) and (O, C, kh, kw) to (N, O, H, W)."""
    return METHODS[method].output(x, weight, dilation)


@primitive
def _input(y, weight, *, dilation, method):
    """dT/dx: (N, O, H, W) and (O, C, kh, kw) to (N, C, H, W).

    Substitute p by p - dilation*(i - kh//2) and q alike in T: it is the convolution of y with each
    kernel turned by 180 degrees and the roles of its channels swapped.
    """
    return METHODS[method].output(y, weight[:, :, ::-1, ::-1].swapaxes(0, 1), dilation)


@primitive
def _weight(x, y, *, kernel, dilation, method):
    """dT/dw: (N, C, H, W) and (N, O, H, W) to (O, C, kh, kw), where kernel = (kh, kw)."""
    return METHODS[method].weight(x, y, kernel, dilation)


defvjp(
    _output,
    lambda ans, x, weight, **how: lambda y: _input(y, weight, **how),
    lambda ans, x, weight, **how: lambda y: _weight(x, y, kernel=weight.shape[2:], **how),
)
defvjp(
    _input,
    lambda ans, y, weight, **how: lambda x: _output(x, weight, **how),
    lambda ans, y, weight, **how: lambda x: _weight(x, y, kernel=weight.shape[2:], **how),
)
defvjp(
    _weight,
    lambda ans, x, y, *, kernel, **how: lambda weight: _input(y, weight, **how),
    lambda ans, x, y, *, kernel, **how: lambda weight: _output(x, weight, **how),
)
for _side in (_output, _input, _weight):
    defjvp(_side, "same", "same")


# Through SciPy: the definition. Write the zeros of the dilated kernel out and correlate plane by plane.


def _zero_stuffed(weight, dilation):
    """The dense kernel that a dilated one stands for: `dilation - 1` zeros between its taps."""
    o, c, kh, kw = weight.shape
    dense = np.zeros((o, c, (kh - 1) * dilation + 1, (kw - 1) * dilation + 1), weight.dtype)
    dense[:, :, ::dilation, ::dilation] = weight
    return dense


def _padded(x, kernel, dilation):
    """Zeros round each image, as far as the outermost taps reach."""
    return np.pad(x, [(0, 0), (0, 0)] + [(dilation * (k // 2),) * 2 for k in kernel])


def _inside(plane, kernel):
    """SciPy's correlation wherever the whole kernel lies on the (padded) plane."""
    from scipy.signal import correlate  # here, because it takes a second to load and few call this

    return correlate(plane, kernel, mode="valid")


def _scipy_output(x, weight, dilation):
    x, kernels = _padded(x, weight.shape[2:], dilation), _zero_stuffed(weight, dilation)
    return np.array([[sum(map(_inside, image, kernel)) for kernel in kernels] for image in x])


def _scipy_weight(x, y, kernel, dilation):
    x = _padded(x, kernel, dilation)
    dense = [[[_inside(plane, g) for plane in image] for g in gs] for image, gs in zip(x, y)]
    return np.sum(dense, axis=0)[:, :, ::dilation, ::dilation]  # (N, O, C, ...) -> (O, C, kh, kw)


# Through matrix products: fast. A 3x3 kernel is three rows of three columns, so move the image by the
# three column offsets, let one product apply all the weights, and add the three rows it gives, each
# moved by its row offset. That copies 3 planes a channel where the textbook's im2col copies 9.


def _gemm_output(x, weight, dilation):
    n, c, h, w = x.shape
    weight = _within(weight, dilation, h, w)
    o, _, kh, kw = weight.shape
    columns = _moved(x, _offsets(kw, dilation), axis=-1)
    columns = columns.reshape(n, kw * c, h * w)  # (N, kw, C, H, W) -> (N, kw*C, H*W)
    matrix = weight.transpose(2, 0, 3, 1).reshape(kh * o, kw * c)  # (O, C, kh, kw) -> (kh*O, kw*C)
    rows = (matrix @ columns).reshape(n, kh, o, h, w)  # (N, kh*O, H*W) -> (N, kh, O, H, W)
    y = rows[:, kh // 2]
    if kh > 1:
        y = y.copy()  # lets go of the rows, and the middle row needs no move
        for i, offset in enumerate(_offsets(kh, dilation)):
            if offset:
                to, source = _overlap(offset, h, axis=-2)
                y[to] += rows[:, i][source]
    return y


def _gemm_weight(x, y, kernel, dilation):
    # T again, with x moved by rows and y moved back by columns: the sum over pixels is one product.
    (n, c, h, w), o = x.shape, y.shape[1]
    gradient = np.zeros((o, c, *kernel), x.dtype)
    inside = _within(gradient, dilation, h, w)
    kh, kw = inside.shape[2:]
    rows = _moved(x, _offsets(kh, dilation), axis=-2)
    rows = rows.reshape(n, kh * c, h * w)  # (N, kh, C, H, W) -> (N, kh*C, H*W)
    columns = _moved(y, _offsets(kw, -dilation), axis=-1)
    columns = columns.reshape(n, kw * o, h * w)  # (N, kw, O, H, W) -> (N, kw*O, H*W)
    product = (columns @ rows.swapaxes(1, 2)).sum(axis=0)
    product = product.reshape(kw, o, kh, c)  # (kw*O, kh*C) -> (kw, O, kh, C)
    inside[...] = product.transpose(1, 3, 2, 0)  # (kw, O, kh, C) -> (O, C, kh, kw)
    return gradient


def _within(weight, dilation, h, w):
    """A view of the taps that can touch an image of h x w: the others meet zeros alone."""
    ci, cj = weight.shape[2] // 2, weight.shape[3] // 2
    ri, rj = min(ci, (h - 1) // dilation), min(cj, (w - 1) // dilation)
    return weight[:, :, ci - ri : ci + ri + 1, cj - rj : cj + rj + 1]


def _offsets(taps, dilation):
    """Where each of an odd number of taps looks, relative to its pixel: 3 taps at 2 give -2, 0, 2."""
    return [dilation * (i - taps // 2) for i in range(taps)]


def _moved(x, offsets, axis):
    """One copy of x for each offset, out[:, k, ..., p] = x[..., p + offsets[k]]: (N, K, C, H, W)."""
    if offsets == [0]:
        return x[:, None]  # (N, C, H, W) -> (N, 1, C, H, W)
    n, c, h, w = x.shape
    out = np.zeros((n, len(offsets), c, h, w), x.dtype)
    for k, offset in enumerate(offsets):
        to, source = _overlap(offset, x.shape[axis], axis)
        out[:, k][to] = x[source]
    return out


def _overlap(offset, size, axis):
    """Indices (to, source) with which out[to] = x[source] means out[p] = x[p + offset] along an axis."""
    rest = (slice(None),) * (-1 - axis)
    to = slice(max(0, -offset), size - max(0, offset))
    source = slice(max(0, offset), size - max(0, -offset))
    return (..., to, *rest), (..., source, *rest)


class Method(NamedTuple):
    """Two sides of T suffice: the third is the first with a turned kernel."""

    output: Callable
    weight: Callable


METHODS = {"gemm": Method(_gemm_output, _gemm_weight), "scipy": Method(_scipy_output, _scipy_weight)}


def _check(x, weight, bias, dilation, method):
    """One clear error before anything is computed."""
    if x.ndim != 4 or weight.ndim != 4:
        raise ValueError(
            f"conv2d: expected x (N, C, H, W) and weight (O, C, kh, kw), got {x.shape}, {weight.shape}"
        )
    o, c, kh, kw = weight.shape
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
