"""All parameters as one vector, and back again, differentiably.

An optimiser of one vector is short to write. And autograd follows one array instead of 52: on small images
a good part of a step would otherwise be its bookkeeping for a dict.
"""

from __future__ import annotations

import numpy as np
from autograd.extend import SparseObject, defjvp, defvjp, primitive, vspace


def flatten(arrays: dict) -> np.ndarray:
    """All entries in the dict's order, one vector of the arrays' common dtype."""
    dtypes = {str(np.asarray(array).dtype) for array in arrays.values()}
    if dtypes not in ({"float32"}, {"float64"}):
        raise ValueError(
            f"expected parameters of one dtype, float32 or float64, got {sorted(dtypes) or 'none'}"
        )
    return np.concatenate([np.ravel(array) for array in arrays.values()])


def unflatten(vector, like: dict) -> dict:
    """`flatten` undone: a dict with the keys and shapes of `like`, each array a piece of the vector."""
    arrays, start = {}, 0
    for key, array in like.items():
        stop = start + array.size
        arrays[key] = _piece(vector, start, stop, array.shape)
        start = stop
    return arrays


@primitive
def _piece(vector, start, stop, shape):
    return vector[start:stop].reshape(shape)  # (stop - start,) -> shape


@primitive
def _placed(piece, start, stop, space):
    """A vector that is zero but for this piece. autograd does not build it: it calls `add_to` on the sum."""

    def add_to(vector):
        vector[start:stop] += piece.ravel()
        return vector

    return SparseObject(space, add_to)


# Cutting a piece out and placing one are each other's transpose.
defvjp(_piece, lambda ans, vector, start, stop, _: lambda g: _placed(g, start, stop, vspace(vector)))
defvjp(_placed, lambda ans, piece, start, stop, _: lambda g: _piece(g, start, stop, piece.shape))
defjvp(_piece, "same")
defjvp(_placed, "same")
