"""Figures by image and by subject against counts by hand, SciPy's bootstrap, and a file and back."""

import json
import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from tinyseg.app.figures import (
    RESAMPLES,
    SEED,
    across,
    dice_and_iou,
    figures,
    interval,
    per_image,
    rows_of,
    said,
    table_of,
    warnings,
)
from tinyseg.data import Dataset
from tinyseg.errors import InputError
from tinyseg.io.files import write_whole
from tinyseg.metrics import confusion_matrix
from tinyseg.ops import UNLABELLED

RNG = np.random.default_rng(0)


def row(subject, right, false, missed, name=None):
    """A row of two classes, with scores by the formulas."""
    dice = 2 * right / (2 * right + false + missed) if right + missed else None
    iou = right / (right + false + missed) if right + missed else None
    name = name or f"{subject}_{right}_{false}_{missed}"
    return {
        "name": name, "subject": subject, "dice": dice, "iou": iou,
        "right": right, "false": false, "missed": missed,
    }  # fmt: skip


def random_data(classes, subjects=4, each=3):
    """(predicted labels, dataset): some pixels are not annotated, some images have nothing but class 0."""
    n = subjects * each
    labels, found = RNG.integers(0, classes, (2, n, 6, 6)).astype(np.uint8)
    labels[::5] = 0
    labels[RNG.random(labels.shape) < 0.2] = UNLABELLED
    names = tuple(f"class {k}" for k in range(classes))
    of_each = tuple(f"s{i % subjects}" for i in range(n))
    images = np.zeros((n, 1, 6, 6), np.float32)
    return found, Dataset(images, labels, subjects=of_each, class_names=names)


def rows_for(found, data):
    """The rows of predicted labels."""
    counts = [confusion_matrix(*pair, data.classes) for pair in zip(found, data.labels)]
    return per_image(counts, data)


TWO, SIX = random_data(2), random_data(6)
both = pytest.mark.parametrize("found, data", [TWO, SIX], ids=["two classes", "six classes"])
# Two subjects of one and three images, and two without anything; in one of these something was found.
ROWS = [
    row("a", 6, 2, 2), row("b", 1, 1, 7), row("b", 5, 0, 5), row("b", 0, 4, 0), row("c", 0, 0, 0),
    row("d", 0, 3, 0),
]  # fmt: skip


# Rows


@both
def test_a_row_has_the_scores_of_its_image_alone(found, data):
    for one, prediction, labels in zip(rows_for(found, data), found, data.labels):
        counts = confusion_matrix(prediction, labels, data.classes)
        if data.classes == 2 and not (labels == 1).any():
            assert one["dice"] is one["iou"] is None
        else:
            assert (one["dice"], one["iou"]) == (pytest.approx(counts.dice), pytest.approx(counts.iou))


def test_a_row_of_two_classes_counts_the_structure_where_it_is_annotated():
    found, data = TWO
    known, there = data.labels != UNLABELLED, data.labels == 1
    for i, one in enumerate(rows_for(found, data)):
        sets = found[i] == 1, there[i], known[i]
        assert one["right"] == (sets[0] & sets[1]).sum()
        assert one["false"] == (sets[0] & ~sets[1] & sets[2]).sum()
        assert one["missed"] == (~sets[0] & sets[1]).sum()


def test_a_row_of_more_classes_has_the_dice_of_each():
    found, data = SIX
    for one, prediction, labels in zip(rows_for(found, data), found, data.labels):
        known = labels != UNLABELLED
        for k in range(6):
            is_k, found_k = labels[known] == k, prediction[known] == k
            size = is_k.sum() + found_k.sum()
            dice = 2 * (is_k & found_k).sum() / size if size else None
            assert one[f"dice class {k}"] == (dice and pytest.approx(dice))


