"""The demo of many classes, run small: what it writes and says, its flags, and label maps of one's own."""

import json
import time

import imageio.v3 as imageio
import numpy as np
import pytest
import train_lungnet
from app.runs import ALWAYS, KEYS, NUMBERS, OF_TWO, OF_WHOLE, PICTURES, files, refused

from tinyseg import load, predict
from tinyseg.app.baseline import brightness_and_blur
from tinyseg.app.data import load_data
from tinyseg.app.flags import flags
from tinyseg.data import annotate, lung_ct
from tinyseg.data.lung import CLASSES
from tinyseg.metrics import confusion_matrix

SMALL = ["--images", "10", "--size", "32", "--epochs", "2", "--maps", "2", "--dilations", "1,2"]


@pytest.fixture
def labelled(tmp_path):
    """Ten slices of five subjects as files, with label maps of other values than class numbers."""
    data = annotate(lung_ct(10, 40))
    values = np.full(256, 255, np.uint8)
    values[:6] = [0, 10, 20, 30, 40, 50]
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for i, (image, mask) in enumerate(zip(data.images[:, 0], data.labels)):
        imageio.imwrite(tmp_path / f"data/images/s{i // 2}_{i}.png", (255 * image).astype(np.uint8))
        imageio.imwrite(tmp_path / f"data/masks/s{i // 2}_{i}.png", values[mask])
    return tmp_path / "data"


def test_a_run_writes_all_that_it_promises(tmp_path, capsys):
    metrics = train_lungnet.main([*SMALL, "--out", str(tmp_path / "run"), "--seed", "3"])
    assert ALWAYS | NUMBERS <= files(tmp_path / "run") <= ALWAYS | NUMBERS | {"curves.png"}
    written = json.loads((tmp_path / "run/metrics.json").read_text())
    assert written == metrics
    assert written.keys() == KEYS | OF_WHOLE and written["classes"] == list(CLASSES)
    said = capsys.readouterr().out
    assert said == (tmp_path / "run/log.txt").read_text()
    assert said.index("annotated pixels, which are") < said.index("epoch   1/2")
    for name in ALWAYS:
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
        and how.masks.names == CLASSES
        and (net.norm, net.maps, net.widths) == ("instance", 2, (8, 2))
    )
    found = predict(net, params, state, held_out.images).argmax(axis=1)
    counts = confusion_matrix(found, held_out.labels, 6)
    assert metrics["confusion"] == counts.counts.tolist() and metrics["dice"] == counts.dice
    assert metrics["accuracy"] == counts.accuracy and metrics["iou"] == counts.iou
    whole = confusion_matrix(found, truth.split(0.2, np.random.default_rng(0))[1].labels, 6)
    assert metrics["whole_dice"] == whole.dice
    by_baseline = confusion_matrix(brightness_and_blur(train, held_out), held_out.labels, 6)
    assert metrics["baseline_dice"] == by_baseline.dice


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
    assert f"network of epoch {metrics['best_epoch']}, the best" in capsys.readouterr().out


def test_label_maps_of_ones_own(labelled, tmp_path, capsys):
    metrics = train_lungnet.main([*SMALL, "--data", str(labelled), "--out", str(tmp_path / "run")])
    assert "whole_dice" not in metrics and len(metrics["confusion"]) == 6
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
    assert how.masks.values == (0, 10, 20, 30, 40, 50) and how.size == 32


def test_label_maps_of_two_classes(labelled, tmp_path, capsys):
    """Two values and 255: a mask of which only a part is annotated."""
    for file in (labelled / "masks").iterdir():
        pixels = imageio.imread(file)
        imageio.imwrite(file, np.where(pixels == 255, 255, np.where(pixels > 10, 9, 4)).astype(np.uint8))
    metrics = train_lungnet.main([*SMALL, "--data", str(labelled), "--out", str(tmp_path / "run")])
    assert metrics.keys() == KEYS | OF_TWO and metrics["classes"] == ["value 4", "value 9"]
    assert metrics["dice"] == metrics["dice_of_each"][1] and np.shape(metrics["confusion"]) == (2, 2)
    assert files(tmp_path / "run") >= PICTURES | NUMBERS
    assert "annotated pixels, which are" in capsys.readouterr().out


