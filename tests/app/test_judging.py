"""The one judgement of two classes and of many: its numbers and its words."""

import json

import numpy as np
import pytest
from app.runs import files

from tinyseg import Dataset
from tinyseg.app.data import Data
from tinyseg.app.drawing import choose, plane
from tinyseg.app.figures import figures, rows_of
from tinyseg.app.judging import judge, plain, table
from tinyseg.app.run import Log, Run
from tinyseg.metrics import ConfusionMatrix, best_threshold, confusion_matrix
from tinyseg.training import Diverged, Snapshot

RNG = np.random.default_rng(0)


class Bright:
    """A network of two classes, or of three, that takes an image's level for what it is."""

    def __init__(self, classes):
        self.classes = classes

    def __call__(self, params, state, x, **how):
        return (
            x if self.classes == 2 else (np.round(2 * x) == np.arange(3)[:, None, None]).astype("f")
        ), state

    def probabilities(self, y):
        return y


OF_TWO = {"best_threshold", "best_threshold_dice", "max_probability"}


def judged(tmp_path, classes, labels, **how):
    labels = np.array(labels, np.uint8)  # (N, H, W)
    images = np.float32(np.where(labels == 255, 0, labels))[:, None] / (classes - 1)
    data = Dataset(images, labels, class_names=("a", "b", "c")[:classes])
    kept = Snapshot(3, 12, (), {}, {}, None, {})
    return judge(Log(tmp_path), Bright(classes), kept, Data(data, data, data), steps=20, seed=7, **how)


def test_two_classes(tmp_path, capsys):
    metrics = judged(tmp_path, 2, [[[0, 1], [255, 1]]])
    assert metrics.keys() > OF_TWO
    assert metrics["confusion"] == [[1, 0], [0, 2]] and metrics["dice"] == metrics["iou"] == 1
    assert (metrics["best_epoch"], metrics["steps"], metrics["seed"]) == (3, 20, 7)
    said = capsys.readouterr().out
    assert "held out: Dice 1.000, IoU 1.000, accuracy 1.000; by brightness and a blur alone: Dice" in said
    assert "-0.000" not in said
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics


def test_a_class_that_is_neither_there_nor_found_is_null(tmp_path, capsys):
    metrics = judged(tmp_path, 3, [[[0, 1], [0, 1]]])
    assert not metrics.keys() & OF_TWO
    assert metrics["dice_of_each"] == metrics["iou_of_each"] == [1, 1, None] and metrics["dice"] == 1
    assert "held out: mean Dice 1.000" in capsys.readouterr().out
    assert "NaN" not in (tmp_path / "metrics.json").read_text()


def test_the_rows_of_the_images_are_written(tmp_path):
    metrics = judged(tmp_path, 2, [[[0, 1], [255, 1]], [[0, 0], [0, 255]]])
    rows = rows_of(tmp_path / "per_image.csv")
    assert [row["name"] for row in rows] == metrics["held_out"] == ["0", "1"]
    assert [row["dice"] for row in rows] == [1, None]
    assert {key: metrics[key] for key in figures(rows)} == figures(rows)


def test_the_same_judgement_writes_the_same_bytes(tmp_path):
    labels = RNG.integers(0, 2, (7, 4, 4))
    for name in ("one", "two"):
        judged(tmp_path / name, 2, labels)
    for name in ("metrics.json", "per_image.csv", "log.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_figures_and_warnings_are_said(tmp_path, capsys):
    metrics = judged(tmp_path, 2, [[[0, 1], [0, 1]]] * 2, curve=[0, 1, 0, 1, 0])
    said = capsys.readouterr().out
    assert "by subject: Dice 1.00 mean, 0.00 standard deviation\n" in said
    assert len(metrics["warnings"]) == 2 and "--folds 3" in metrics["warnings"][0]
    assert all(f"\nwarning: {warning}\n" in said for warning in metrics["warnings"])


@pytest.mark.parametrize("there_is_validation", [True, False])
def test_the_threshold_is_chosen_on_validation_images_where_there_are_some(
    there_is_validation, tmp_path, capsys
):
    labels = RNG.integers(0, 2, (6, 8, 8)).astype(np.uint8)
    images = (0.5 * labels + 0.7 * RNG.random(labels.shape)).astype("f")[:, None]
    data = Dataset(images, labels)
    train, validation, held_out = (data.take([i, i + 1]) for i in (0, 2, 4))
    parts = Data(train, held_out, validation if there_is_validation else None)
    chosen_by = validation if there_is_validation else train
    kept = Snapshot(3, 12, (), {}, {}, None, {})
    metrics = judge(Log(tmp_path), Bright(2), kept, parts, steps=20, seed=7)
    threshold = metrics["best_threshold"]
    assert threshold == best_threshold(chosen_by.images[:, 0], chosen_by.labels)[0]
    by_hand = confusion_matrix((held_out.images[:, 0] > threshold).astype(np.uint8), held_out.labels).dice
    assert metrics["best_threshold_dice"] == by_hand
    name = "validation" if there_is_validation else "training"
    assert f"the best on the {name} images" in capsys.readouterr().out
    assert any("choose epoch and threshold" in one for one in metrics["warnings"]) != there_is_validation


def test_its_row_has_dashes():
    counts = confusion_matrix(np.uint8([0, 0, 1, 1]), np.uint8([0, 1, 1, 1]), 3)
    rows = [line.split() for line in table(counts, counts, ("a", "b", "c")).splitlines()]
    assert rows[0] == ["a", "b", "c", "IoU", "Dice", "baseline", "Dice"]
    assert rows[2] == ["b", "1", "2", "0", "0.667", "0.800", "0.800"]
    assert rows[3] == ["c", "0", "0", "0", "-", "-", "-"]
    assert isinstance(counts, ConfusionMatrix)


@pytest.mark.parametrize("number", [0.0, -0.0, -1e-4, -5e-324])
def test_zero_has_no_sign(number):
    assert plain(number) == "0.000"
    assert plain(-0.25) == "-0.250"


def test_unlabelled_pixels_are_neither_black_nor_white():
    picture = plane(np.uint8([[0, 1, 255]]), 2)[0, :, 0]
    assert picture[0] == 0 and picture[1] == 255 and 100 < picture[2] < 155
    picture = plane(np.uint8([[0, 1, 255]]), 3)[0]
    assert (picture[2] == 255).all() and (picture[:2] < 255).any(axis=1).all()


def test_an_image_without_annotation_has_nothing_to_find():
    labels = np.full((3, 2, 2), 255, np.uint8)
    labels[1] = 1
    assert choose(Dataset(np.zeros((3, 1, 2, 2), "f"), labels)).tolist() == [1, 0]


def test_a_run_logs_why_it_diverged_and_passes_it_on(tmp_path):
    with pytest.raises(Diverged), Run(tmp_path) as run:
        run.say("begun")
        raise Diverged("step 1: the loss became nan")
    assert (tmp_path / "unfinished/log.txt").read_text() == "begun\nerror: step 1: the loss became nan\n"
    assert files(run.folder) == {"log.txt", "run.json"}