def test_an_image_without_annotated_pixels_has_no_dice():
    labels = np.full((1, 4, 4), UNLABELLED, np.uint8)
    data = Dataset(np.zeros((1, 1, 4, 4), "f"), labels, class_names=("a", "b", "c"))
    (one,) = rows_for(np.ones_like(labels), data)
    assert one["dice"] is None and one["dice b"] is None and one["false b"] == 0


@both
def test_rows_together_have_the_scores_of_the_pooled_pixels(found, data):
    counts = confusion_matrix(found, data.labels, data.classes)
    assert dice_and_iou(rows_for(found, data)) == (pytest.approx(counts.dice), pytest.approx(counts.iou))


# The file


@both
def test_a_file_gives_back_the_very_rows(found, data, tmp_path):
    rows = rows_for(found, data)
    write_whole(tmp_path / "per_image.csv", table_of(rows))
    assert rows_of(tmp_path / "per_image.csv") == rows


@pytest.mark.parametrize(
    "name", ['a,"b"', "a\nb", "a\rb", "\udcff", "'", " ä", "", "=1+1"], ids=lambda name: ascii(name)
)
def test_a_name_may_hold_any_character(name, tmp_path):
    rows = [row(name, 1, 2, 3, name), row("b", 1, 2, 3)]
    rows[0]["name"] = name
    write_whole(tmp_path / "per_image.csv", table_of(rows))
    assert rows_of(tmp_path / "per_image.csv") == rows


@pytest.mark.parametrize(
    "text",
    [
        "",
        "epoch,step\r\n1,2\r\n",
        table_of(ROWS).replace("right", "left"),
        table_of(ROWS).replace("6,2,2", "6,2"),
        table_of(ROWS).replace("6,2,2", "6,x,2"),
    ],
    ids=["empty", "another table", "a column is missing", "a number is missing", "no number"],
)
def test_another_file_is_refused_by_name(text, tmp_path):
    (tmp_path / "per_image.csv").write_text(text)
    with pytest.raises(InputError, match=r"per_image.csv: expected a run's per_image.csv, with the columns"):
        rows_of(tmp_path / "per_image.csv")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.csv: cannot be read \(No such file"):
        rows_of(tmp_path / "nowhere.csv")


# The interval


def scipys(groups):
    """SciPy's percentile interval of a mean over groups, in the bootstrap of which whole groups are drawn."""
    sums, counts = np.array([(sum(group), len(group)) for group in groups], float).T
    result = bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis=axis) / counts.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(SEED + 1),
    )
    return list(result.confidence_interval)


def assert_close(one, other):
    """Two bootstraps of other random numbers agree to about two hundredths of what they tell."""
    np.testing.assert_allclose(one, other, atol=0.05 * np.ptp(other))


@pytest.mark.parametrize("count", [2, 12, 40])
def test_the_interval_of_single_scores_is_scipys(count):
    groups = [[score] for score in np.random.default_rng(1).random(count)]
    assert_close(interval(groups), scipys(groups))


def test_the_interval_of_scores_in_groups_is_scipys_and_not_that_of_single_scores():
    rng = np.random.default_rng(1)
    groups = [list(0.1 * k + 0.02 * rng.random(rng.integers(1, 8))) for k in range(10)]
    of_groups, of_single = interval(groups), interval([[score] for group in groups for score in group])
    assert_close(of_groups, scipys(groups))
    assert np.ptp(of_groups) > 1.3 * np.ptp(of_single)  # images of one subject are alike


def test_the_interval_covers_the_mean_as_often_as_it_says():
    hits = 0
    for scores in np.random.default_rng(1).normal(0.7, 0.1, (60, 20)):
        low, high = interval([[score] for score in scores])
        hits += low < 0.7 < high
    assert 51 <= hits <= 59  # 57 of 60; a percentile interval of 20 covers a little less


def test_the_same_scores_have_the_same_interval():
    assert interval([[0.1], [0.5], [0.9]]) == interval([[0.1], [0.5], [0.9]])


