"""Rectangles, images of different sizes, and sides on which nothing is there, from training to the page."""

import base64
import csv
import json
import re
from argparse import Namespace
from dataclasses import replace

import imageio.v3 as imageio
import numpy as np
import pytest
from app.runs import ALWAYS, NUMBERS, PICTURES, files

from tinyseg import Dataset, begin, evaluate, fit, load, lungnet, modified, predict, save
from tinyseg.app import segment
from tinyseg.app.data import Data
from tinyseg.app.drawing import draw
from tinyseg.app.figures import rows_of
from tinyseg.app.judging import judge
from tinyseg.app.progress import Epoch, Progress, digest
from tinyseg.app.report import write_report
from tinyseg.app.run import Log, Run
from tinyseg.data import random_crop
from tinyseg.data.dataset import all_pixels, of_any_size
from tinyseg.io.preprocessing import Preprocessing, preprocessing_of
from tinyseg.metrics import best_threshold, confusion_matrix
from tinyseg.ops import semi_supervised
from tinyseg.optim import constant
from tinyseg.training import most_probable

SIZE = 24  # of the shorter side, as the network sees it
NET = modified(dilations=(1, 2), maps=2)
OWN = [(60, 100), (100, 60), (24, 24), (30, 200), (20, 33), (48, 80)]  # of files


