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
    return _output(x, weight, bias, dilation=dilation, method=method)


# The three sides of T. Each is a primitive for autograd, linear in x, weight and y: going forward, its
# derivative is itself; going back, it is the other two sides. The bias only joins y's sum, once a pixel.


@primitive
def _output(x, weight, bias, *, dilation, method):
    """dT/dy, and the bias: (N, C, H, W), (O, C, kh, kw) and (O,) or None to (N, O, H, W)."""
    _check(x, weight, bias, dilation, method)
    return METHODS[method].output(x, weight, bias, dilation)


@primitive
def _input(y, weight, *, dilation, method):
    """dT/dx: (N, O, H, W) and (O, C, kh, kw) to (N, C, H, W).

    Substitute p by p - dilation*(i - kh//2) and q alike in T: it is the convolution of y with each
    kernel turned by 180 degrees and the roles of its channels swapped.
    """
    return METHODS[method].output(y, weight[:, :, ::-1, ::-1].swapaxes(0, 1), None, dilation)


@primitive
def _weight(x, y, *, kernel, dilation, method):
    """dT/dw: (N, C, H, W) and (N, O, H, W) to (O, C, kh, kw), where kernel = (kh, kw)."""
    return METHODS[method].weight(x, y, kernel, dilation)


defvjp(
    _output,
    lambda ans, x, weight, bias, **how: lambda y: _input(y, weight, **how),
    lambda ans, x, weight, bias, **how: lambda y: _weight(x, y, kernel=weight.shape[2:], **how),
    lambda ans, x, weight, bias, **how: lambda y: y.sum(axis=(0, 2, 3)),
)
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


def _scipy_output(x, weight, bias, dilation):
    x, kernels = _padded(x, weight.shape[2:], dilation), _zero_stuffed(weight, dilation)
    y = np.array([[sum(map(_inside, image, kernel)) for kernel in kernels] for image in x])
    return y if bias is None else y + bias[:, None, None]  # (O,) -> (O, 1, 1)


def _scipy_weight(x, y, kernel, dilation):
    x = _padded(x, kernel, dilation)
    dense = [[[_inside(plane, g) for plane in image] for g in gs] for image, gs in zip(x, y)]
    return np.sum(dense, axis=0)[:, :, ::dilation, ::dilation]  # (N, O, C, ...) -> (O, C, kh, kw)


# Through matrix products: fast. A 3x3 kernel is three rows of three columns, so move the image by the
# three column offsets, let one product apply all the weights, and add the three rows that it gives, each
# moved by its row offset. docs/convolution.md goes there step by step, on paper and by the clock.


def _gemm_output(x, weight, bias, dilation):
    n, c, h, w = x.shape
    weight = _within(weight, dilation, h, w)
    o, _, kh, kw = weight.shape
    matrix = weight.transpose(2, 0, 3, 1).reshape(kh * o, kw * c)  # (O, C, kh, kw) -> (kh*O, kw*C)
    if kh == kw == 1:  # it looks nowhere else
        y = (matrix @ x.reshape(n, c, h * w)).reshape(n, o, h, w)  # (N, O, H*W) -> (N, O, H, W)
        return y if bias is None else np.add(y, bias[:, None, None], out=y)  # (O,) -> (O, 1, 1)
    y = np.empty((n, o, h, w), x.dtype)
    y[...] = 0 if bias is None else bias[:, None, None]  # (O,) -> (O, 1, 1)
    for top, bottom, columns in _bands(x, _offsets(kw, dilation)):
        product = matrix @ columns.reshape(n, kw * c, -1)  # (kh*O, kw*C) @ (N, kw*C, P) -> (N, kh*O, P)
        rows = product.reshape(n, kh, o, bottom - top, w)  # (N, kh*O, P) -> (N, kh, O, rows, W)
        for i, offset in enumerate(_offsets(kh, dilation)):
            first, last = max(0, top - offset), min(h, bottom - offset)
            if first < last:
                y[:, :, first:last] += rows[:, i, :, first + offset - top : last + offset - top]
    return y


def _gemm_weight(x, y, kernel, dilation):
    # T again: y moved back by the columns times x moved by the rows, summed over all pixels.
    (n, c, h, w), o = x.shape, y.shape[1]
    gradient = np.zeros((o, c, *kernel), x.dtype)
    inside = _within(gradient, dilation, h, w)
    kh, kw = inside.shape[2:]
    for top, bottom, columns in _bands(y, _offsets(kw, -dilation)):
        for i, offset in enumerate(_offsets(kh, dilation)):
            first, last = max(top, -offset), min(bottom, h - offset)
            if first < last:
                left = columns[:, :, :, first - top : last - top].reshape(n, kw * o, -1)  # (N, kw*O, P)
                right = x[:, :, first + offset : last + offset].reshape(n, c, -1)  # (N, C, P)
                product = _products(left, right).reshape(kw, o, c)  # (kw*O, C) -> (kw, O, C)
                inside[:, :, i] += product.transpose(1, 2, 0)  # (kw, O, C) -> (O, C, kw)
    return gradient


BAND = 2**20  # numbers moved at a time, 4 MB in float32: they stay in the processor's caches


def _bands(x, offsets):
    """Go down the images band by band: (top, bottom, columns), x[:, :, top:bottom] moved by each offset.

    columns[:, j, ..., q] is x[..., q + offsets[j]], zero outside the image: (N, kw, C, rows, W). Each band
    uses the same memory again, because large fresh arrays would cost more than the products: the system
    hands them out page by page, and clears each page first.
    """
    n, c, h, w = x.shape
    if offsets == [0]:
        yield 0, h, x[:, None]  # (N, C, H, W) -> (N, 1, C, H, W)
        return
    rows = min(h, max(1, BAND // (n * len(offsets) * c * w)))
    columns = np.zeros((n, len(offsets), c, rows, w), x.dtype)
    for top in range(0, h, rows):
        bottom = min(h, top + rows)
        for j, offset in enumerate(offsets):
            to = slice(max(0, -offset), w - max(0, offset))
            source = slice(max(0, offset), w - max(0, -offset))
            columns[:, j, :, : bottom - top, to] = x[:, :, top:bottom, source]
        yield top, bottom, columns[:, :, :, : bottom - top]


def _products(a, b):
    """The sum over images and pixels of a times b, for each two channels: (N, A, P), (N, B, P) to (A, B)."""
    if a.shape[1] * b.shape[1] < 128:  # too few for the BLAS's blocks: one dot product each is faster
        return np.vecdot(a[:, :, None], b[:, None]).sum(axis=0)
    return (a @ b.swapaxes(1, 2)).sum(axis=0)


def _within(weight, dilation, h, w):
    """A view of the taps that can touch an image of h x w: the others meet zeros alone."""
    ci, cj = weight.shape[2] // 2, weight.shape[3] // 2
    ri, rj = min(ci, (h - 1) // dilation), min(cj, (w - 1) // dilation)
    return weight[:, :, ci - ri : ci + ri + 1, cj - rj : cj + rj + 1]


def _offsets(taps, dilation):
    """Where each of an odd number of taps looks, relative to its pixel: 3 taps at 2 give -2, 0, 2."""
    return [dilation * (i - taps // 2) for i in range(taps)]


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
