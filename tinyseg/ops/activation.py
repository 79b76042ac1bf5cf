"""What happens to each pixel between the layers: relu, softmax over the channels, dropout."""

from __future__ import annotations

import autograd.numpy as np
import numpy
from autograd.extend import defjvp, defvjp, primitive

from tinyseg.ops.check import floats


@primitive
def relu(x):
    """Rectified linear unit, max(x, 0): x of any shape, result of its shape and dtype.

    Its gradient at 0 is 0. A NaN stays a NaN.

    Raises:
        ValueError: x is no array of floats.
    """
    floats("relu", x=x)
    return numpy.maximum(x, 0)


# dy = dx where y > 0, else 0: a mask, its own transpose. It does not depend smoothly on x, so the
# second derivative is 0 and the mask may be taken from y, which lets go of x.
defvjp(relu, lambda ans, x: lambda g: g * (ans > 0))
defjvp(relu, lambda dx, ans, x: dx * (ans > 0))


@primitive
def log_softmax(x, axis: int = 1):
    """The logarithm of `softmax`, x_k - log sum_j exp(x_j), finite where softmax underflows to 0.

    The largest x is subtracted first (it cancels), so nothing overflows. Arguments and result are those of
    `softmax`.
    """
    _check_channels("log_softmax", x, axis)
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(axis=axis, keepdims=True))


# With l = log_softmax(x) and s = softmax(x) = exp(l): dl_k = dx_k - sum_j s_j dx_j. Against g: sum_k g_k
# dl_k = sum_k dx_k (g_k - s_k sum_j g_j).
defvjp(
    log_softmax,
    lambda ans, x, axis=1: lambda g: g - np.exp(ans) * np.sum(g, axis=axis, keepdims=True),
)
defjvp(
    log_softmax,
    lambda dx, ans, x, axis=1: dx - np.sum(np.exp(ans) * dx, axis=axis, keepdims=True),
)


@primitive
def softmax(x, axis: int = 1):
    """Exponentials that sum to one along an axis: s_k = exp(x_k) / sum_j exp(x_j).

    Args:
        x: any shape, (N, C, H, W) by default; float32 or float64.
        axis: the channels.

    Returns:
        x's shape and dtype.

    Raises:
        ValueError: x is no array of floats, or has no channels along the axis.
    """
    _check_channels("softmax", x, axis)
    return numpy.exp(log_softmax.fun(x, axis))  # fun: the plain function inside a primitive


# ds_k = s_k (dx_k - sum_j s_j dx_j). As a matrix, diag(s) - s s^T, it is its own transpose.
def _softmax_change(v, s, axis):
    return s * (v - np.sum(s * v, axis=axis, keepdims=True))


defvjp(softmax, lambda ans, x, axis=1: lambda g: _softmax_change(g, ans, axis))
defjvp(softmax, lambda dx, ans, x, axis=1: _softmax_change(dx, ans, axis))


def _check_channels(op, x, axis):
    """One clear error before anything is computed."""
    (x,) = floats(op, x=x)
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ValueError(f"{op}: expected x with at least one channel along axis {axis}, got {x.shape}")


def dropout(x, rate: float, rng):
    """Set a share `rate` of x to zero at random and enlarge the rest, so that the expectation stays.

        y = x * kept / (1 - rate),  kept = 1 with probability 1 - rate, else 0

    Args:
        x: any shape, float32 or float64.
        rate: the share dropped, 0 <= rate < 1.
        rng: the `numpy.random.Generator` to draw from.

    Returns:
        x's shape and dtype.

    Raises:
        ValueError: x is no array of floats, rate is out of range, or there is no rng.

    Source: Srivastava et al. 2014, in its "inverted" form.
    """
    (plain,) = floats("dropout", x=x)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: expected 0 <= rate < 1 (the share dropped), got {rate}")
    if rng is None:
        raise ValueError("dropout: needs random numbers, call with rng=numpy.random.default_rng(seed)")
    kept = rng.random(plain.shape) >= rate
    return x * (kept / (1 - rate)).astype(plain.dtype)
