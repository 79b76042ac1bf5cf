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

import autograd.numpy as np
from autograd.extend import defjvp, defvjp, defvjp_argnums, primitive
from autograd.tracer import getval, isbox
from numpy import vecdot

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


def moments(x, axes):
    """Mean and biased variance of x (N, C, H, W) over `axes`, both with four axes and of x's dtype.

        mean = sum(x) / n,  variance = sum((x - mean)^2) / n

    In two passes: the mean square less the squared mean would cancel where the mean is large.
    """
    mean = _mean(x, axes)
    centred = x - mean
    return mean, mean_product(centred, centred, axes)


def normalize(x, gamma, beta, *, axes, eps, x_moments=None):
    """Either norm, by its axes; a caller who has x's own plain moments at hand may pass them."""
    check(getval(x), gamma=getval(gamma), beta=getval(beta))
    mean, variance = moments(getval(x), axes) if x_moments is None else x_moments
    return _normalize(x, gamma, beta, mean, variance, axes=axes, eps=float(eps))


@primitive
def _normalize(x, gamma, beta, mean, variance, *, axes, eps):
    y = x - mean
    y *= per_channel(gamma) * (variance + eps) ** -0.5
    y += per_channel(beta)
    return y


# Against a cotangent g, the change dgamma xhat + dbeta + gamma dxhat of y gives the cotangents
#     sum(g xhat) of gamma,    sum(g) of beta,    gamma r (g - m(g) - xhat m(xhat g)) of x.


def _normalize_vjp(argnums, ans, args, how):
    x, gamma, beta, mean, variance = args

    def vjp(g):
        xhat, r = _xhat(x, mean, variance, **how)
        m_g, m_xhat_g = _mean(g, how["axes"]), mean_product(xhat, g, how["axes"])
        pixels = x.size // m_g.size
        cotangents = (
            lambda: per_channel(gamma) * r * (g - m_g - xhat * m_xhat_g),
            lambda: np.sum(m_xhat_g * pixels, axis=BATCH),  # (1 or N, C, 1, 1) -> (C,)
            lambda: np.sum(m_g * pixels, axis=BATCH),  # (1 or N, C, 1, 1) -> (C,)
        )
        return [cotangents[argnum]() for argnum in argnums]

    return vjp


def _normalize_jvp(dx, ans, x, gamma, beta, mean, variance, **how):
    xhat, r = _xhat(x, mean, variance, **how)
    projected = dx - _mean(dx, how["axes"]) - xhat * mean_product(xhat, dx, how["axes"])
    return per_channel(gamma) * r * projected


def _xhat(x, mean, variance, *, axes, eps):
    """xhat and r. The forward pass measured the moments, so they come as constants and need no second look.

    The closed form above knows how they depend on x. To differentiate it once more, autograd has to know too.
    """
    if isbox(x):
        mean, variance = moments(x, axes)
    r = (variance + eps) ** -0.5
    return (x - mean) * r, r


defvjp_argnums(_normalize, _normalize_vjp)
defjvp(
    _normalize,
    _normalize_jvp,
    lambda dgamma, ans, x, gamma, beta, mean, variance, **how: (
        per_channel(dgamma) * _xhat(x, mean, variance, **how)[0]
    ),
    lambda dbeta, ans, *_, **how: np.broadcast_to(per_channel(dbeta), ans.shape),
)


def _mean(x, axes):
    # A sum and a division, because autograd's own `mean` turns float32 into float64 going back.
    return x.sum(axis=axes, keepdims=True) / count(x, axes)


@primitive
def mean_product(x, y, axes):
    """m(x y), without an array for x y: each image's channel is one dot product."""
    n, c, h, w = x.shape
    dots = vecdot(x.reshape(n, c, h * w), y.reshape(n, c, h * w))  # (N, C, H*W) twice -> (N, C)
    dots = dots.reshape(n, c, 1, 1)
    return (dots.sum(axis=0, keepdims=True) if axes == BATCH else dots) / count(x, axes)


# It is linear in x and in y: d m(x y) = m(dx y) + m(x dy), so g goes back to x as g y / n.
defvjp(
    mean_product,
    lambda ans, x, y, axes: lambda g: y * (g / count(x, axes)),
    lambda ans, x, y, axes: lambda g: x * (g / count(x, axes)),
)
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
