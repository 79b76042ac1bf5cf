"""Dice, IoU and accuracy, all from one count; and the best threshold.

    Dice = 2 TP / (2 TP + FP + FN),    IoU = TP / (TP + FP + FN)

for each class against all others: TP pixels are right, FP falsely found, FN missed. Counts are pooled over
all images before any ratio is taken. So an image without the structure counts by what was falsely found in
it, and has no Dice of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tinyseg.ops import UNLABELLED


@dataclass(frozen=True)
class ConfusionMatrix:
    """How many annotated pixels of each class were taken for each class, pooled over all images."""

    counts: np.ndarray  # (C, C) whole numbers: rows are the truth, columns the prediction

    @property
    def dice_of_each(self) -> np.ndarray:
        """The Dice of each class, (C,); NaN of a class that is neither there nor was found."""
        right, there, found = self.counts.diagonal(), self.counts.sum(axis=1), self.counts.sum(axis=0)
        return np.divide(2.0 * right, there + found, out=np.full(len(right), np.nan), where=there + found > 0)

    @property
    def iou_of_each(self) -> np.ndarray:
        """The IoU of each class, (C,), which is dice / (2 - dice)."""
        return self.dice_of_each / (2 - self.dice_of_each)

    @property
    def dice(self) -> float:
        """Of two classes the second one's, the structure's; of more the mean of those that are not NaN.

        Of two classes, nothing there and nothing found is right: 1.
        """
        return self._summary(self.dice_of_each)

    @property
    def iou(self) -> float:
        """As `dice`."""
        return self._summary(self.iou_of_each)

    @property
    def accuracy(self) -> float:
        """The share of annotated pixels that are right; NaN of nothing."""
        return float(self.counts.trace() / self.counts.sum()) if self.counts.any() else float("nan")

    def _summary(self, of_each) -> float:
        if not self.counts.any():
            return float("nan")
        if len(of_each) == 2:
            return float(np.nan_to_num(of_each[1], nan=1.0))
        return float(np.nanmean(of_each))


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, classes: int = 2) -> ConfusionMatrix:
    """Count two arrays of classes 0 to `classes` - 1, of equal shape; UNLABELLED truth is left out.

    Raises:
        ValueError: the shapes differ, or there is another number.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"confusion_matrix: expected equal shapes, got {prediction.shape} and {truth.shape}")
    if prediction.dtype.kind not in "bui" or truth.dtype.kind not in "bui":
        raise ValueError(
            f"confusion_matrix: expected whole numbers, got {prediction.dtype} and {truth.dtype}"
        )
    known = truth != UNLABELLED
    pairs = np.stack([truth[known], prediction[known]]).astype(np.int64)  # (2, pixels)
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < classes):
        raise ValueError(
            f"confusion_matrix: expected classes 0 to {classes - 1}, got {pairs.min()} to {pairs.max()}"
        )
    counts = np.bincount(pairs[0] * classes + pairs[1], minlength=classes**2)
    return ConfusionMatrix(counts.reshape(classes, classes))  # (C * C,) -> (C, C)


def pooled(each: Iterable[ConfusionMatrix]) -> ConfusionMatrix:
    """The counts of several images together."""
    return ConfusionMatrix(np.sum([one.counts for one in each], axis=0))


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The threshold t at which `scores > t` has the highest pooled Dice, and that Dice.

    All of them are tried: with the pixels sorted by falling score, the first k are what a threshold finds.

    Args:
        scores: any shape, higher where the structure is thought to be.
        truth: the same shape, labels: 1 where it is, 0 where not; UNLABELLED pixels are left out.
    """
    if scores.shape != truth.shape:
        raise ValueError(f"best_threshold: expected equal shapes, got {scores.shape} and {truth.shape}")
    known = truth != UNLABELLED
    scores, there = scores[known], truth[known].astype(bool)
    scores = np.where(np.isnan(scores), -np.inf, scores)  # a NaN is above no threshold
    order = np.argsort(scores)[::-1]
    ordered, there = scores[order], there[order]
    if not there.any():
        return (float(ordered[0]) if ordered.size else 0.5), 1.0  # nothing is there: find nothing
    below = np.append(ordered[1:], np.nextafter(ordered[-1], -np.inf))  # a threshold that finds the first k
    true_positive, found = np.cumsum(there), np.arange(1, there.size + 1)
    dice = 2 * true_positive / (found + true_positive[-1])
    dice[below == ordered] = 0  # equal scores are found together
    k = int(dice.argmax())
    return float(below[k]), float(dice[k])
