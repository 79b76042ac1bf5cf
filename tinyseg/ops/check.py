"""What every op asks of its arguments: arrays of float32, or of float64. One error says what else came.

Without it, wrong numbers would pass in silence: in uint8, 3 - 5 is 254; in float16, 300 * 300 is infinite.
How an array lies in memory does not matter: a view, a read-only array and another byte order all work.
"""

from __future__ import annotations

import numpy
from autograd.tracer import getval

ARRAYS, FLOATS = (numpy.ndarray, numpy.generic), (numpy.float32, numpy.float64)


def floats(op: str, **arguments) -> list:
    """The arguments as plain arrays, out of autograd's boxes: all float32, or all float64.

    Any shape and byte order will do. A Python float counts as a float64 of shape ().

    Raises:
        ValueError: an argument is no array, has another dtype, or has not the first one's dtype.
    """
    arrays = [getval(value) for value in arguments.values()]  # a box is slow to say its shape
    arrays = [numpy.float64(a) if isinstance(a, float) else a for a in arrays]
    for name, a in zip(arguments, arrays):
        if not isinstance(a, ARRAYS):
            way_out = "make one with numpy.array(values, numpy.float32)"
            if hasattr(a, name):  # a dataset in place of its images
                way_out = f"its .{name} may be one"
            raise ValueError(
                f"{op}: expected {name} as an array of float32 or float64, got {type(a).__name__}; {way_out}"
            )
        kind = a.dtype.type  # unlike the dtype itself, it does not depend on the byte order
        if kind not in FLOATS:
            raise ValueError(
                f"{op}: expected {name} of float32 or float64, got {a.dtype}; "
                f"convert it with {name}.astype(numpy.float32)"
            )
        if kind is not arrays[0].dtype.type:
            dtypes = ", ".join(f"{key} {array.dtype}" for key, array in zip(arguments, arrays))
            raise ValueError(f"{op}: expected one dtype, got {dtypes}; convert with .astype(numpy.float32)")
    return arrays


def check_nchw(op: str, **arrays) -> None:
    """Refuse plain arrays that are not (N, C, H, W), or that are empty.

    Raises:
        ValueError: an array has another number of axes, or an axis of length 0.
    """
    for name, a in arrays.items():
        if a.ndim != 4 or 0 in a.shape:
            index = {2: "[None, None]", 3: "[None]"}.get(a.ndim)
            way_out = f"; one image alone is {name}{index}" if index else ""
            raise ValueError(f"{op}: expected {name} (N, C, H, W) with no empty axis, got {a.shape}{way_out}")
