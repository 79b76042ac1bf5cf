"""What can be had without a network: each pixel judged by its brightness, or that and a blurred image's."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from tinyseg.data import Dataset
from tinyseg.metrics import best_threshold, confusion, confusion_matrix
from tinyseg.ops import UNLABELLED, median_frequency

LEVELS = 32  # of brightness


def blurred_threshold(train: Dataset, held_out: Dataset) -> float:
    """The held-out Dice of the best threshold on a blurred image.

    The width of the blur, bright or dark, and the threshold are those that do best on the training images.
    """
    trials = []
    for sigma in (0.5, 1, 2, 4, 8):  # pixels at 64 x 64
        width = (0, 0) + (sigma * train.images.shape[-1] / 64,) * 2
        for sign in (1, -1):
            threshold, dice = best_threshold(sign * gaussian_filter(train.images, width), train.masks)
            trials.append((dice, sign, width, threshold))
    _, sign, width, threshold = max(trials)
    return confusion(sign * gaussian_filter(held_out.images, width) > threshold, held_out.masks).dice


def brightness_and_blur(train: Dataset, held_out: Dataset) -> np.ndarray:
    """The class of each held-out pixel, (N, 1, H, W), by its brightness and that of a blurred image alone.

    How often each class shows each pair of levels is counted on annotated training pixels, smoothed and
    weighted like the network's loss; the most frequent class wins. The blur is the one that does best there.
    """
    classes = len(train.preprocessing.names)
    known = train.masks != UNLABELLED
    weights = median_frequency(train.masks, classes)[:, None, None]
    trials = []
    for sigma in (0.5, 1, 2, 4, 8):  # pixels at 96 x 96
        counts = np.zeros((classes, LEVELS, LEVELS))
        levels = _levels(train, sigma)
        np.add.at(counts, (train.masks[known], levels[0][known], levels[1][known]), 1)
        table = (gaussian_filter(counts, (0, 1, 1)) * weights).argmax(axis=0)  # (LEVELS, LEVELS)
        dice = confusion_matrix(table[tuple(levels)], train.masks, classes).dice
        trials.append((dice, sigma, table))
    _, sigma, table = max(trials, key=lambda trial: trial[0])
    return table[tuple(_levels(held_out, sigma))]


def _levels(data: Dataset, sigma: float) -> np.ndarray:
    """Each pixel's brightness and its surroundings', as levels 0 to LEVELS - 1: (2, N, 1, H, W)."""
    image = data.images.mean(axis=1, keepdims=True)
    sigma *= image.shape[-1] / 96
    both = np.stack([image, gaussian_filter(image, (0, 0, sigma, sigma))])
    return np.clip((both * LEVELS).astype(int), 0, LEVELS - 1)
