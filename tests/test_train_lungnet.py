"""The demo of many classes, run small: what it writes and says, its flags, and label maps of one's own."""

import json
import time

import imageio.v3 as imageio
import numpy as np
import pytest
import train_lungnet
from baseline import brightness_and_blur
from judging import table
from steps import load_label_maps
from test_demos import files

from tinyseg import load, predict
from tinyseg.data import annotate, lung_ct
from tinyseg.data.lung import CLASSES
from tinyseg.metrics import confusion_matrix

SMALL = ["--images", "10", "--size", "32", "--epochs", "2", "--maps", "2", "--dilations", "1,2"]
WRITTEN = {"log.txt", "history.csv", "metrics.json", "model.npz", "label_maps.png", "data.png", "epochs.gif"}
KEYS = {
    "mean_dice", "mean_iou", "accuracy", "baseline_mean_dice", "classes", "dice", "iou", "confusion", "steps",
    "whole_mean_dice", "whole_dice", "whole_baseline_mean_dice", "best_epoch", "seconds", "seed",
}  # fmt: skip


@pytest.fixture
def labelled(tmp_path):
    """Ten slices of five subjects as files, with label maps of other values than class numbers."""
    data = annotate(lung_ct(10, 40))
    values = np.full(256, 255, np.uint8)
    values[:6] = [0, 10, 20, 30, 40, 50]
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for i, (image, mask) in enumerate(zip(data.images[:, 0], data.masks[:, 0])):
        imageio.imwrite(tmp_path / f"data/images/s{i // 2}_{i}.png", (255 * image).astype(np.uint8))
        imageio.imwrite(tmp_path / f"data/masks/s{i // 2}_{i}.png", values[mask])
    return tmp_path / "data"


def test_a_run_writes_all_that_it_promises(tmp_path, capsys):
    metrics = train_lungnet.main([*SMALL, "--out", str(tmp_path / "run"), "--seed", "3"])
    assert WRITTEN <= files(tmp_path / "run") <= WRITTEN | {"curves.png"}
    written = json.loads((tmp_path / "run/metrics.json").read_text())
    assert written.keys() == KEYS and written["classes"] == list(CLASSES)
    for key in ("mean_dice", "accuracy", "whole_mean_dice", "confusion", "seconds"):
        assert written[key] == metrics[key]
    said = capsys.readouterr().out
    assert said == (tmp_path / "run/log.txt").read_text()
    assert said.index("annotated pixels, which are") < said.index("epoch   1/2")
    for name in ("label_maps.png", "data.png", "epochs.gif"):
        assert imageio.imread(tmp_path / "run" / name, index=0).std() > 10


def test_metrics_are_of_held_out_slices_that_no_training_saw(tmp_path):
    metrics = train_lungnet.main([*SMALL, "--out", str(tmp_path)])
    truth = lung_ct(10, 32)
    data = annotate(truth)
    rest, held_out = data.split(0.2, np.random.default_rng(0))
    train, validation = rest.split(0.25, np.random.default_rng(0))
    assert [len(part) for part in (train, validation, held_out)] == [6, 2, 2]
    net, params, state, how = load(tmp_path / "model.npz")
    assert (
        how.size == 32
        and how.names == CLASSES
        and (net.norm, net.maps, net.widths) == ("instance", 2, (8, 2))
    )
    found = predict(net, params, state, held_out.images).argmax(axis=1)[:, None]
    counts = confusion_matrix(found, held_out.masks, 6)
    assert metrics["confusion"] == counts.counts.tolist() and metrics["mean_dice"] == counts.dice
    assert metrics["accuracy"] == counts.accuracy and metrics["mean_iou"] == counts.iou
    whole = confusion_matrix(found, truth.split(0.2, np.random.default_rng(0))[1].masks, 6)
    assert metrics["whole_mean_dice"] == whole.dice
    by_baseline = confusion_matrix(brightness_and_blur(train, held_out), held_out.masks, 6)
    assert metrics["baseline_mean_dice"] == by_baseline.dice


def test_the_baseline_sees_brightness_and_its_surroundings():
    """By brightness alone, bright specks in the dark are what a bright area is; by both they are not."""
    data = annotate(lung_ct(30, 48))
    train, held_out = data.take(range(20)), data.take(range(20, 30))
    dice = confusion_matrix(brightness_and_blur(train, held_out), held_out.masks, 6).dice
    assert 0.4 < dice < 0.75
    shuffled = confusion_matrix(brightness_and_blur(train, held_out)[::-1], held_out.masks, 6).dice
    assert shuffled < dice - 0.2


@pytest.mark.parametrize(
    "flag", [["--norm", "batch"], ["--entropy-weight", "0"], ["--optimizer", "descent"], ["--batch", "2"]]
)
def test_flags_change_what_is_learnt(flag, tmp_path):
    weights = []
    for extra in ([], flag):
        train_lungnet.main([*SMALL, *extra, "--out", str(tmp_path)])
        net, params, *_ = load(tmp_path / "model.npz")
        weights.append(params["block1.conv.weight"])
    assert not np.array_equal(*weights)
    assert net.norm == ("batch" if "batch" in flag else "instance")


def test_patience_ends_a_run(tmp_path, capsys):
    metrics = train_lungnet.main([*SMALL, "--epochs", "60", "--patience", "2", "--out", str(tmp_path)])
    assert metrics["steps"] == 6 * (metrics["best_epoch"] + 2) < 6 * 60
    assert f"by the end of epoch {metrics['best_epoch']}, the best" in capsys.readouterr().out


