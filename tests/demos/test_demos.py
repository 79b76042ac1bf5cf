"""The demos run small, as a newcomer runs them: what they write, what they say, how they refuse."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import compare
import imageio.v3 as imageio
import numpy as np
import pytest
import train_modified
import train_original
from app.runs import KEYS, NUMBERS, OF_TWO, PICTURES, SMALL, files, refused
from autograd.extend import defvjp, primitive

from tinyseg import load, modified, predict
from tinyseg.data import phantom
from tinyseg.metrics import best_threshold

both = pytest.mark.parametrize("demo", [train_modified, train_original], ids=lambda demo: demo.__name__)


@pytest.fixture
def kaggle(tmp_path):
    """Six images of three subjects in Kaggle's layout."""
    folder = tmp_path / "kaggle"
    folder.mkdir()
    data = phantom(6, 20)
    for i, (image, mask) in enumerate(zip(data.images[:, 0], data.labels)):
        imageio.imwrite(folder / f"{i // 2 + 1}_{i}.tif", (255 * image).astype(np.uint8), plugin="pillow")
        imageio.imwrite(folder / f"{i // 2 + 1}_{i}_mask.tif", (255 * mask).astype(np.uint8), plugin="pillow")
    return folder


@both
def test_a_run_writes_all_that_it_promises(demo, tmp_path, capsys):
    metrics = demo.main([*SMALL, "--out", str(tmp_path / "run"), "--seed", "4"])
    assert PICTURES | NUMBERS <= files(tmp_path / "run") <= PICTURES | NUMBERS | {"curves.png"}
    assert json.loads((tmp_path / "run/metrics.json").read_text()) == metrics
    assert metrics.keys() == KEYS | OF_TWO
    assert metrics["steps"] == 6 and metrics["seed"] == 4 and metrics["best_epoch"] in (1, 2)
    assert metrics["classes"] == ["background", "structure"] and metrics["dice"] == metrics["dice_of_each"][1]
    assert 0 <= metrics["max_probability"] <= 1
    with open(tmp_path / "run/history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6")]
    assert capsys.readouterr().out == (tmp_path / "run/log.txt").read_text()
    for name in PICTURES:
        assert imageio.imread(tmp_path / "run" / name, index=0).std() > 10
    assert imageio.improps(tmp_path / "run/steps.gif", index=...).n_images == 5
    assert imageio.improps(tmp_path / "run/epochs.gif", index=...).n_images >= 2
    net, params, state, _ = load(tmp_path / "run/model.npz")
    p = predict(net, params, state, phantom(10, 16, 4).images)
    assert p.shape == (10, 1, 16, 16) and p.max() >= metrics["max_probability"] - 1e-6


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        train_modified.main([*SMALL, "--out", str(tmp_path / name)])
    for name in (PICTURES | NUMBERS) - {"log.txt"}:  # which tells the time
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("flag", [["--engine", "definitions"], ["--engine", "scipy"], ["--conv", "scipy"]])
def test_every_engine_comes_to_the_same(flag, tmp_path):
    rows = []
    for name, extra in {"fast": [], "other": flag}.items():
        train_modified.main([*SMALL, *extra, "--out", str(tmp_path / name)])
        with open(tmp_path / name / "history.csv") as file:
            rows.append(np.array([[float(x) for x in row.values()] for row in csv.DictReader(file)]))
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-4)
    nets = [load(tmp_path / name / "model.npz") for name in ("fast", "other")]
    assert nets[0][0] == nets[1][0]  # an engine is no part of a network
    for name, array in nets[0][1].items():
        np.testing.assert_allclose(array, nets[1][1][name], atol=1e-4, err_msg=name)


def test_a_relu_that_is_broken_on_purpose(tmp_path, monkeypatch):
    """By the definitions, what `relu` does is what trains; the fast twin is another function."""

    @primitive
    def broken(x):
        return np.maximum(x, 0)

    defvjp(broken, lambda ans, x: lambda g: 0 * g)  # right values, and a derivative that is 0
    monkeypatch.setattr("tinyseg.layers.relu", broken)
    start = modified(maps=1, dilations=(1, 2)).init(np.random.default_rng(0))[0]["block1.conv.weight"]
    for engine, moves in {"fast": True, "definitions": False}.items():
        train_modified.main([*SMALL, "--engine", engine, "--out", str(tmp_path)])
        end = load(tmp_path / "model.npz")[1]["block1.conv.weight"]
        assert (not np.array_equal(start, end)) == moves


