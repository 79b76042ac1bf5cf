"""What can be had without a network: each pixel judged by its brightness and that of a blurred image."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from tinyseg.data import Dataset
from tinyseg.metrics import confusion_matrix
from tinyseg.ops import UNLABELLED, median_frequency

LEVELS = 32  # of brightness


def brightness_and_blur(train: Dataset, held_out: Dataset) -> np.ndarray:
    """The class of each held-out pixel, (N, H, W), by its brightness and that of a blurred image alone.

    How often each class shows each pair of levels is counted on annotated training pixels, smoothed, and
    weighted so that rare classes count as much as frequent ones; the most frequent class wins. The blur is
    the one with the best Dice on the training images.
    """
    known = train.labels != UNLABELLED
    weights = median_frequency(train.labels, train.classes)[:, None, None]
    trials = []
    for sigma in (0.5, 1, 2, 4, 8):  # pixels at 96 x 96
        counts = np.zeros((train.classes, LEVELS, LEVELS))
        levels = _levels(train, sigma)
        np.add.at(counts, (train.labels[known], levels[0][known], levels[1][known]), 1)
        table = (gaussian_filter(counts, (0, 1, 1)) * weights).argmax(axis=0)  # (LEVELS, LEVELS)
        dice = confusion_matrix(table[tuple(levels)], train.labels, train.classes).dice
        trials.append((dice, sigma, table))
    _, sigma, table = max(trials, key=lambda trial: trial[0])
    return table[tuple(_levels(held_out, sigma))]


def _levels(data: Dataset, sigma: float) -> np.ndarray:
    """Each pixel's brightness and its surroundings', as levels 0 to LEVELS - 1: (2, N, H, W)."""
    image = data.images.mean(axis=1)  # (N, channels, H, W) -> (N, H, W)
    sigma *= image.shape[-1] / 96
    both = np.stack([image, gaussian_filter(image, (0, sigma, sigma))])
    return np.clip((both * LEVELS).astype(int), 0, LEVELS - 1)
