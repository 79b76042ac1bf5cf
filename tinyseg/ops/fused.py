"""What follows every convolution of the network, in one op: relu(skip + y + norm(y)).

From its parts it is `relu(add(skip, add(y, norm(y))))`: each makes a new array going forward and another
going back, written to memory and read again, and that traffic costs more than the arithmetic. Here most
of it is done in place, and only y - mean and the result are kept for the way back, y itself no longer.
It is the same function as its parts (`definition`), which is how the tests know that it is right.

Forward. With xhat = r (y - mean) as in `ops.norm`, y and its norm are one scale and one shift a channel:

    y + gamma xhat + beta  =  (1 + gamma r) (y - mean) + (mean + beta)

Back. Relu lets g' = g [result > 0] through of its cotangent g. That is the skip's cotangent; beta's is
sum(g'), gamma's sum(xhat g'). To y comes g' directly, and through the norm what `ops.norm` derives; in all
a scale of g', a scale of y - mean and a shift:

    g' + gamma r (g' - m(g') - xhat m(xhat g'))
        =  (1 + gamma r) g' - gamma r^2 m(xhat g') (y - mean) - gamma r m(g')
"""

from __future__ import annotations

import numpy as np
from autograd import make_jvp, make_vjp
from autograd.extend import defjvp_argnums, defvjp_argnums, primitive
from autograd.tracer import getval, isbox

from tinyseg.ops.activation import relu
from tinyseg.ops.combine import add, check_addends
from tinyseg.ops.norm import BATCH, check, count, mean_of, mean_product, moments, normalize, per_channel


def norm_add_relu(y, gamma, beta, skip=None, *, axes, eps: float = 1e-5, y_moments=None):
    """Norm, residual and relu at once: relu(skip + y + norm(y)).

    Args:
        y: (N, C, H, W), float32 or float64.
        gamma, beta: (C,), of y's dtype.
        skip: (N, C, H, W) or (N, 1, H, W) of y's dtype, which joins every channel; or None.
        axes: `norm.BATCH` or `norm.INSTANCE`.
        eps: added to the variance, in units of y squared.
        y_moments: y's `norm.moments` over the axes, from a caller who has them at hand.

    Returns:
        (N, C, H, W) of y's dtype.

    Raises:
        ValueError: shapes or dtypes do not fit.

    Source: the block of Anthimopoulos et al. 2018; the skip is the article's.
    """
    value = getval(y)
    check(value, gamma=getval(gamma), beta=getval(beta))
    if skip is not None:
        check_addends(getval(skip), value)
        if skip.shape[1] not in (1, y.shape[1]):
            raise ValueError(f"norm_add_relu: expected skip (N, 1 or {y.shape[1]}, H, W), got {skip.shape}")
    if y_moments is None:
        y_moments = moments(value, axes)
    return _norm_add_relu(y, gamma, beta, skip, y_moments, axes=axes, eps=float(eps))


def definition(y, gamma, beta, skip, y_moments, *, axes, eps):
    """The same from its parts. Forward mode and second derivatives go through it."""
    y = add(y, normalize(y, gamma, beta, axes=axes, eps=eps, x_moments=y_moments))
    return relu(y if skip is None else add(skip, y))


@primitive
def _norm_add_relu(y, gamma, beta, skip, y_moments, *, axes, eps):
    mean, variance, centred = y_moments
    out = centred * (1 + per_channel(gamma) * (variance + eps) ** -0.5)
    out += mean + per_channel(beta)
    if skip is not None:
        out += skip
    zeros = np.zeros(out.shape[2:], out.dtype)  # (H, W): beside a single 0, maximum takes three times as long
    return np.maximum(out, zeros, out=out)


def _vjp(argnums, ans, args, how):
    if any(map(isbox, args)):  # it is to be differentiated once more
        return lambda g: make_vjp(definition, argnums)(*args, **how)[0](g)
    _, gamma, beta, skip, y_moments = args  # y itself can go: it is mean + centred
    mean, variance, centred = y_moments

    def vjp(g):
        if isbox(g):
            again = mean + centred, gamma, beta, skip, y_moments
            return make_vjp(definition, argnums)(*again, **how)[0](g)
        axes, r = how["axes"], (variance + how["eps"]) ** -0.5
        scale, pixels = per_channel(gamma) * r, count(g, axes)
        g = g * (ans > 0)
        m_g, m_xhat_g = mean_of(g, axes), r * mean_product(centred, g, axes)
        dy = centred * (-scale * r * m_xhat_g)
        dy -= scale * m_g
        dy += (1 + scale) * g
        dgamma, dbeta = (pixels * m.sum(axis=BATCH) for m in (m_xhat_g, m_g))  # (1 or N, C, 1, 1) -> (C,)
        dskip = g if skip is None or skip.shape == g.shape else g.sum(axis=1, keepdims=True)
        return [(dy, dgamma, dbeta, dskip)[argnum] for argnum in argnums]

    return vjp


def _jvp(argnums, tangents, ans, args, how):
    return make_jvp(definition, argnums)(*args, **how)(tuple(tangents))[1]


defvjp_argnums(_norm_add_relu, _vjp)
defjvp_argnums(_norm_add_relu, _jvp)