@pytest.mark.parametrize("groups", [[], [[0.5]], [[0.5, 0.7]]])
def test_fewer_than_two_subjects_have_no_interval(groups):
    assert interval(groups) is None


# Figures


def test_a_subject_has_the_scores_of_its_pixels_together():
    of_each = figures(ROWS)["by_subject"]["of_each"]
    assert of_each["b"] == {"dice": pytest.approx(12 / (12 + 5 + 12)), "iou": pytest.approx(6 / (6 + 17))}


def test_means_and_deviations_are_of_images_and_subjects_in_which_something_is_there():
    result = figures(ROWS)
    dice = [12 / 16, 2 / 10, 10 / 15]
    assert result["by_image"]["count"] == 3
    assert result["by_image"]["dice"]["mean"] == pytest.approx(sum(dice) / 3)
    assert result["by_image"]["dice"]["std"] == pytest.approx(
        math.sqrt(sum((d - sum(dice) / 3) ** 2 for d in dice) / 2)
    )
    assert result["by_subject"]["count"] == 2
    assert result["by_subject"]["dice"]["mean"] == pytest.approx((12 / 16 + 12 / 29) / 2)
    assert result["by_subject"]["iou"]["mean"] == pytest.approx((6 / 10 + 6 / 23) / 2)
    assert result["by_subject"]["iou"]["std"] == pytest.approx(abs(6 / 10 - 6 / 23) / math.sqrt(2))


def test_the_interval_of_either_is_by_subjects():
    result = figures(ROWS)
    assert result["by_subject"]["dice"]["interval"] == interval([[12 / 16], [12 / 29]])
    assert result["by_image"]["dice"]["interval"] == interval([[12 / 16], [2 / 10, 10 / 15]])


def test_what_is_empty_stands_apart():
    assert figures(ROWS)["empty"] == {"images": 3, "subjects": 2, "found_in": 2, "pixels": 7}


def test_which_images_were_held_out_is_told_by_name():
    assert figures(ROWS)["held_out"] == [one["name"] for one in ROWS]


def test_where_nothing_is_there_no_figure_is_made_up():
    result = figures([row("a", 0, 2, 0), row("b", 0, 0, 0)])
    for by in ("by_image", "by_subject"):
        assert result[by]["count"] == 0
        assert result[by]["dice"] == result[by]["iou"] == {"mean": None, "std": None, "interval": None}


def test_one_subject_has_a_mean_and_no_spread():
    dice = figures([row("a", 6, 2, 2)])["by_subject"]["dice"]
    assert dice == {"mean": 0.75, "std": None, "interval": None}


@both
def test_figures_are_json_without_nan(found, data):
    result = figures(rows_for(found, data))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


# Cross-validation


def test_folds_are_pooled_from_their_files_alone(tmp_path):
    found, data = SIX
    rows, folds = rows_for(found, data), []
    for i in range(3):
        write_whole(tmp_path / f"{i}.csv", table_of(rows[i::3]))
        folds.append(rows_of(tmp_path / f"{i}.csv"))
    result = across(folds)
    assert result["dice"] == pytest.approx(confusion_matrix(found, data.labels, 6).dice)
    assert result["by_image"]["dice"]["mean"] == pytest.approx(np.mean([one["dice"] for one in rows]))
    each = [confusion_matrix(found[i::3], data.labels[i::3], 6) for i in range(3)]
    for key in ("dice", "iou"):
        scores = [getattr(counts, key) for counts in each]
        assert result["folds"][key]["of_each"] == pytest.approx(scores)
        assert result["folds"][key]["mean"] == pytest.approx(np.mean(scores))
        assert result["folds"][key]["std"] == pytest.approx(np.std(scores, ddof=1))


def test_a_fold_in_which_nothing_is_there_is_left_out_of_the_mean():
    result = across([[row("a", 6, 2, 2)], [row("b", 0, 2, 0)]])
    assert result["folds"]["dice"] == {"mean": 0.75, "std": None, "of_each": [0.75, None]}


