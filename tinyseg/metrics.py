"""Dice, IoU and accuracy, all from one count, for two classes and for many; and the best threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyseg.ops import UNLABELLED


@dataclass(frozen=True)
class Confusion:
    """How many pixels were found, falsely found, missed and rightly left out.

    Counts are pooled over all images before any ratio is taken, so that an image without the structure
    counts by what was falsely found in it and has no Dice of its own.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where nothing was there and nothing was found."""
        both_areas = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / both_areas if both_areas else 1.0

    @property
    def iou(self) -> float:
        """Intersection over union, TP / (TP + FP + FN) = dice / (2 - dice)."""
        union = self.true_positive + self.false_positive + self.false_negative
        return self.true_positive / union if union else 1.0

    @property
    def accuracy(self) -> float:
        """The share of pixels that are right, (TP + TN) / all."""
        right = self.true_positive + self.true_negative
        return right / (right + self.false_positive + self.false_negative)


def confusion(prediction: np.ndarray, truth: np.ndarray) -> Confusion:
    """Count two arrays of equal shape, where True (or not 0) is the structure that is sought."""
    if prediction.shape != truth.shape:
        raise ValueError(f"confusion: expected equal shapes, got {prediction.shape} and {truth.shape}")
    prediction, truth = prediction.astype(bool), truth.astype(bool)
    tp = int(np.count_nonzero(prediction & truth))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Confusion(tp, fp, fn, truth.size - tp - fp - fn)


@dataclass(frozen=True)
class ConfusionMatrix:
    """How many annotated pixels of each class were taken for each class, pooled over all images."""

    counts: np.ndarray  # (C, C) whole numbers: rows are the truth, columns the prediction

    @property
    def classes(self) -> tuple[Confusion, ...]:
        """Each class against all others."""
        right, there, found = self.counts.diagonal(), self.counts.sum(axis=1), self.counts.sum(axis=0)
        rest = self.counts.sum() - there - found + right
        columns = (right, found - right, there - right, rest)
        return tuple(Confusion(*map(int, row)) for row in zip(*columns))

    @property
    def dice(self) -> float:
        """The mean of the classes' Dice, over those that are there or were found."""
        return self._mean("dice")

    @property
    def iou(self) -> float:
        """The mean of the classes' IoU, over those that are there or were found."""
        return self._mean("iou")

    @property
    def accuracy(self) -> float:
        """The share of annotated pixels that are right: the diagonal's; NaN of nothing."""
        return float(self.counts.trace() / self.counts.sum()) if self.counts.any() else float("nan")

    def each(self, name: str) -> list[float | None]:
        """ "dice" or "iou" of every class; None of one that is neither there nor was found."""
        seen = self.counts.any(axis=0) | self.counts.any(axis=1)
        return [getattr(c, name) if is_seen else None for c, is_seen in zip(self.classes, seen)]

    def _mean(self, name) -> float:
        return float(np.mean([value for value in self.each(name) if value is not None] or np.nan))


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, classes: int) -> ConfusionMatrix:
    """Count two integer arrays of equal shape, classes 0 to `classes` - 1; UNLABELLED truth is left out."""
    if prediction.shape != truth.shape:
        raise ValueError(f"confusion_matrix: expected equal shapes, got {prediction.shape} and {truth.shape}")
    known = truth != UNLABELLED
    pairs = np.stack([truth[known], prediction[known]]).astype(np.int64)  # (2, pixels)
    if pairs.size and not (pairs.min() >= 0 and pairs.max() < classes):
        raise ValueError(
            f"confusion_matrix: expected classes 0 to {classes - 1}, got {pairs.min()} to {pairs.max()}"
        )
    counts = np.bincount(pairs[0] * classes + pairs[1], minlength=classes**2)
    return ConfusionMatrix(counts.reshape(classes, classes))  # (C * C,) -> (C, C)


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The threshold t at which `scores > t` has the highest pooled Dice, and that Dice.

    All of them are tried: with the pixels sorted by falling score, the first k are what a threshold finds.

    Args:
        scores: any shape, higher where the structure is thought to be.
        truth: the same shape, True (or not 0) where it is.
    """
    if scores.shape != truth.shape:
        raise ValueError(f"best_threshold: expected equal shapes, got {scores.shape} and {truth.shape}")
    order = np.argsort(scores, axis=None)[::-1]
    ordered, there = scores.ravel()[order], truth.ravel()[order].astype(bool)
    if not there.any():
        return float(ordered[0]), 1.0  # nothing is there: find nothing
    below = np.append(ordered[1:], np.nextafter(ordered[-1], -np.inf))  # a threshold that finds the first k
    true_positive, found = np.cumsum(there), np.arange(1, there.size + 1)
    dice = 2 * true_positive / (found + true_positive[-1])
    dice[below == ordered] = 0  # equal scores are found together
    k = int(dice.argmax())
    return float(below[k]), float(dice[k])
