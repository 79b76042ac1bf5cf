"""What can be had without a network: each pixel judged by its brightness and that of a blurred image."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from tinyseg.data import Dataset
from tinyseg.data.dataset import all_pixels, of_any_size
from tinyseg.metrics import confusion_matrix
from tinyseg.ops import UNLABELLED, median_frequency

LEVELS = 32  # of brightness
ENOUGH = 4_000_000  # training pixels


def brightness_and_blur(train: Dataset, held_out: Dataset) -> np.ndarray:
    """The class of each held-out pixel by its brightness and that of a blurred image alone.

    Returns (N, H, W), or of different sizes (N,) of (h, w).

    How often each class shows each pair of levels is counted on annotated training pixels, smoothed, and
    weighted so that rare classes count as much as frequent ones; the most frequent class wins. The blur is
    the one with the best Dice on the training images; of more than ENOUGH pixels, on some of the images.
    """
    weights = median_frequency(all_pixels(train.labels), train.classes)[:, None, None]
    shown = np.random.default_rng(0).permutation(len(train))  # of many large images, some tell enough
    pixels = np.cumsum([train.labels[i].size for i in shown])
    some = train.take(np.sort(shown[: 1 + np.searchsorted(pixels, ENOUGH)]))
    labels = all_pixels(some.labels)
    known = labels != UNLABELLED
    trials = []
    for sigma in (0.5, 1, 2, 4, 8):  # pixels where the shorter side has 96
        counts = np.zeros((train.classes, LEVELS, LEVELS))
        maps = [_levels(image, sigma).reshape(2, -1) for image in some.images]  # (2, h, w) -> (2, pixels)
        levels = np.concatenate(maps, axis=1)
        np.add.at(counts, (labels[known], *levels[:, known]), 1)
        table = (gaussian_filter(counts, (0, 1, 1)) * weights).argmax(axis=0)  # (LEVELS, LEVELS)
        dice = confusion_matrix(table[tuple(levels)], labels, train.classes).dice
        trials.append((dice, sigma, table))
    _, sigma, table = max(trials, key=lambda trial: trial[0])
    table = table.astype(np.uint8)  # a byte for each pixel of the held-out images, not eight
    return of_any_size([table[tuple(_levels(image, sigma))] for image in held_out.images])


def _levels(image: np.ndarray, sigma: float) -> np.ndarray:
    """Each pixel's brightness and its surroundings', as levels 0 to LEVELS - 1: (2, h, w)."""
    grey = image.mean(axis=0)  # (channels, h, w) -> (h, w)
    both = np.stack([grey, gaussian_filter(grey, sigma * min(grey.shape) / 96)])
    return np.clip((both * LEVELS).astype(int), 0, LEVELS - 1).astype(np.uint8)
