"""All parameters as one vector, and back again, differentiably.

Optimisers are short on a vector, and autograd has one thing to follow instead of sixty: on small images
most of a step would otherwise be its bookkeeping for a dict.
"""

from __future__ import annotations

import numpy as np
from autograd.extend import SparseObject, defjvp, defvjp, primitive, vspace


def flatten(arrays: dict) -> np.ndarray:
    """All entries in the dict's order, one vector of the arrays' common dtype."""
    return np.concatenate([array.ravel() for array in arrays.values()])


def unflatten(vector, like: dict) -> dict:
    """`flatten` undone: a dict with the keys and shapes of `like`, each array a piece of the vector."""
    arrays, start = {}, 0
    for key, array in like.items():
        arrays[key] = _piece(vector, start, array.shape)
        start += array.size
    return arrays


@primitive
def _piece(vector, start, shape):
    return vector[start : start + int(np.prod(shape))].reshape(shape)


@primitive
def _placed(piece, start, space):
    """A vector that is zero but for this piece, as autograd's promise to add it in place."""

    def add_to(vector):
        vector[start : start + piece.size] += piece.ravel()
        return vector

    return SparseObject(space, add_to)


# Cutting a piece out and placing one are each other's transpose.
defvjp(_piece, lambda ans, vector, start, shape: lambda g: _placed(g, start, vspace(vector)))
defvjp(_placed, lambda ans, piece, start, space: lambda g: _piece(g, start, piece.shape))
defjvp(_piece, "same")
defjvp(_placed, "same")