def test_a_black_mask_is_said_and_looked_behind(tmp_path, capsys):
    metrics = train_original.main([*SMALL, "--epochs", "1", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert metrics["dice"] == 0 and metrics["max_probability"] <= 0.5
    assert (
        f"Every predicted mask is black: the highest probability anywhere is {metrics['max_probability']:.3f}"
        in said
    )
    assert f"Dice {metrics['best_threshold_dice']:.3f}" in said
    stretched = imageio.imread(tmp_path / "probability.png")
    assert stretched.max() == 255


def test_real_images(kaggle, tmp_path, capsys):
    metrics = train_modified.main(
        [*SMALL, "--data", str(kaggle), "--out", str(tmp_path / "run"), "--batch", "3"]
    )
    assert metrics["steps"] == 2  # one of three subjects, two images at once
    screen = capsys.readouterr().out.partition("DilatedFCN")[0].splitlines()
    assert screen[0].endswith("kaggle: 6 images, ..._mask beside each")
    assert screen[1:4] == [
        "files         6 of 20 x 20 pixels, 8-bit grey",
        "masks         255 is structure, 0 is background",
        "seen as       whole, resized to 16 pixels on the shorter side, grey; 8-bit levels divided by 255",
    ]
    subjects = next(line for line in screen if line.startswith("subjects"))
    assert subjects.startswith("subjects      3, of 2 images each; what stands before the last underscore")
    classes = next(line for line in screen if line.startswith("classes"))
    assert classes.startswith("classes       background 9") and "nothing is to be found" in classes
    sides = {
        line[:14].strip(): line[14:] for line in screen if " subject" in line[14:] and line[0] not in "s "
    }
    assert sides.keys() == {"to train on", "validation", "held out"}
    assert sides["to train on"].startswith("2 images of 1 subject, ")
    assert sides["held out"].startswith("2 images of 1 subject, ")
    on_both_sides = [side.partition(": ")[2].split(", ") for side in sides.values()]
    assert sorted(sum(on_both_sides, [])) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "flag",
    [
        ["--optimizer", "descent"],
        ["--schedule", "constant"],
        ["--schedule", "cosine"],
        ["--rate", "0.002"],
        ["--batch", "3"],
        ["--seed", "1"],
    ],
)
def test_other_ways_to_train_come_to_something_else(flag, tmp_path):
    weights = []
    for extra in ([], flag):
        train_modified.main([*SMALL, *extra, "--out", str(tmp_path)])
        weights.append(load(tmp_path / "model.npz")[1]["block1.conv.weight"])
    assert not np.array_equal(*weights)


def test_training_images_are_turned_and_flipped(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "tinyseg.app.train.random_symmetry", lambda images, masks, rng: seen.append(1) or (images, masks)
    )
    train_modified.main([*SMALL, "--out", str(tmp_path)])
    assert len(seen) == 6


def test_best_threshold_is_the_validation_images(tmp_path):
    metrics = train_modified.main([*SMALL, "--images", "20", "--out", str(tmp_path)])
    rest, held_out = phantom(20, 16).split(0.2, np.random.default_rng(0))
    validation = rest.split(0.25, np.random.default_rng(0))[1]
    net, params, state, _ = load(tmp_path / "model.npz")
    scores = predict(net, params, state, validation.images)[:, 0]
    assert metrics["best_threshold"] == best_threshold(scores, validation.labels)[0]
    assert metrics["max_probability"] == predict(net, params, state, held_out.images).max()


def test_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    train_modified.main([*SMALL, "--out", str(tmp_path)])
    assert files(tmp_path) == PICTURES | NUMBERS
    assert "no curves.png, because matplotlib is not installed" in capsys.readouterr().out


def test_compare_tabulates_every_network(tmp_path, capsys):
    pytest.importorskip("matplotlib")  # draws dice.png
    table = compare.main(
        [*SMALL, "--epochs", "1", "--seeds", "1", "--seed", "1", "--out", str(tmp_path), "--apart"]
    )
    assert len(table) == 17 and all(len(runs) == 1 for runs in table.values())
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert len(text.splitlines()) == 2 + 17 + 1
    nets = {folder.name: load(folder / "model.npz")[0] for folder in tmp_path.glob("*-seed-1")}
    assert len(nets) == 17 and len(set(nets.values())) == 17 - 4  # rates are no part of a network
    assert nets["original-seed-1"].dilations == nets["modified-seed-1"].dilations == (1, 2)
    assert nets["modified-every-dilation-1-seed-1"].dilations == (1, 1)
    assert nets["original-He-s-initial-weights-seed-1"].weight_std is None
    for name in ("compare.png", "dice.png"):
        assert imageio.imread(tmp_path / name).std() > 10
    logs = (tmp_path / "logs.txt").read_text()
    assert logs.startswith("Python 3.") and logs.count("\nepoch   1/1") == 17
    assert logs.count("==== modified, rate 0.01, seed 1") == 1
    assert "modified, rate 0.01" in (tmp_path / "report.html").read_text()


def refuse(capsys, *args):
    return refused(train_modified.main, capsys, [*SMALL, *args])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--size", "-1"], "--size: expected a whole number of at least 0, got"),
        (["--size", "8"], "size must be a whole number, at least 16, got 8"),
        (["--size", "big"], "got 'big'"),
        (["--epochs", "-1"], "--epochs"),
        (["--epochs", "1.5"], "--epochs"),
        (["--batch", "0"], "--batch"),
        (["--images", "2"], "--images"),
        (["--seed", "-3"], "--seed"),
        (["--rate", "0"], "--rate: expected a number above 0"),
        (["--rate", "nan"], "--rate"),
        (["--rate", "inf"], "--rate"),
        (["--maps", "0"], "--maps"),
        (["--dilations", "1,0"], "--dilations"),
        (["--dilations", ""], "--dilations"),
        (["--conv", "fft"], "--conv"),
        (["--engine", "gemm"], "--engine"),
        (["--schedule", "settling"], "--schedule"),
        (["--colour"], "--colour"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", ""], "--data: expected a folder"),
        (["--size", "10000000"], "not enough memory"),
    ],
)
def test_nonsense_flags(args, words, tmp_path, capsys):
    assert words in refuse(capsys, "--out", tmp_path / "run", *args)
    assert files(tmp_path) == set()


