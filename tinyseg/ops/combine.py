"""Two ways to bring features together: add them up, or lay them side by side.

Neither has a derivative of its own here. Both are made of functions that autograd knows: lazy autodiff.
"""

from __future__ import annotations

import autograd.numpy as np
from autograd.tracer import getval


def add(x, y):
    """The residual add, x + y.

    Args:
        x, y: equal shapes and one dtype. Of two arrays (N, C, H, W), one may have a single channel: it joins
            every channel of the other, and its cotangent is the sum over the channels.

    Returns:
        The sum, of that dtype.

    Raises:
        ValueError: the shapes differ in more than a single channel, or the dtypes differ.

    Source: He et al. 2015 (arXiv 1512.03385), equation 1.
    """
    check_addends("add", x, y)
    return x + y


def check_addends(name, x, y):
    """One clear error from `add`, or from an op that adds on the way."""
    x, y = getval(x), getval(y)
    single = x.ndim == y.ndim == 4 and (x.shape[0], *x.shape[2:]) == (y.shape[0], *y.shape[2:])
    if x.shape != y.shape and not (single and 1 in (x.shape[1], y.shape[1])):
        raise ValueError(
            f"{name}: expected equal shapes, or one side with a single channel, got {x.shape}, {y.shape}"
        )
    if x.dtype != y.dtype:
        raise ValueError(f"{name}: expected one dtype, got {x.dtype}, {y.dtype}")


def concatenate(xs, axis: int = 1):
    """Join arrays along an axis, by default their channels: (N, C_i, H, W) to (N, sum of C_i, H, W).

    Raises:
        ValueError: the arrays differ along another axis, or in dtype.
    """
    if len({x.dtype for x in xs}) > 1:
        raise ValueError(f"concatenate: expected one dtype, got {[str(x.dtype) for x in xs]}")
    return np.concatenate(xs, axis)
