"""Normalisation: give each channel mean 0 and variance 1, then let it learn its own.

    y = gamma * xhat + beta,     xhat = r (x - mean(x)),     r = 1 / sqrt(variance(x) + eps)

Batch norm takes mean and variance over (N, H, W), one pair a channel (Ioffe & Szegedy 2015); instance
norm over (H, W), one pair for each channel of each image (Ulyanov et al. 2016). With one image a batch
they are the same thing. Nothing else differs, so one function of those `axes` serves both.

The derivative. Write m(.) for the mean over the axes. A small change dx of x changes

    mean by m(dx)    and    r by -r^3 m((x - mean) dx) = -r^2 m(xhat dx),    hence
    dxhat = r (dx - m(dx)) + (x - mean) dr = r (dx - m(dx) - xhat m(xhat dx)).

In words: normalising undoes a shift and a stretch of the channel, so both are taken out of dx. The map
is symmetric (exchange dx and g in m(g dxhat): nothing changes), so it serves going forward and back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import autograd.numpy as np
from autograd.extend import defjvp, defvjp, defvjp_argnums, primitive
from autograd.tracer import getval, isbox
from numpy import vecdot

from tinyseg.ops.conv import sum_pixels

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

    Source: Ioffe & Szegedy 2015 (arXiv 1502.03167), algorithm 1.
    """
    return normalize(x, gamma, beta, axes=BATCH, eps=eps)


def instance_norm(x, gamma, beta, *, eps: float = 1e-5):
    """Normalise each channel of each image over its pixels, then scale by gamma and shift by beta.

        y = gamma * (x - mean) / sqrt(variance + eps) + beta,  mean and biased variance over (H, W)

    Arguments, result and errors are those of `batch_norm`.

    Source: Ulyanov, Vedaldi & Lempitsky 2016 (arXiv 1607.08022).
    """
    return normalize(x, gamma, beta, axes=INSTANCE, eps=eps)


def fixed_norm(x, gamma, beta, mean, variance, *, eps: float = 1e-5):
    """Batch norm in evaluation: mean and variance are given constants (C,), so pixels are independent.

        y = gamma * (x - mean) / sqrt(variance + eps) + beta

    The other arguments, the result and the errors are those of `batch_norm`.

    Source: Ioffe & Szegedy 2015 (arXiv 1502.03167), algorithm 2.
    """
    check(x, gamma=gamma, beta=beta, mean=mean, variance=variance)
    scale = gamma * (variance + float(eps)) ** -0.5
    return (x - per_channel(mean)) * per_channel(scale) + per_channel(beta)


class Moments(NamedTuple):
    """What a norm has to know of its x (N, C, H, W), of x's dtype."""

    mean: Any  # (1 or N, C, 1, 1)
    variance: Any  # biased, (1 or N, C, 1, 1)
    centred: Any  # x - mean, (N, C, H, W)


def moments(x, axes) -> Moments:
    """Mean and biased variance of x (N, C, H, W) over `axes`, and x - mean, which is made on the way.

        mean = sum(x) / n,  variance = sum((x - mean)^2) / n

    In two passes: the mean square less the squared mean would cancel where the mean is large.
    """
    mean = mean_of(x, axes)
    centred = x - mean
    return Moments(mean, mean_product(centred, centred, axes), centred)


def normalize(x, gamma, beta, *, axes, eps, x_moments=None):
    """Either norm, by its axes; a caller who has x's own plain moments at hand may pass them."""
    check(getval(x), gamma=getval(gamma), beta=getval(beta))
    if x_moments is None:
        x_moments = moments(getval(x), axes)
    return _normalize(x, gamma, beta, x_moments, axes=axes, eps=float(eps))


@primitive
def _normalize(x, gamma, beta, x_moments, *, axes, eps):
    # The moments hold all that is needed of x. It is an argument because autograd differentiates by it.
    y = x_moments.centred * (per_channel(gamma) * (x_moments.variance + eps) ** -0.5)
    y += per_channel(beta)
    return y