def photographs(sizes, seed=0, there=True):
    """(pixels of files, what is true of each): a bright block in noise."""
    rng, pixels, truths = np.random.default_rng(seed), [], []
    for height, width in sizes:
        truth = np.zeros((height, width), np.uint8)
        truth[height // 4 : height // 2, width // 5 : width // 2] = there
        noise = rng.integers(0, 120, truth.shape)
        pixels.append((noise + 120 * truth).astype(np.uint8))
        truths.append(truth)
    return pixels, truths


def dataset(sizes, seed=0, there=True, own=True):
    """Such photographs as the network sees them; with the labels at the files' own size, or without."""
    pixels, truths = photographs(sizes, seed, there)
    ready = Preprocessing(SIZE)
    images = [ready(one) for one in pixels]
    labels = [np.uint8(ready(255 * truth)[0] > 0.5) for truth in truths]
    names = tuple(f"s{seed}{k}_0" for k in range(len(sizes)))
    own_labels = of_any_size(truths) if own else None
    return Dataset(images, labels, names=names, class_names=("a", "b"), preprocessing=ready,
                   own_labels=own_labels)  # fmt: skip


def carried_out(folder, data, epochs=2, net=NET, loss=None):
    """(run, kept snapshot, history, metrics, probabilities) of a training, judged and drawn as by a demo."""
    args, first = Namespace(epochs=epochs), begin(net)
    with Run(folder) as run:
        progress = Progress(run, net, data, args, first)
        with progress:
            how = {"batch": 3, "schedule": constant(1e-2), "augment": random_crop(SIZE), "loss": loss}
            for last in fit(net, data.train, first, epochs=epochs, **how):
                progress.epoch(last, *evaluate(net, last.params, last.state, progress.watched, loss=loss))
        kept, history = progress.kept, progress.history()
        save(run.folder / "model.npz", net, kept.params, kept.state, preprocessing_of(data.train))
        metrics = judge(run, net, kept, data, steps=progress.last.step, seed=0, curve=progress.curve)
        p = predict(net, kept.params, kept.state, data.held_out.images)
        draw(run, p, data, metrics, history, progress.frames, progress.shown)
        rows = rows_of(run.folder / "per_image.csv")
        words = {"title": "A run", "command": "x", "found": "y", "rows": rows}
        write_report(run, p, data, metrics, history, **words)
    return run, kept, history, metrics, p


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A run on images of different sizes, of files that were larger and smaller."""
    data = Data(dataset(OWN), dataset(OWN, seed=1), dataset(OWN[::-1], seed=2))
    return data, *carried_out(tmp_path_factory.mktemp("run"), data, epochs=30)


@pytest.mark.parametrize("own", [True, False], ids=["own labels", "none"])
def test_rectangles_of_one_size_go_all_the_way(own, tmp_path):
    train, held_out, validation = (dataset([(48, 80)] * 3, seed, own=own) for seed in range(3))
    _, _, _, metrics, p = carried_out(tmp_path, Data(train, held_out, validation))
    assert p.shape == (3, 1, 24, 40)
    assert files(tmp_path) >= NUMBERS | PICTURES
    assert np.sum(metrics["confusion"]) == 3 * (48 * 80 if own else 24 * 40)


def test_different_sizes_go_all_the_way(mixed):
    data, run, kept, history, metrics, p = mixed
    assert files(run.home) >= NUMBERS | PICTURES
    assert [one.shape for one in p] == [(1, *one.shape) for one in data.held_out.labels]
    assert len({one.shape for one in p}) > 3
    best = max(history, key=lambda epoch: (epoch.val_dice + epoch.val_best_dice, epoch.epoch))
    assert best.epoch == kept.epoch == metrics["best_epoch"] and best.val_best_dice > 0.5


def test_an_epoch_of_black_masks_is_not_kept_over_one_that_finds_the_structure(tmp_path):
    data = Data(*(dataset([(24, 24)] * 2, seed) for seed in range(3)))
    labels, first = data.validation.labels, begin(NET)
    missed = labels * (np.arange(24) % 7 > 0)  # the second epoch's: not all of it
    epochs = [0.3 * labels, 0.9 * missed, 0.4 * labels]  # the others tell all apart, below 0.5
    with Run(tmp_path) as run, Progress(run, NET, data, Namespace(epochs=3), first) as progress:
        for k, p in enumerate(epochs, 1):
            last = replace(first, epoch=k, step=k, losses=(0.1,))
            progress.epoch(last, 0.1, confusion_matrix(p > 0.5, labels, 2), p[:, None])
        assert [epoch.val_best_dice for epoch in progress.history()][::2] == [1, 1]
        assert progress.kept.epoch == 2


def test_the_held_out_figures_are_those_of_segment_on_the_same_files(mixed, tmp_path):
    data, run, _, _, metrics, _ = mixed
    pixels, truths = photographs(OWN, seed=1)
    for name, image, truth in zip(data.held_out.names, pixels, truths):
        imageio.imwrite(tmp_path / f"{name}.png", image)
        imageio.imwrite(tmp_path / f"{name}_mask.png", 255 * truth)
    for threshold, key in ((0.5, "dice"), (metrics["best_threshold"], "best_threshold_dice")):
        flags = ["--out", str(tmp_path / "out"), "--threshold", repr(threshold)]
        counts = segment.main([str(run.home / "model.npz"), str(tmp_path), *flags])
        pooled = np.sum(counts, axis=0)
        right, wrong = pooled[1, 1], pooled[0, 1] + pooled[1, 0]
        assert right > 0 and metrics[key] == pytest.approx(2 * right / (2 * right + wrong))
        if key == "dice":
            assert pooled.tolist() == metrics["confusion"]
            rows = rows_of(run.home / "per_image.csv")
            assert [row["right"] for row in rows] == [count[1, 1] for count in counts]


def test_the_threshold_is_the_best_on_the_validation_images_as_the_network_sees_them(mixed):
    data, _, kept, _, metrics, _ = mixed
    each = [predict(NET, kept.params, kept.state, one[None]) for one in data.validation.images]
    scores = np.concatenate([one.ravel() for one in each])
    assert metrics["best_threshold"] == best_threshold(scores, all_pixels(data.validation.labels))[0]


def test_the_page_holds_what_the_figures_are_made_of(mixed):
    data, run, _, _, metrics, _ = mixed
    content = (run.home / "report.html").read_text(encoding="utf-8")
    given = json.loads(re.search(r'id="held-out">(.*?)</script>', content, re.DOTALL)[1])
    sizes = [tuple(map(int, pair)) for pair in re.findall(r'canvas width="(\d+)" height="(\d+)"', content)]
    assert sizes == [(width, height) for height, width in OWN]
    counts = 0
    for image in given["images"]:
        p, truth = (np.frombuffer(base64.b64decode(image[key]), kind)
                    for key, kind in (("p", "<f4"), ("truth", "u1")))  # fmt: skip
        counts = counts + confusion_matrix(np.uint8(p > 0.5), truth).counts
    assert counts.tolist() == metrics["confusion"]


def test_the_page_asks_for_no_more_images_than_it_holds(mixed, tmp_path, monkeypatch):
    data, _, _, history, metrics, p = mixed
    asked = []
    monkeypatch.setattr("tinyseg.app.report.MOST_IMAGES", 2)
    monkeypatch.setattr("tinyseg.app.report.resized_to", lambda image, shape: asked.append(1) or image)
    write_report(Log(tmp_path), p, data, metrics, history, title="t", command="x", found="y")
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(asked) == 2 and "4 of 6 images are left out" in content


def test_a_fingerprint_tells_images_of_different_sizes_apart():
    one, other = dataset(OWN), dataset(OWN, seed=3)
    changed = [image.copy() for image in one.images]
    changed[3][0, 0, 0] += 1
    another = Dataset(changed, list(one.labels), names=one.names, class_names=one.class_names)
    assert digest(Data(one, other)) == digest(Data(dataset(OWN), other)) != digest(Data(another, other))


# Nothing there


def test_where_nothing_is_held_out_no_dice_is_claimed(tmp_path, capsys):
    data = Data(dataset(OWN), dataset(OWN, seed=1, there=False), dataset(OWN, seed=2))
    run, _, _, metrics, _ = carried_out(tmp_path, data)
    none = ("dice", "iou", "best_threshold_dice", "baseline_dice", "black_masks")
    assert [metrics[key] for key in none] == [None] * 5
    assert json.loads((run.home / "metrics.json").read_text()) == metrics
    said = capsys.readouterr().out
    found = sum(row["false"] for row in rows_of(run.home / "per_image.csv"))
    pixels = f"{found} pixel{'s' if found != 1 else ''} falsely found"
    assert f"held out: nothing is there to be found: no Dice; {pixels}" in said
    assert (
        "the best on the validation images: " in said and "Dice 1.000" not in said.partition("judged is")[2]
    )
    assert "A run: Dice –" in (run.home / "report.html").read_text(encoding="utf-8")
    assert any("no held-out subject has anything to find" in one for one in metrics["warnings"])


def test_where_validation_has_nothing_the_last_epoch_and_the_training_images_threshold_count(
    tmp_path, capsys
):
    data = Data(dataset(OWN), dataset(OWN, seed=1), dataset(OWN, seed=2, there=False))
    run, kept, _, metrics, _ = carried_out(tmp_path, data, epochs=3)
    assert metrics["best_epoch"] == 3
    with open(run.home / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{row[key] for row in rows} for key in ("val_dice", "val_iou", "val_best_dice")] == [{"nan"}] * 3
    scores = [predict(NET, kept.params, kept.state, one[None]).ravel() for one in data.train.images]
    assert (
        metrics["best_threshold"] == best_threshold(np.concatenate(scores), all_pixels(data.train.labels))[0]
    )
    said = capsys.readouterr().out
    assert said.count("nothing is there to be found: no Dice") == 3 and "the best on the val" not in said
    assert any("the last epoch counts" in one for one in metrics["warnings"])


def test_a_drawn_prediction_is_what_was_found_at_the_file_s_own_size(tmp_path):
    """A file smaller than the network sees it: the picture shows its few pixels as blocks."""
    data = dataset([(12, 12)] * 2)
    p = np.random.default_rng(0).random((2, 1, 24, 24), np.float32)
    metrics, history = {"best_threshold": 0.45}, [Epoch(1, 1, 0.5, 0.5, 0.5, 0.5, 0.5)]
    draw(Log(tmp_path), p, Data(data, data), metrics, history, [(0, np.zeros((24, 24), np.uint8))], 0)
    picture = imageio.imread(tmp_path / "probability.png")
    cell = picture[-2 * 196 : -2 * 196 + 192, -196:-4, 0] > 128  # of the first image
    own = p[0, 0].reshape(12, 2, 12, 2).mean(axis=(1, 3))  # (24, 24) -> (12, 12)
    found = most_probable(own[None], 0.45)
    assert 0.2 < found.mean() < 0.9
    np.testing.assert_array_equal(cell, found.repeat(16, axis=0).repeat(16, axis=1))


def test_a_model_of_such_a_run_can_be_loaded(mixed):
    assert load(mixed[1].home / "model.npz")[3].size == SIZE


def test_label_maps_of_different_sizes_go_all_the_way(tmp_path):
    net = lungnet(classes=3, dilations=(1, 2), maps=1, widths=(2, 2))
    parts = []
    for seed in range(3):
        two = dataset(OWN, seed)
        of_three, own = ([np.where(one == 1, 2, 1) for one in maps] for maps in (two.labels, two.own_labels))
        for label_map in of_three + own:
            label_map[:2], label_map[-3:] = 0, 255
        parts.append(Dataset(list(two.images), of_three, names=two.names, class_names=("a", "b", "c"),
                             own_labels=of_any_size([one.astype(np.uint8) for one in own])))  # fmt: skip
    run, _, history, metrics, p = carried_out(tmp_path, Data(*parts), net=net, loss=semi_supervised)
    assert files(run.home) >= NUMBERS | ALWAYS
    known = sum(height * width - 3 * width for height, width in OWN)
    assert np.sum(metrics["confusion"]) == known and [one.shape[0] for one in p] == [3] * 6
