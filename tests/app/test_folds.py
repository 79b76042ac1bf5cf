"""Cross-validation: each image is judged once, by a network that never saw its subject; killed runs go on."""

import json
import shutil

import imageio.v3 as imageio
import numpy as np
import pytest
import train_modified
from app.runs import PICTURES, SMALL, files, refused

from tinyseg import load, predict
from tinyseg.app.figures import rows_of
from tinyseg.app.flags import flags, saved
from tinyseg.app.run import Log, Run
from tinyseg.app.train import experiment
from tinyseg.data import phantom
from tinyseg.metrics import confusion_matrix
from tinyseg.training import most_probable

FOLDS = [*SMALL, "--images", "30", "--folds", "3"]


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    return folder, train_modified.main([*FOLDS, "--out", str(folder)])


def test_each_image_is_judged_once_by_the_network_of_its_fold(folds):
    folder, metrics = folds
    data, rows = phantom(30, 16), rows_of(folder / "per_image.csv")
    assert sorted(row["name"] for row in rows) == sorted(data.names)
    counts = []
    for i, part in enumerate(data.folds(3, np.random.default_rng(0)), 1):
        home = folder / f"fold-{i}-of-3"
        assert [row["name"] for row in rows_of(home / "per_image.csv")] == list(part.names)
        net, params, state, _ = load(home / "model.npz")
        found = most_probable(predict(net, params, state, part.images))
        counts.append(confusion_matrix(found, part.labels))
    assert metrics["folds"]["dice"]["of_each"] == pytest.approx([one.dice for one in counts])
    assert metrics["folds"]["dice"]["mean"] == pytest.approx(np.mean([one.dice for one in counts]))
    assert json.loads((folder / "metrics.json").read_text()) == metrics


def test_a_fold_is_a_run_as_any_other(folds):
    folder, _ = folds
    assert files(folder / "fold-1-of-3") >= PICTURES
    assert files(folder) >= {"folds.csv", "log.txt", "metrics.json", "per_image.csv"}
    assert "30 images, each held out once: Dice" in (folder / "log.txt").read_text()


def test_what_was_found_is_said_before_the_folds_and_its_warnings_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    for name in (f"P{i}_{side}_{k}" for i in range(4) for side in "LR" for k in range(2)):
        imageio.imwrite(tmp_path / f"{name}.png", rng.integers(0, 256, (16, 16), np.uint8))
        imageio.imwrite(tmp_path / f"{name}_mask.png", np.pad(np.full((6, 6), 255, np.uint8), 5))
    flags = ["--data", tmp_path, "--size", 16, "--epochs", 1, "--maps", 1, "--dilations", "1,2", "--folds", 3]
    metrics = train_modified.main([*map(str, flags), "--out", str(tmp_path / "out")])
    doubt = next(text for text in metrics["warnings"] if "some subjects may be one patient" in text)
    log = (tmp_path / "out/log.txt").read_text()
    assert log.index("subjects      8, of 2 images each") < log.index(doubt) < log.index("1 of 3 done")


def test_a_rerun_does_nothing_twice(folds):
    folder, metrics = folds
    before = (folder / "fold-2-of-3/model.npz").stat().st_mtime_ns
    assert train_modified.main([*FOLDS, "--out", str(folder)]) == metrics
    assert (folder / "fold-2-of-3/model.npz").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("args", "words"),
    [(["--folds", "2"], "at least 3"), (["--folds", "11"], "11"), (["--folds", "x"], "--folds")],
)
def test_what_is_refused(args, words, tmp_path, capsys):
    assert words in refused(train_modified.main, capsys, [*SMALL, *args, "--out", tmp_path / "run"])
    assert files(tmp_path) == set()


def test_a_run_that_a_lost_worker_left_goes_on(tmp_path, monkeypatch):
    args = flags("", "modified", "runs").parse_args(SMALL)
    settings = saved(args) | {"out": str(tmp_path), "residual": False}
    whole = experiment("whole", settings)
    said = []

    def kill(self, message):
        said.append(message)
        if message.startswith("epoch   2/2") and len(said) < 20:
            raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "say", kill)
        patch.setattr(Run, "__exit__", lambda self, *error: self.leaving.close())
        with pytest.raises(SystemError):
            experiment("lost, 1", settings)
    steps = []
    monkeypatch.setattr("tinyseg.app.train.random_symmetry", lambda *batch: steps.append(1) or batch[:2])
    experiment("lost, 1", settings | {"seed": 1})  # one of other flags begins anew
    assert len(steps) == 6
    monkeypatch.undo()
    again = experiment("lost, 1", settings)
    assert again | {"seconds": 0} == whole | {"seconds": 0}
    assert not load(tmp_path / "lost-1/model.npz")[0].residual


def test_a_fold_whose_folder_is_gone_or_another_run_s_is_trained_again(folds, capsys):
    folder, metrics = folds
    shutil.rmtree(folder / "fold-3-of-3")
    train_modified.main([*SMALL, "--out", str(folder / "fold-1-of-3")])
    assert train_modified.main([*FOLDS, "--out", str(folder)]) == metrics
    assert "1 of 3 runs are in" in capsys.readouterr().out


def test_a_stop_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stopped(*args, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyseg.app.experiments.executor", stopped)
    with pytest.raises(SystemExit) as caught:
        train_modified.main([*FOLDS, "--out", str(tmp_path)])
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on with what is missing\n"
