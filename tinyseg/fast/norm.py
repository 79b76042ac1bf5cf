"""The twin of `ops.normalize`: the moments are measured once, and sums go through the BLAS."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from autograd.extend import primitive
from autograd.tracer import getval

from tinyseg import ops
from tinyseg.fast.conv import sum_pixels
from tinyseg.fast.twin import define_gradients
from tinyseg.ops.norm import BATCH, INSTANCE, check_norm, measured


def normalize(x, gamma, beta, *, axes, eps: float = 1e-5):
    """As `ops.normalize`: arguments, result and errors."""
    name = {BATCH: "batch_norm", INSTANCE: "instance_norm"}[axes]
    check_norm(name, x=x, gamma=gamma, beta=beta)
    x_moments = measured(name, moments, getval(x), axes)
    y = _normalize(x, gamma, beta, x_moments, axes=axes, eps=float(eps))
    return y, *statistics(x_moments, axes)


class Moments(NamedTuple):
    """What a norm has to know of its x (N, C, H, W), of x's dtype."""

    mean: Any  # (1 or N, C, 1, 1)
    variance: Any  # biased, (1 or N, C, 1, 1)
    centred: Any  # x - mean, (N, C, H, W)


def moments(x, axes) -> Moments:
    """Mean and biased variance of a plain array over the axes, and x - mean, which is made on the way."""
    mean = mean_of(x, axes)
    centred = x - mean
    return Moments(mean, mean_product(centred, centred, axes), centred)


def statistics(x_moments: Moments, axes):
    """Mean and variance, (1 or N, C, 1, 1) -> (C,) or (N, C)."""
    return x_moments.mean.squeeze(axes), x_moments.variance.squeeze(axes)


@primitive
def _normalize(x, gamma, beta, x_moments, *, axes, eps):
    # The moments are all that is needed of x. x is an argument because its cotangent is asked for.
    y = x_moments.centred * (per_channel(gamma) * (x_moments.variance + eps) ** -0.5)
    y += per_channel(beta)
    return y


def _gradients(g, ans, x, gamma, beta, x_moments, *, axes, eps):
    """gamma r (g - m(g) - xhat m(xhat g)) of x, as in `ops.norm`; sum(xhat g) of gamma; sum(g) of beta."""
    r = (x_moments.variance + eps) ** -0.5
    xhat, pixels = x_moments.centred * r, count(x, axes)
    m_g, m_xhat_g = mean_of(g, axes), mean_product(xhat, g, axes)
    dx = per_channel(gamma) * r * (g - m_g - xhat * m_xhat_g)
    return dx, *(pixels * m.sum(axis=BATCH) for m in (m_xhat_g, m_g))  # (1 or N, C, 1, 1) -> (C,)


def _definition(x, gamma, beta, x_moments, *, axes, eps):
    return ops.normalize(x, gamma, beta, axes=axes, eps=eps)[0]


define_gradients(_normalize, _definition, _gradients)


def mean_of(x, axes):
    """m(x): (N, C, H, W) to (1, C, 1, 1) for a batch's channels, to (N, C, 1, 1) for an image's."""
    return _mean(sum_pixels(x), x, axes)


def mean_product(x, y, axes):
    """m(x y), without an array for x y: each image's channel is one dot product."""
    n, c, h, w = x.shape
    return _mean(np.vecdot(x.reshape(n, c, h * w), y.reshape(n, c, h * w)), x, axes)  # (N, C, H*W) -> (N, C)


def _mean(sums, x, axes):
    sums = sums.sum(axis=0, keepdims=True) if axes == BATCH else sums
    return sums[..., None, None] / count(x, axes)  # (1 or N, C) -> (1 or N, C, 1, 1)


def count(x, axes) -> int:
    """How many numbers of x go into one mean."""
    n, _, h, w = x.shape
    return n * h * w if axes == BATCH else h * w


def per_channel(v):
    return v.reshape((1, -1, 1, 1))  # (C,) -> (1, C, 1, 1)
