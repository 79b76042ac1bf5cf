"""The eight symmetries of the square: from each annotated image, eight.

A square can be laid upon itself in eight ways: turned by 0, 1, 2 or 3 quarters, and each of these
once more after a flip. They form a group, the dihedral group D4: two of them in a row are a third,
and each has an inverse. A convolution knows no more than translation by itself; what a thing looks
like mirrored or turned, a network has to learn from examples, and here they cost nothing. The mask
has to move with its image. LungNet's training used these eight.
"""

from __future__ import annotations

import numpy as np


def symmetry(x: np.ndarray, k: int) -> np.ndarray:
    """Symmetry `k`, 0 to 7, of the last two axes: a left-right flip if k & 4, then k & 3 quarter turns.

    Takes (..., H, W) of any dtype. Returns a new contiguous array of that dtype, (..., W, H) after an odd
    number of quarter turns. Turns are counter-clockwise as an image is drawn, rows downward.
    """
    flipped = x[..., ::-1] if k & 4 else x
    return np.rot90(flipped, k & 3, axes=(-2, -1)).copy()


def random_symmetry(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Move each image of a batch, and its labels with it, by a symmetry drawn by `rng`.

    Takes images (N, C, H, W) and labels (N, H, W). Returns new arrays of the same shapes and dtypes.
    All eight symmetries are equally likely if the images are square; otherwise only the four that keep
    their shape are drawn: no quarter turn or two, flipped or not.
    """
    square = images.shape[-2] == images.shape[-1]
    drawn = rng.choice(8 if square else (0, 2, 4, 6), size=len(images))
    return (
        np.stack([symmetry(image, k) for image, k in zip(images, drawn, strict=True)]),
        np.stack([symmetry(label_map, k) for label_map, k in zip(labels, drawn, strict=True)]),
    )
