"""Metrics by hand, by sets, and by trying every threshold."""

import numpy as np
import pytest

from tinyseg.metrics import Confusion, best_threshold, confusion

RNG = np.random.default_rng(0)


def test_by_sets_of_pixels():
    a, b = RNG.random((2, 3, 1, 8, 8)) > 0.6
    counts = confusion(a, b)
    found, there = set(np.flatnonzero(a)), set(np.flatnonzero(b))
    assert counts.dice == pytest.approx(2 * len(found & there) / (len(found) + len(there)))
    assert counts.iou == pytest.approx(len(found & there) / len(found | there))
    assert counts.accuracy == pytest.approx((a == b).mean())
    assert counts.iou == pytest.approx(counts.dice / (2 - counts.dice))
    assert (
        counts.true_positive + counts.false_positive + counts.false_negative + counts.true_negative == a.size
    )


@pytest.mark.parametrize(
    ("prediction", "truth", "dice", "iou"),
    [([0, 0], [0, 0], 1, 1), ([1, 0], [0, 0], 0, 0), ([0, 0], [1, 0], 0, 0), ([1, 1], [1, 1], 1, 1)],
)
def test_at_the_edges(prediction, truth, dice, iou):
    counts = confusion(np.array(prediction), np.array(truth))
    assert (counts.dice, counts.iou) == (dice, iou)
    assert isinstance(counts, Confusion)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="equal shapes"):
        confusion(np.zeros((2, 1, 3, 3)), np.zeros((2, 3, 3)))


@pytest.mark.parametrize("levels", [1000, 5], ids=["fine", "ties"])
def test_best_threshold_by_trying_them_all(levels):
    scores, truth = np.round(RNG.random((2, 40, 5)) * levels) / levels
    truth = truth > 0.7
    values = np.unique(scores)
    tried = [confusion(scores > t, truth).dice for t in [-1.0, *values]]
    threshold, dice = best_threshold(scores, truth)
    assert dice == pytest.approx(max(tried))
    assert confusion(scores > threshold, truth).dice == pytest.approx(dice)


def test_best_threshold_where_nothing_is_there_or_all_is_alike():
    scores = RNG.random(9)
    threshold, dice = best_threshold(scores, np.zeros(9))
    assert confusion(scores > threshold, np.zeros(9)).dice == dice == 1
    threshold, dice = best_threshold(np.full(4, 0.3), np.array([1, 1, 0, 0]))
    assert confusion(np.full(4, 0.3) > threshold, np.array([1, 1, 0, 0])).dice == pytest.approx(dice)
