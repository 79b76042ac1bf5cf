"""Two ways to bring features together: add them up, or lay them side by side."""

from __future__ import annotations

import autograd.numpy as np


def add(x, y):
    """The residual add, x + y.

    Args:
        x, y: (N, C, H, W) of one dtype; one of them may have a single channel, which joins every channel
            of the other (its cotangent is then the sum over the channels).

    Returns:
        (N, C, H, W) of that dtype.

    Raises:
        ValueError: the shapes differ in more than a single channel, or the dtypes differ.

    Source: He et al. 2015 (arXiv 1512.03385), equation 1.
    """
    check_addends(x, y)
    return x + y


def check_addends(x, y):
    """One clear error from `add`, or from an op that adds on the way."""
    images_agree = x.ndim == y.ndim == 4 and (x.shape[0], *x.shape[2:]) == (y.shape[0], *y.shape[2:])
    if not images_agree or (x.shape[1] != y.shape[1] and 1 not in (x.shape[1], y.shape[1])):
        raise ValueError(
            f"add: expected equal shapes, or one side with a single channel, got {x.shape}, {y.shape}"
        )
    if x.dtype != y.dtype:
        raise ValueError(f"add: expected one dtype, got {x.dtype}, {y.dtype}")


def concatenate(xs, axis: int = 1):
    """Join arrays along an axis, by default their channels: (N, C_i, H, W) to (N, sum of C_i, H, W).

    Raises:
        ValueError: the arrays differ along another axis, or in dtype.
    """
    if len({x.dtype for x in xs}) > 1:
        raise ValueError(f"concatenate: expected one dtype, got {[str(x.dtype) for x in xs]}")
    return np.concatenate(xs, axis)