def test_bad_folders(kaggle, tmp_path, capsys):
    out = ["--out", tmp_path / "run"]
    (tmp_path / "empty").mkdir()
    assert "empty: expected" in refuse(capsys, *out, "--data", tmp_path / "empty")
    whole = (kaggle / "1_0.tif").read_bytes()
    (kaggle / "1_0.tif").write_bytes(whole[: len(whole) // 2])
    assert "1_0.tif: expected an image" in refuse(capsys, *out, "--data", kaggle)
    (kaggle / "1_0.tif").write_bytes(whole)
    (kaggle / "2_3_mask.tif").unlink()
    assert "got none for 1 of 6: 2_3.tif" in refuse(capsys, *out, "--data", kaggle)
    imageio.imwrite(kaggle / "2_3_mask.tif", np.zeros((7, 9), np.uint8), plugin="pillow")
    assert "2_3_mask.tif: expected the size" in refuse(capsys, *out, "--data", kaggle)
    (kaggle / "2_3_mask.tif").rename(kaggle / "2_3_mask.doc")
    assert "got none for 1 of 6: 2_3.tif" in refuse(capsys, *out, "--data", kaggle)
    assert not (tmp_path / "run").exists()


def test_masks_in_which_there_is_nothing(kaggle, tmp_path, capsys):
    for path in kaggle.glob("*_mask.tif"):
        imageio.imwrite(path, np.zeros((20, 20), np.uint8), plugin="pillow")
    said = refuse(capsys, "--out", tmp_path / "run", "--data", kaggle)
    assert "something to find, got 6 masks that are all black" in said


def test_a_run_that_diverges_at_once_takes_nothing_away(tmp_path, capsys):
    train_modified.main([*SMALL, "--out", str(tmp_path)])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        train_modified.main([*SMALL, "--optimizer", "descent", "--rate", "1e30", "--out", str(tmp_path)])
    assert files(tmp_path) >= PICTURES | NUMBERS | {"notes.txt", "unfinished"}
    assert files(tmp_path / "unfinished") == {"log.txt", "run.json"}


def test_one_subject_cannot_be_split(kaggle, tmp_path, capsys):
    for path in kaggle.glob("[23]_*"):
        path.unlink()
    assert "at least 2 subjects" in refuse(capsys, "--out", tmp_path / "run", "--data", kaggle)


def test_a_place_that_cannot_be_written_to(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert "file" in refuse(capsys, "--out", tmp_path / "file" / "run")
    assert "file" in refuse(capsys, "--out", tmp_path / "file")
    assert files(tmp_path) == {"file"} and (tmp_path / "file").read_text() == "mine"


def test_divergence_is_one_line_and_status_1(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        train_modified.main(
            [*SMALL, "--optimizer", "descent", "--rate", "1e30", "--out", str(tmp_path / "run")]
        )
    assert caught.value.code == 1
    assert "Try a tenth of that rate" in capsys.readouterr().err
    assert files(tmp_path / "run") == {"unfinished"}
    assert "Try a tenth of that rate" in (tmp_path / "run/unfinished/log.txt").read_text()


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a process")
def test_ctrl_c_keeps_what_was_trained(tmp_path):
    script = Path(train_modified.__file__)
    command = [sys.executable, "-u", script, *SMALL, "--epochs", "100000", "--out", tmp_path / "run"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a background job ignores
    ) as demo:
        while not demo.stdout.readline().startswith("epoch   3"):
            assert demo.poll() is None, demo.stderr.read()
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=60)
    assert demo.returncode == 0 and err == ""
    stopped = out.partition("stopped by Ctrl-C after ")[2].split()
    with open(tmp_path / "run/history.csv") as file:
        *_, row = csv.DictReader(file)
    assert stopped[:4] == [row["epoch"], "of", "100000", "epochs;"] and int(row["epoch"]) >= 3
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["best_epoch"] <= int(row["epoch"]) and metrics["steps"] == int(row["step"])
    assert files(tmp_path / "run") >= PICTURES | NUMBERS
    assert load(tmp_path / "run/model.npz")


def test_a_reader_that_leaves_ends_no_training(tmp_path):
    command = [sys.executable, "-u", train_modified.__file__, *SMALL, "--out", tmp_path / "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        demo.stdout.readline()
        demo.stdout.close()
        assert demo.stderr.read() == ""
    assert demo.returncode == 0 and files(tmp_path / "run") >= PICTURES | NUMBERS


@pytest.mark.slow
def test_fibonacci_dilations_find_the_nerve_and_ones_do_not(tmp_path):
    """What the phantom is for: its nerve cannot be told from its look-alikes without seeing far."""
    start = time.perf_counter()
    far = train_modified.main(["--out", str(tmp_path / "far")])
    assert time.perf_counter() - start < 300  # generous: half a minute on an idle machine
    near = train_modified.main(["--dilations", ",".join("1" * 10), "--out", str(tmp_path / "near")])
    assert far["dice"] > 0.75 and near["dice"] < 0.55  # the validation images choose a lucky epoch
    assert far["baseline_dice"] < 0.3


def test_a_comparison_leaves_out_no_run_that_has_no_dice():
    none = {"dice": None, "best_threshold_dice": None, "black_masks": None, "baseline_dice": None}
    text = compare.markdown({"original": [none | {"max_probability": 0.25}] * 2})
    assert "| original | nan nan | nan ± nan | nan nan | nan ± nan | nan% | 0.25 0.25 |" in text