def test_the_best_epoch_is_kept_after_ctrl_c(tmp_path, monkeypatch, capsys):
    """Kept is the best epoch on validation images so far, not the last one."""
    from tinyseg.app import train

    dice = iter([0.5, 0.9, 0.7])

    def evaluate(*args, **how):
        value = next(dice, None)
        if value is None:
            raise KeyboardInterrupt
        counts = confusion_matrix(np.uint8([0]), np.uint8([0]), 6)
        return 1.0, type("Counts", (type(counts),), {"dice": value})(counts.counts), np.zeros((1, 6, 1, 1))

    monkeypatch.setattr(train, "evaluate", evaluate)
    metrics = train_lungnet.main([*SMALL, "--epochs", "9", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert metrics["best_epoch"] == 2 and metrics["steps"] == 3 * 6
    assert "stopped by Ctrl-C after 3 of 9 epochs" in said
    assert "judged is the network of epoch 2, the best on the validation images" in said


def test_colour(labelled, tmp_path):
    for file in (labelled / "images").iterdir():
        imageio.imwrite(file, np.dstack([imageio.imread(file)] * 2 + [np.zeros((40, 40), np.uint8)]))
    args = [*SMALL, "--data", str(labelled), "--out", str(tmp_path / "run"), "--channels", "3"]
    train_lungnet.main(args)
    net, *_, how = load(tmp_path / "run/model.npz")
    assert net.channels == how.channels == 3


def refuse(capsys, *args):
    return refused(train_lungnet.main, capsys, [*SMALL, *args])


def test_what_is_refused(labelled, tmp_path, capsys):
    out = ["--out", tmp_path / "run"]
    assert "--entropy-weight: expected a number of at least 0" in refuse(
        capsys, *out, "--entropy-weight", "-1"
    )
    assert "--channels 3: expected images from --data" in refuse(capsys, *out, "--channels", "3")
    assert "--maps: expected a whole number" in refuse(capsys, *out, "--maps", "1" + "0" * 30)
    assert "size must be a whole number, at least 32" in refuse(capsys, *out, "--size", "31")
    for file in labelled.glob("*/s[2-4]_*"):
        file.unlink()
    assert "expected at least 3 subjects" in refuse(capsys, *out, "--data", labelled)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_before_the_first_epoch_ends_keeps_nothing(tmp_path, monkeypatch, capsys):
    def press(images, masks, rng):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyseg.app.train.random_symmetry", press)
    with pytest.raises(SystemExit) as caught:
        train_lungnet.main([*SMALL, "--out", str(tmp_path)])
    assert caught.value.code == 130 and capsys.readouterr().err == "interrupted\n"
    assert files(tmp_path) == set()


def test_data_are_the_same_with_the_same_seed():
    args = flags("", "lungnet", "runs").parse_args(["--images", "10", "--size", "32", "--seed", "5"])
    one, two = load_data(args), load_data(args)
    assert one.held_out.names == two.held_out.names == one.truth.names
    np.testing.assert_array_equal(one.held_out.labels, two.held_out.labels)
    known = one.held_out.labels != 255
    np.testing.assert_array_equal(one.held_out.labels[known], one.truth.labels[known])


@pytest.mark.slow
def test_texture_is_learnt_that_no_pixel_tells(tmp_path):
    start = time.perf_counter()
    metrics = train_lungnet.main(["--out", str(tmp_path)])
    assert time.perf_counter() - start < 600  # generous: a minute and a half on an idle machine
    assert metrics["dice"] > 0.75 and metrics["dice"] > metrics["baseline_dice"] + 0.15
    assert metrics["whole_dice"] > max(0.75, metrics["whole_baseline_dice"] + 0.15)
