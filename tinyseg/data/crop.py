"""Random crops: from large images, and from images of different sizes, minibatches of small squares.

Images of one minibatch need one size, and a network needs no more of an image than surrounds a pixel. So
training takes a square out of each image, at another place each time, and sees all of the image in the end.
A structure that is rare in the image is rare in such squares, too. So a share of them is made to hold one.
"""

from __future__ import annotations

import numpy as np

from tinyseg.ops import UNLABELLED


def random_crop(size: int, share: float = 0.5):
    """A function (images, labels, rng) -> (images, labels), for `fit(augment=...)`: a square of each image.

    With the probability `share` the square holds a pixel of a rarer class: a class is drawn among those that
    are annotated in the image, but its most frequent one, then one of its pixels, then one of the squares
    that hold this pixel. Else, all squares within the image are equally likely.

    Takes images (N, C, H, W) and labels (N, H, W), or of different sizes as `Dataset` has them. Returns new
    arrays (N, C, size, size) and (N, size, size) of the same dtypes.

    Raises:
        ValueError: a size below 1, a share that is not in [0, 1], or an image smaller than the square.
    """
    if size < 1 or not 0 <= share <= 1:
        raise ValueError(
            f"random_crop: expected a size of at least 1 and a share from 0 to 1, got {size} and {share}"
        )

    def crop(images, labels, rng: np.random.Generator):
        squares = [_square(label_map, size, share, rng) for label_map in labels]
        return (
            np.stack([image[:, rows, columns] for image, (rows, columns) in zip(images, squares)]),
            np.stack([label_map[square] for label_map, square in zip(labels, squares)]),
        )

    return crop


def _square(labels: np.ndarray, size: int, share: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """The rows and columns of a square in an image with these labels (H, W)."""
    if min(labels.shape) < size:
        raise ValueError(f"random_crop: expected images of at least {size} x {size}, got one {labels.shape}")
    first, beyond = np.zeros(2, int), np.array(labels.shape) - size + 1  # of the upper left corner
    if rng.random() < share:
        counts = np.bincount(labels.ravel(), minlength=UNLABELLED + 1)[:UNLABELLED]
        counts[counts.argmax()] = 0
        if counts.any():
            pixels = np.flatnonzero(labels == rng.choice(np.flatnonzero(counts)))
            pixel = np.array(np.unravel_index(rng.choice(pixels), labels.shape))
            first, beyond = np.maximum(pixel - size + 1, 0), np.minimum(pixel + 1, beyond)
    top, left = rng.integers(first, beyond)
    return slice(top, top + size), slice(left, left + size)
