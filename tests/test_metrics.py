"""Metrics by hand, by sets, and by trying every threshold."""

import numpy as np
import pytest

from tinyseg.metrics import best_threshold, confusion_matrix, pooled
from tinyseg.ops import UNLABELLED

RNG = np.random.default_rng(0)


def two(prediction, truth):
    return confusion_matrix(np.asarray(prediction, np.uint8), np.asarray(truth, np.uint8))


def test_by_sets_of_pixels():
    a, b = RNG.random((2, 3, 8, 8)) > 0.6
    counts = two(a, b)
    found, there = set(np.flatnonzero(a)), set(np.flatnonzero(b))
    assert counts.dice == pytest.approx(2 * len(found & there) / (len(found) + len(there)))
    assert counts.iou == pytest.approx(len(found & there) / len(found | there))
    assert counts.accuracy == pytest.approx((a == b).mean())
    assert counts.iou == pytest.approx(counts.dice / (2 - counts.dice))
    assert counts.counts.sum() == a.size


@pytest.mark.parametrize(
    ("prediction", "truth", "dice", "iou"),
    [([0, 0], [0, 0], 1, 1), ([1, 0], [0, 0], 0, 0), ([0, 0], [1, 0], 0, 0), ([1, 1], [1, 1], 1, 1)],
)
def test_at_the_edges(prediction, truth, dice, iou):
    counts = two(prediction, truth)
    assert (counts.dice, counts.iou) == (dice, iou)


@pytest.mark.parametrize("levels", [1000, 5], ids=["fine", "ties"])
def test_best_threshold_by_trying_them_all(levels):
    scores, truth = np.round(RNG.random((2, 40, 5)) * levels) / levels
    truth = truth > 0.7
    values = np.unique(scores)
    tried = [two(scores > t, truth).dice for t in [-1.0, *values]]
    threshold, dice = best_threshold(scores, truth)
    assert dice == pytest.approx(max(tried))
    assert two(scores > threshold, truth).dice == pytest.approx(dice)


def test_best_threshold_where_nothing_is_there_or_all_is_alike():
    scores = RNG.random(9)
    threshold, dice = best_threshold(scores, np.zeros(9))
    assert two(scores > threshold, np.zeros(9)).dice == dice == 1
    threshold, dice = best_threshold(np.full(4, 0.3), np.array([1, 1, 0, 0]))
    assert two(np.full(4, 0.3) > threshold, np.array([1, 1, 0, 0])).dice == pytest.approx(dice)


def test_confusion_matrix_counts_pairs_and_leaves_out_what_is_unlabelled():
    truth, prediction = RNG.integers(0, 4, (2, 3, 1, 8, 8)).astype(np.uint8)
    truth[RNG.random(truth.shape) < 0.3] = UNLABELLED
    counts = confusion_matrix(prediction, truth, 4)
    for i, j in np.ndindex(4, 4):
        assert counts.counts[i, j] == ((truth == i) & (prediction == j)).sum()
    known = truth != UNLABELLED
    assert counts.accuracy == pytest.approx((prediction[known] == truth[known]).mean())
    each = [two(prediction[known] == k, truth[known] == k) for k in range(4)]
    np.testing.assert_allclose(counts.dice_of_each, [c.dice for c in each])
    np.testing.assert_allclose(counts.iou_of_each, [c.iou for c in each])
    assert counts.dice == pytest.approx(np.mean([c.dice for c in each]))
    assert counts.iou == pytest.approx(np.mean([c.iou for c in each]))


def test_of_two_classes_the_second_is_the_structure():
    truth, prediction = RNG.integers(0, 2, (2, 50)).astype(np.uint8)
    counts = confusion_matrix(prediction, truth, 2)
    assert counts.dice == counts.dice_of_each[1] and counts.iou == counts.iou_of_each[1]


def test_best_threshold_leaves_out_what_is_unlabelled():
    scores, truth = RNG.random(60), RNG.integers(0, 2, 60).astype(np.uint8)
    truth[:20] = UNLABELLED
    assert best_threshold(scores, truth) == best_threshold(scores[20:], truth[20:])


