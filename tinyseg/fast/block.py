"""What follows every convolution of the network, in one op: relu(x + y + norm(y)).

From its parts, each op makes a new array going forward and another one going back. They are written to
memory and read again, and that traffic costs more than the arithmetic. Here most of it is done in place.
Only y - mean and the result are kept for the way back, and y itself no longer.

Forward. With yhat = r (y - mean) as in `ops.norm`, y and its norm are one scale and one shift a channel:

    y + gamma yhat + beta  =  (1 + gamma r) (y - mean) + (mean + beta)

Back. Relu lets g' = g [result > 0] through of its cotangent g. That is the cotangent of x; beta's is
sum(g'), gamma's sum(yhat g'). To y comes g' directly, and through the norm what `ops.norm` derives. In all
that is a scale of g', a scale of y - mean and a shift:

    g' + gamma r (g' - m(g') - yhat m(yhat g'))
        =  (1 + gamma r) g' - gamma r^2 m(yhat g') (y - mean) - gamma r m(g')
"""

from __future__ import annotations

import numpy as np
from autograd.extend import primitive
from autograd.tracer import getval

from tinyseg import ops
from tinyseg.fast.norm import count, mean_of, mean_product, moments, per_channel, statistics
from tinyseg.fast.twin import define_gradients
from tinyseg.ops.combine import check_addends
from tinyseg.ops.norm import BATCH, check_norm, measured


def norm_add_relu(y, gamma, beta, x=None, *, axes, eps: float = 1e-5):
    """Norm, residual and relu at once: relu(x + y + norm(y)), and the norm's statistics.

    Args:
        y: (N, C, H, W), float32 or float64.
        gamma, beta: (C,), of y's dtype.
        x: (N, C, H, W) or (N, 1, H, W) of y's dtype, which joins every channel; or None.
        axes: `norm.BATCH` or `norm.INSTANCE`.
        eps: added to the variance, in units of y squared.

    Returns:
        (result, mean, variance): (N, C, H, W) of y's dtype, and y's statistics as of `ops.normalize`.

    Raises:
        ValueError: shapes or dtypes do not fit.
        OverflowError: the variance is too large for the dtype, about 1e38 in float32.

    Source: the block of Anthimopoulos et al. 2018; the residual connection from x is the article's.
    """
    check_norm("norm_add_relu", y=y, gamma=gamma, beta=beta)
    if x is not None:
        check_addends("norm_add_relu", x, y)
        if getval(x).shape[1] not in (1, getval(y).shape[1]):
            raise ValueError(f"norm_add_relu: expected x (N, 1 or {y.shape[1]}, H, W), got {x.shape}")
    y_moments = measured("norm_add_relu", moments, getval(y), axes)
    result = _norm_add_relu(y, gamma, beta, x, y_moments, axes=axes, eps=float(eps))
    return result, *statistics(y_moments, axes)


@primitive
def _norm_add_relu(y, gamma, beta, x, y_moments, *, axes, eps):
    mean, variance, centred = y_moments
    out = centred * (1 + per_channel(gamma) * (variance + eps) ** -0.5)
    out += mean + per_channel(beta)
    if x is not None:
        out += x
    zeros = np.zeros(out.shape[2:], out.dtype)  # (H, W): beside a single 0, maximum takes three times as long
    return np.maximum(out, zeros, out=out)


def _gradients(g, ans, y, gamma, beta, x, y_moments, *, axes, eps):
    _, variance, centred = y_moments
    r = (variance + eps) ** -0.5
    scale, pixels = per_channel(gamma) * r, count(g, axes)
    g = g * (ans > 0)
    m_g, m_yhat_g = mean_of(g, axes), r * mean_product(centred, g, axes)
    dy = centred * (-scale * r * m_yhat_g)
    dy -= scale * m_g
    dy += (1 + scale) * g
    dgamma, dbeta = (pixels * m.sum(axis=BATCH) for m in (m_yhat_g, m_g))  # (1 or N, C, 1, 1) -> (C,)
    return dy, dgamma, dbeta, g if x is None or x.shape == g.shape else g.sum(axis=1, keepdims=True)


def _definition(y, gamma, beta, x, y_moments, *, axes, eps):
    y = ops.add(y, ops.normalize(y, gamma, beta, axes=axes, eps=eps)[0])
    return ops.relu(y if x is None else ops.add(x, y))


def _keep(ans, y, gamma, beta, x, y_moments):
    return ans, None, gamma, beta, x, y_moments


def _restore(ans, y, gamma, beta, x, y_moments):
    return y_moments.mean + y_moments.centred if y is None else y, gamma, beta, x, y_moments


define_gradients(_norm_add_relu, _definition, _gradients, _keep, _restore)