# Against a cotangent g, the change dgamma xhat + dbeta + gamma dxhat of y gives the cotangents
#     sum(g xhat) of gamma,    sum(g) of beta,    gamma r (g - m(g) - xhat m(xhat g)) of x.


def _normalize_vjp(argnums, ans, args, how):
    x, gamma, _, x_moments = args

    def vjp(g):
        xhat, r = _xhat(x, x_moments, **how)
        m_g, m_xhat_g = mean_of(g, how["axes"]), mean_product(xhat, g, how["axes"])
        pixels = count(x, how["axes"])
        cotangents = (
            lambda: per_channel(gamma) * r * (g - m_g - xhat * m_xhat_g),
            lambda: np.sum(m_xhat_g * pixels, axis=BATCH),  # (1 or N, C, 1, 1) -> (C,)
            lambda: np.sum(m_g * pixels, axis=BATCH),  # (1 or N, C, 1, 1) -> (C,)
        )
        return [cotangents[argnum]() for argnum in argnums]

    return vjp


def _normalize_jvp(dx, ans, x, gamma, beta, x_moments, **how):
    xhat, r = _xhat(x, x_moments, **how)
    projected = dx - mean_of(dx, how["axes"]) - xhat * mean_product(xhat, dx, how["axes"])
    return per_channel(gamma) * r * projected


def _xhat(x, x_moments, *, axes, eps):
    """xhat and r. The forward pass measured the moments, so they come as constants and need no second look.

    The closed form above knows how they depend on x. To differentiate it once more, autograd has to know too.
    """
    _, variance, centred = moments(x, axes) if isbox(x) else x_moments
    r = (variance + eps) ** -0.5
    return centred * r, r


defvjp_argnums(_normalize, _normalize_vjp)
defjvp(
    _normalize,
    _normalize_jvp,
    lambda dgamma, ans, x, gamma, beta, x_moments, **how: per_channel(dgamma) * _xhat(x, x_moments, **how)[0],
    lambda dbeta, ans, *_, **how: np.broadcast_to(per_channel(dbeta), ans.shape),
)


@primitive
def mean_of(x, axes):
    """m(x): (N, C, H, W) to (1, C, 1, 1) for a batch's channels, to (N, C, 1, 1) for an image's."""
    return _mean(sum_pixels(x), x, axes)


@primitive
def mean_product(x, y, axes):
    """m(x y), without an array for x y: each image's channel is one dot product."""
    n, c, h, w = x.shape
    return _mean(vecdot(x.reshape(n, c, h * w), y.reshape(n, c, h * w)), x, axes)  # (N, C, H*W) to (N, C)


def _mean(sums, x, axes):
    sums = sums.sum(axis=0, keepdims=True) if axes == BATCH else sums
    return sums[..., None, None] / count(x, axes)  # (1 or N, C) -> (1 or N, C, 1, 1)


# Both are linear. d m(x y) = m(dx y) + m(x dy), so g goes back to x as g y / n; m(x) is m(x 1).
defvjp(mean_of, lambda ans, x, axes: lambda g: np.broadcast_to(g / count(x, axes), x.shape))
defvjp(
    mean_product,
    lambda ans, x, y, axes: lambda g: y * (g / count(x, axes)),
    lambda ans, x, y, axes: lambda g: x * (g / count(x, axes)),
)
defjvp(mean_of, "same")
defjvp(mean_product, "same", "same")


def count(x, axes) -> int:
    """How many numbers of x go into one mean."""
    n, _, h, w = x.shape
    return n * h * w if axes == BATCH else h * w


def per_channel(v):
    return v.reshape((1, -1, 1, 1))  # (C,) -> (1, C, 1, 1)


def check(x, **vectors):
    if x.ndim != 4:
        raise ValueError(f"norm: expected x (N, C, H, W), got {x.shape}")
    for name, v in vectors.items():
        if v.shape != x.shape[1:2]:
            raise ValueError(f"norm: expected {name} ({x.shape[1]},) for x {x.shape}, got {v.shape}")
        if v.dtype != x.dtype or x.dtype.kind != "f":
            raise ValueError(f"norm: expected one float dtype, got x {x.dtype} and {name} {v.dtype}")