def test_a_class_that_is_not_there_has_no_part_in_the_mean_unless_it_was_found():
    truth = np.uint8([0, 0, 1, 1])
    assert confusion_matrix(np.uint8([0, 0, 1, 1]), truth, 3).dice == 1
    np.testing.assert_array_equal(confusion_matrix(truth, truth, 3).iou_of_each, [1, 1, np.nan])
    counts = confusion_matrix(np.uint8([0, 0, 1, 2]), truth, 3)
    np.testing.assert_allclose(counts.dice_of_each, [1, 2 / 3, 0])
    assert counts.dice == pytest.approx((1 + 2 / 3 + 0) / 3)
    nothing = confusion_matrix(truth, np.full(4, UNLABELLED, np.uint8), 3)
    assert np.isnan([nothing.dice, nothing.iou, nothing.accuracy]).all()


@pytest.mark.parametrize(
    ("prediction", "truth", "words"),
    [
        ([0, 1], [0, 1, 1], "equal shapes"),
        ([0, 3], [0, 1], "classes 0 to 2, got 0 to 3"),
        ([0, -1], [0, 1], "classes 0 to 2, got -1 to 1"),
        ([0, 1], [0, 7], "classes 0 to 2, got 0 to 7"),
    ],
)
def test_what_cannot_be_counted(prediction, truth, words):
    with pytest.raises(ValueError, match=words):
        confusion_matrix(np.array(prediction), np.array(truth), 3)


def test_a_score_that_is_no_number_is_above_no_threshold():
    scores, truth = np.array([np.nan, 0.9, 0.2, 0.1]), np.array([1, 1, 0, 0])
    threshold, dice = best_threshold(scores, truth)
    assert two(scores > threshold, truth).dice == dice == pytest.approx(2 / 3)


def test_probabilities_are_no_classes():
    with pytest.raises(ValueError, match="expected whole numbers, got float64"):
        confusion_matrix(np.array([0.5]), np.array([1]))


def test_a_truth_of_floats_is_no_classes_either():
    with pytest.raises(ValueError, match="expected whole numbers, got int64 and float64"):
        confusion_matrix(np.array([1]), np.array([0.5]))


def test_of_many_classes_a_byte_does_not_run_over():
    """20 * 19 is more than uint8 holds."""
    labels = np.arange(20, dtype=np.uint8)
    np.testing.assert_array_equal(confusion_matrix(labels[::-1], labels, 20).counts, np.eye(20)[::-1])


def test_results_are_plain_numbers():
    """As JSON wants them, and whoever prints them."""
    for classes in (2, 3):
        counts = confusion_matrix(np.uint8([0, 1, 1]), np.uint8([0, 1, 0]), classes)
        assert [type(value) for value in (counts.dice, counts.iou, counts.accuracy)] == [float] * 3
    for truth in ([0, 1], [0, 0]):
        found = best_threshold(np.float32([0.2, 0.7]), np.array(truth))
        assert [type(value) for value in found] == [float] * 2


def test_best_threshold_where_all_is_there_or_there_is_nothing_at_all():
    scores = np.array([0.4, 0.1, 0.8])
    threshold, dice = best_threshold(scores, np.ones(3))
    assert dice == 1 and (scores > threshold).all()
    assert best_threshold(np.zeros(0), np.zeros(0)) == (0.5, 1.0)
    with pytest.raises(ValueError, match=r"best_threshold: expected equal shapes, got \(3,\) and \(2,\)"):
        best_threshold(scores, np.ones(2))


def test_counts_of_several_images_together_are_those_of_all_pixels():
    truth, found = RNG.integers(0, 3, (2, 4, 30)).astype(np.uint8)
    each = (confusion_matrix(*pair, 3) for pair in zip(found, truth))
    np.testing.assert_array_equal(pooled(each).counts, confusion_matrix(found, truth, 3).counts)