def test_an_image_in_two_folds_is_refused():
    with pytest.raises(InputError, match="each image in one fold, got some in two: a_6_2_2$"):
        across([[row("a", 6, 2, 2)], [row("b", 1, 1, 1), row("a", 6, 2, 2)]])


def test_folds_of_other_classes_are_refused():
    with pytest.raises(InputError, match="folds of the same classes"):
        across([rows_for(*TWO), rows_for(*SIX)])


def test_a_fold_without_anything_to_find_has_no_part_in_the_folds_mean():
    folds = [[row("a", 6, 2, 2)], [row("b", 0, 5, 0)], [row("c", 1, 1, 7)]]
    of_each = across(folds)["folds"]["dice"]
    assert of_each["of_each"] == [12 / 16, None, 2 / 10] and of_each["mean"] == pytest.approx(0.475)
    nothing = across([[row("a", 0, 1, 0)], [row("b", 0, 5, 0)]])
    assert nothing["dice"] is nothing["folds"]["dice"]["mean"] is nothing["folds"]["dice"]["std"] is None


# Words and warnings


def test_the_figures_in_words():
    assert said(figures(ROWS)).splitlines() == [
        "by subject: Dice 0.58 mean, 0.24 standard deviation",
        "by image: Dice 0.54 mean, 0.30 standard deviation",
        "nothing is there in 3 images, among them all of 2 subjects; these have no Dice: something was "
        "falsely found in 2 of them, 7 pixels in all",
    ]


def test_where_each_image_is_another_subjects_one_line_is_enough():
    words = said(figures([row("a", 6, 2, 2), row("b", 1, 1, 1)]))
    assert words.startswith("by subject: Dice 0.62 mean") and "\n" not in words


def test_of_one_subject_there_is_nothing_more_to_say():
    assert said(figures([row("a", 6, 2, 2)])) == ""


MANY = figures([row(f"s{i}", 6, 2, 2) for i in range(5)])
FEW = figures([row(f"s{i}", 6, 2, 2) for i in range(4)])


def test_nothing_is_warned_of_in_a_run_that_went_well():
    assert warnings(MANY, curve=[0, 0.5, *[0.8, 0.81, 0.8, 0.82, 0.81]]) == []


@pytest.mark.parametrize(
    ("how", "way_out"),
    [
        ({}, "--folds 5 judges by every subject"),
        ({"of_all": True}, "more subjects tell more"),
    ],
)
def test_too_few_subjects_are_warned_of(how, way_out):
    (one,) = warnings(FEW, **how)
    assert one.startswith("the judgement rests on only 4 held-out subjects, too few") and one.endswith(
        way_out
    )


def test_held_out_subjects_in_which_nothing_is_there_are_warned_of():
    (one,) = warnings(figures([row(f"s{i}", 0, 1, 0) for i in range(9)]))
    assert one.startswith("no held-out subject has anything to find") and "images of more subjects" in one


def test_that_nothing_was_there_to_choose_by_is_warned_of():
    (one,) = warnings(MANY, chosen=False)
    assert "the last epoch counts" in one and "at least 3 subjects" in one


def test_a_noisy_end_of_the_validation_curve_is_warned_of():
    noisy = [0.7, 0.8, 0.6, 0.8, 0.7]
    (one,) = warnings(MANY, curve=noisy)
    assert "in the last 5 epochs the validation Dice jumps by some 0.13" in one and "a lower --rate" in one
    assert warnings(MANY, curve=[0.1, 0.25, 0.4, 0.55, 0.7]) == []  # it rises, and steadily
    assert warnings(MANY, curve=noisy[1:]) == []  # four epochs tell nothing


def test_the_end_of_the_curve_is_its_last_fifth():
    assert warnings(MANY, curve=[0, 1] * 20 + [0.5] * 10) == []
    (one,) = warnings(MANY, curve=[0, 1] * 20 + [1] + [0.5] * 9)
    assert "in the last 10 epochs" in one
