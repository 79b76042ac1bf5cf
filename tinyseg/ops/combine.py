"""Two ways to bring features together: add them up, or lay them side by side.

Neither has a derivative of its own here. Both are made of functions that autograd knows: lazy autodiff.
"""

from __future__ import annotations

import autograd.numpy as np
from autograd.tracer import getval

from tinyseg.ops.check import floats


def add(x, y):
    """The residual add, x + y.

    Args:
        x, y: equal shapes and one dtype. Of two arrays (N, C, H, W), one may have a single channel: it joins
            every channel of the other, and its cotangent is the sum over the channels.

    Returns:
        The sum, of that dtype.

    Raises:
        ValueError: the shapes differ in more than a single channel, or the dtypes do not fit.

    Source: He et al. 2015 (arXiv 1512.03385), equation 1.
    """
    check_addends("add", x, y)
    return x + y


def check_addends(name, x, y):
    """One clear error from `add`, or from an op that adds on the way."""
    x, y = floats(name, x=x, y=y)
    single = x.ndim == y.ndim == 4 and (x.shape[0], *x.shape[2:]) == (y.shape[0], *y.shape[2:])
    if x.shape != y.shape and not (single and 1 in (x.shape[1], y.shape[1])):
        raise ValueError(
            f"{name}: expected equal shapes, or one side with a single channel, got {x.shape}, {y.shape}"
        )


def concatenate(xs, axis: int = 1):
    """Join arrays along an axis, by default their channels: (N, C_i, H, W) to (N, sum of C_i, H, W).

    Raises:
        ValueError: xs is no list or tuple of arrays, these differ along another axis, or dtypes do not fit.
    """
    if not isinstance(getval(xs), list | tuple):
        raise ValueError(f"concatenate: expected a list of arrays, got {type(getval(xs)).__name__}")
    floats("concatenate", **{f"xs[{i}]": x for i, x in enumerate(xs)})
    try:
        return np.concatenate(xs, axis)
    except ValueError as error:  # NumPy says which array does not fit
        raise ValueError(f"concatenate: {error}") from None
