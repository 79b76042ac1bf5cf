"""Normalisation: give each channel mean 0 and variance 1, then a scale and a shift that are learnt.

    y = gamma * xhat + beta,     xhat = r (x - mean(x)),     r = 1 / sqrt(variance(x) + eps)

Batch norm takes mean and variance over (N, H, W), one pair for each channel (Ioffe & Szegedy 2015).
Instance norm takes them over (H, W), one pair for each channel of each image (Ulyanov et al. 2016). With
one image in the batch they are the same. Nothing else differs, so one function of the `axes` serves both.
"""

from __future__ import annotations

import autograd.numpy as np
import numpy
from autograd.extend import defjvp, defvjp, primitive
from autograd.tracer import getval

from tinyseg.ops.check import check_nchw, floats

BATCH = (0, 2, 3)
INSTANCE = (2, 3)


def batch_norm(x, gamma, beta, *, eps: float = 1e-5):
    """Normalise each channel over the batch and its pixels, then scale by gamma and shift by beta.

        y = gamma * (x - mean) / sqrt(variance + eps) + beta,  mean and biased variance over (N, H, W)

    Args:
        x: (N, C, H, W), float32 or float64.
        gamma, beta: (C,), of x's dtype.
        eps: added to the variance, in units of x squared.

    Returns:
        (N, C, H, W) of x's dtype.

    Raises:
        ValueError: shapes or dtypes do not fit.
        OverflowError: the variance is too large for the dtype, about 1e38 in float32.

    Source: Ioffe & Szegedy 2015 (arXiv 1502.03167), algorithm 1.
    """
    return normalize(x, gamma, beta, axes=BATCH, eps=eps)[0]


def instance_norm(x, gamma, beta, *, eps: float = 1e-5):
    """Normalise each channel of each image over its pixels, then scale by gamma and shift by beta.

        y = gamma * (x - mean) / sqrt(variance + eps) + beta,  mean and biased variance over (H, W)

    Arguments, result and errors are those of `batch_norm`.

    Source: Ulyanov, Vedaldi & Lempitsky 2016 (arXiv 1607.08022).
    """
    return normalize(x, gamma, beta, axes=INSTANCE, eps=eps)[0]


def normalize(x, gamma, beta, *, axes, eps: float = 1e-5):
    """Either norm, by its `axes` (BATCH or INSTANCE), and the statistics that it used.

    The other arguments and the errors are those of `batch_norm`.

    Returns:
        (y, mean, variance): y as of `batch_norm`; mean and biased variance as plain arrays without
        derivatives, (C,) for BATCH and (N, C) for INSTANCE, of x's dtype.
    """
    name = {BATCH: "batch_norm", INSTANCE: "instance_norm"}[axes]
    check_norm(name, x=x, gamma=gamma, beta=beta)
    # (1 or N, C, 1, 1) -> (C,) or (N, C)
    mean, variance = (statistic.squeeze(axes) for statistic in measured(name, moments, getval(x), axes))
    return per_channel(gamma) * _standardize(x, axes, float(eps)) + per_channel(beta), mean, variance


def moments(x, axes):
    """Mean and biased variance of x (N, C, H, W) over the axes, each (1 or N, C, 1, 1), of x's dtype.

    The variance takes a second pass: the mean of squares less the square of the mean loses all digits where
    the mean is large.
    """
    mean = _mean(x, axes)
    return mean, _mean((x - mean) ** 2, axes)


def measured(name, moments, x, axes):
    """moments(x, axes), or one clear error: where squares overflow, r would be 0, and x would vanish."""
    with numpy.errstate(over="ignore"):  # the error says it
        found = moments(x, axes)
    if numpy.isinf(found[1]).any():
        raise OverflowError(f"{name}: the variance is too large for {x.dtype}; scale x down, or use float64")
    return found


@primitive
def _standardize(x, axes, eps):
    """xhat = r (x - mean), (N, C, H, W)."""
    mean, variance = moments(x, axes)
    return (x - mean) * (variance + eps) ** -0.5


# The derivative. Write m(.) for the mean over the axes. A small change dx of x changes
#
#     mean by m(dx),  variance by 2 m((x - mean) dx),  r by -(r^3 / 2) times that = -r^2 m(xhat dx),  hence
#     dxhat = r (dx - m(dx)) + (x - mean) dr = r (dx - m(dx) - xhat m(xhat dx)).
#
# In words: a shift of the whole channel does not change xhat, so m(dx) is taken out; a stretch hardly
# changes it (for eps = 0 not at all), so the part along xhat is taken out; the rest is scaled by r.
# Is that map symmetric? For any g, m(g dxhat) = r (m(g dx) - m(g) m(dx) - m(xhat g) m(xhat dx)): g and dx may
# change places. So the same function serves in forward and in reverse mode, with g in the place of dx.
def _change(dx, xhat, x, axes, eps):
    r = (moments(x, axes)[1] + eps) ** -0.5
    return r * (dx - _mean(dx, axes) - xhat * _mean(xhat * dx, axes))


defvjp(_standardize, lambda ans, x, axes, eps: lambda g: _change(g, ans, x, axes, eps))
defjvp(_standardize, lambda dx, ans, x, axes, eps: _change(dx, ans, x, axes, eps))


def fixed_norm(x, gamma, beta, mean, variance, *, eps: float = 1e-5):
    """Batch norm in evaluation: mean and variance are given constants (C,), so pixels are independent.

        y = gamma * (x - mean) / sqrt(variance + eps) + beta

    The other arguments and the result are those of `batch_norm`.

    Raises:
        ValueError: shapes or dtypes do not fit.

    Source: Ioffe & Szegedy 2015 (arXiv 1502.03167), algorithm 2.
    """
    check_norm("fixed_norm", x=x, gamma=gamma, beta=beta, mean=mean, variance=variance)
    scale = gamma * (variance + float(eps)) ** -0.5
    return (x - per_channel(mean)) * per_channel(scale) + per_channel(beta)


def _mean(x, axes):
    """m(x), (1 or N, C, 1, 1); np.mean would leave float32 on its way back."""
    return np.sum(x, axis=axes, keepdims=True) / (x.size // (x.shape[1] * (1 if 0 in axes else x.shape[0])))


def per_channel(v):
    """(C,) -> (1, C, 1, 1)."""
    return np.reshape(v, (1, -1, 1, 1))


def check_norm(op, **arguments):
    """One clear error before anything is computed: the images (N, C, H, W) come first, then vectors (C,)."""
    (first, *names), (x, *vectors) = arguments, floats(op, **arguments)
    check_nchw(op, **{first: x})
    for name, vector in zip(names, vectors):
        if vector.shape != x.shape[1:2]:
            raise ValueError(
                f"{op}: expected {name} ({x.shape[1]},) for {first} {x.shape}, got {vector.shape}"
            )