def test_label_maps_of_ones_own(labelled, tmp_path, capsys):
    metrics = train_lungnet.main([*SMALL, "--data", str(labelled), "--out", str(tmp_path / "run")])
    assert "whole_mean_dice" not in metrics and len(metrics["confusion"]) == 6
    said = capsys.readouterr().out
    screen = said.partition("DilatedFCN")[0]
    assert "10 of 40 x 40 pixels, 8-bit grey" in screen
    assert "subjects      5, of 2 images each" in screen
    classes = " ".join(screen.split())  # the lines are wrapped
    assert "classes value 0 " in classes and ", value 50 " in classes and "of annotated pixels" in classes
    sides = [line for line in screen.splitlines() if " images of " in line]
    assert [side.split()[-1] for side in sides if ": " in side]
    named = [set(side.partition(": ")[2].split(", ")) for side in sides]
    assert len(named) == 3 and set.union(*named) == {"s0", "s1", "s2", "s3", "s4"}
    assert sum(map(len, named)) == 5  # nobody on two sides
    *_, how = load(tmp_path / "run/model.npz")
    assert how.values == (0, 10, 20, 30, 40, 50) and how.size == 32


def test_colour(labelled, tmp_path):
    for file in (labelled / "images").iterdir():
        imageio.imwrite(file, np.dstack([imageio.imread(file)] * 2 + [np.zeros((40, 40), np.uint8)]))
    args = [*SMALL, "--data", str(labelled), "--out", str(tmp_path / "run"), "--channels", "3"]
    train_lungnet.main(args)
    net, *_, how = load(tmp_path / "run/model.npz")
    assert net.channels == how.channels == 3


def refuse(capsys, *args):
    with pytest.raises(SystemExit) as caught:
        train_lungnet.main([*SMALL, *map(str, args)])
    said = capsys.readouterr()
    assert caught.value.code == 2 and said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


def test_what_is_refused(labelled, tmp_path, capsys):
    out = ["--out", tmp_path / "run"]
    assert "--entropy-weight: expected a number of at least 0" in refuse(
        capsys, *out, "--entropy-weight", "-1"
    )
    assert "--channels 3: expected colour images" in refuse(capsys, *out, "--channels", "3")
    assert "--maps: expected a whole number" in refuse(capsys, *out, "--maps", "1" + "0" * 30)
    assert "size must be a whole number, at least 32" in refuse(capsys, *out, "--size", "31")
    for file in (labelled / "masks").glob("s[1-4]_*"):
        pixels = imageio.imread(file)
        imageio.imwrite(file, np.full_like(pixels, 255))
    assert "expected annotated pixels to" in refuse(capsys, *out, "--data", labelled)
    for file in labelled.glob("*/s[2-4]_*"):
        file.unlink()
    assert "expected at least 3 subjects" in refuse(capsys, *out, "--data", labelled)
    assert not (tmp_path / "run").exists()


def test_subjects_so_uneven_that_none_is_left_to_choose_by(labelled, tmp_path, capsys):
    for kind in ("images", "masks"):
        for i, file in enumerate(sorted((labelled / kind).iterdir())):
            file.rename(file.with_name(f"{'abc'[min(i, 2)]}_{i}.png"))  # one image, one, and eight
    said = []
    for seed in range(4):
        try:
            train_lungnet.main(
                [
                    *SMALL,
                    "--data",
                    str(labelled),
                    "--seed",
                    str(seed),
                    "--epochs",
                    "1",
                    "--out",
                    str(tmp_path / "run"),
                ]
            )
        except SystemExit:
            said.append(capsys.readouterr().err)
    assert said and all("none is left to choose by; another --seed than" in line for line in said)


def test_a_class_that_is_neither_there_nor_found_has_no_score():
    counts = confusion_matrix(np.uint8([0, 0, 1, 1]), np.uint8([0, 1, 1, 1]), 3)
    rows = [line.split() for line in table(counts, counts, ("a", "b", "c")).splitlines()]
    assert rows[0] == ["a", "b", "c", "IoU", "Dice", "baseline's"]
    assert rows[2] == ["b", "1", "2", "0", "0.667", "0.800", "0.800"]
    assert rows[3] == ["c", "0", "0", "0", "-", "-", "-"]


def test_ctrl_c_before_the_first_epoch_ends(tmp_path, monkeypatch, capsys):
    def press(images, masks, rng):
        raise KeyboardInterrupt

    monkeypatch.setattr("steps.random_symmetry", press)
    metrics = train_lungnet.main([*SMALL, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert metrics["best_epoch"] == metrics["steps"] == 0
    assert "stopped by Ctrl-C after 0 of 12 steps" in said and "kept is what was learnt by" not in said
    assert files(tmp_path) >= WRITTEN


def test_data_are_the_same_with_the_same_seed():
    class Args:
        data, images, size, seed, channels = None, 10, 32, 5, 1

    one, two = load_label_maps(Args), load_label_maps(Args)
    assert one.held_out.names == two.held_out.names == one.truth.names
    np.testing.assert_array_equal(one.held_out.masks, two.held_out.masks)
    known = one.held_out.masks != 255
    np.testing.assert_array_equal(one.held_out.masks[known], one.truth.masks[known])


@pytest.mark.slow
def test_texture_is_learnt_that_no_pixel_tells(tmp_path):
    start = time.perf_counter()
    metrics = train_lungnet.main(["--out", str(tmp_path)])
    assert time.perf_counter() - start < 600  # generous: a minute and a half on an idle machine
    assert metrics["mean_dice"] > 0.75 and metrics["mean_dice"] > metrics["baseline_mean_dice"] + 0.15
    assert metrics["whole_mean_dice"] > max(0.75, metrics["whole_baseline_mean_dice"] + 0.15)
