"""A run loses nothing: not to a kill at any moment, a second run, a full disk or a screen that is gone."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import train_lungnet
import train_modified
from app.runs import NUMBERS, PICTURES, SMALL, files, refused

from tinyseg import load
from tinyseg.app.main import main
from tinyseg.app.progress import FRAMES
from tinyseg.app.run import Log, Run, guarded, one_line, say, shown
from tinyseg.errors import InputError
from tinyseg.io.checkpoint import read_checkpoint, write_checkpoint
from tinyseg.training import Diverged

LONG = [*SMALL, "--images", "20", "--epochs", "4"]
unix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


def contents(folder):
    """What a run left there, but the times, the lock of who was killed, and what is unfinished."""
    paths = [path for path in Path(folder).iterdir() if path.is_file() and path.name != "log.txt"]
    return {path.name: path.read_bytes() for path in paths if not path.name.startswith(".")}


def start(*args, **how):
    """A demo in a process of its own, as a user starts it."""
    command = [sys.executable, "-u", train_modified.__file__, *map(str, args)]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | how
    if os.name != "nt":  # who runs the tests may ignore signals, as nohup does
        how["preexec_fn"] = heed
    return subprocess.Popen(command, **how)


def end_of(process):
    """What it says until its end, which has to come."""
    try:
        return process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def heed():
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted run writes."""
    folder = tmp_path_factory.mktemp("whole")
    train_modified.main([*LONG, "--out", str(folder)])
    return contents(folder)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The folder of an earlier run, of another seed."""
    folder = tmp_path_factory.mktemp("earlier")
    train_modified.main([*LONG, "--seed", "9", "--out", str(folder)])
    return folder


def copied(folder, to):
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def quiet(argv):
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends
    train_modified.main(argv)


@unix
@pytest.mark.processes
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(whole, earlier, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # or the server finds none of what follows
    processes = get_context("forkserver")  # each process begins with all imports done
    processes.set_forkserver_preload(["app.test_run", "matplotlib.figure", "imageio.plugins.pillow"])

    def run(*args):
        process = processes.Process(target=quiet, args=([*map(str, args)],))
        process.start()
        return process

    def killed(home, seconds):
        """Kill a run after so many seconds, go on with it, and say whether it had begun."""
        copied(earlier, home)
        process = run(*LONG, "--out", home)
        process.join(seconds)
        process.kill()
        process.join()
        assert contents(home).items() >= contents(earlier).items() or contents(home) == whole, "one is whole"
        assert load(home / "model.npz")
        begun = (home / "unfinished/run.json").exists()
        run(*(["--resume", home] if begun else [*LONG, "--out", home])).join()
        assert contents(home) == whole
        return begun

    for _ in range(2):  # the first one waits for the imports
        began = time.perf_counter()
        run(*LONG, "--out", tmp_path / "timed").join()
        span = time.perf_counter() - began
    rng = random.Random(0)
    moments = [rng.uniform(0.05, 1) * span for _ in range(20)]
    with ThreadPoolExecutor(2) as pool:
        begun = list(pool.map(killed, (tmp_path / str(i) for i in range(20)), moments))
    assert sum(begun) > 5


@unix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_as_ctrl_c_does_and_resume_goes_on(name, whole, earlier, tmp_path):
    home = copied(earlier, tmp_path / "run")
    with start(*LONG, "--epochs", "100000", "--out", home) as demo:
        while not demo.stdout.readline().startswith("epoch   3"):
            assert demo.poll() is None, demo.stderr.read()
        demo.send_signal(getattr(signal, name))
        out, err = end_of(demo)
    assert demo.returncode == 0 and err == ""
    assert f"stopped by {name} after " in out and f"`--resume {home}` goes on from there" in out
    assert files(home) >= PICTURES | NUMBERS | {"state.npz"}
    assert load(home / "model.npz")[1]["block1.conv.weight"].any()


@unix
def test_a_signal_before_anything_is_learnt_leaves_what_was_there(earlier, tmp_path):
    home = copied(earlier, tmp_path / "run")
    with start(*LONG, "--size", "128", "--maps", "8", "--engine", "scipy", "--out", home) as demo:
        while not demo.stdout.readline().lstrip().startswith("total"):  # the end of the network's table
            assert demo.poll() is None
        demo.send_signal(signal.SIGTERM)
        _, err = end_of(demo)
    assert (demo.returncode, err) == (130, "interrupted\n")
    assert contents(home) == contents(earlier)


@pytest.mark.parametrize("demo", [train_modified, train_lungnet], ids=lambda demo: demo.__name__)
def test_resume_goes_on_after_a_stop_to_the_same_bytes(demo, tmp_path, monkeypatch, capsys):
    args = [*LONG, "--size", "32"]
    demo.main([*args, "--out", str(tmp_path / "whole")])
    with monkeypatch.context() as patch:
        patch.setattr("tinyseg.app.progress.Progress.with_frame", stopping(at=2))
        demo.main([*args, "--out", str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert "stopped by Ctrl-C after 1 of 4 epochs" in said and "state.npz" in files(tmp_path / "run")
    demo.main(["--resume", str(tmp_path / "run")])
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    epochs = [
        line[:11] for line in (tmp_path / "run/log.txt").read_text().splitlines() if line[:5] == "epoch"
    ]
    assert epochs == [f"epoch   {i}/4" for i in (1, 2, 3, 4)]


def stopping(at):
    """`Progress.with_frame`, with Ctrl-C pressed in that epoch, before its state is saved."""
    with_frame = train_modified.Progress.with_frame

    def pressed(self, snapshot):
        if snapshot.epoch == at:
            raise KeyboardInterrupt
        return with_frame(self, snapshot)

    return pressed


def test_a_stop_before_the_first_state_is_saved_leaves_what_was_there(earlier, tmp_path, monkeypatch):
    home = copied(earlier, tmp_path / "run")
    monkeypatch.setattr("tinyseg.app.progress.Progress.with_frame", stopping(at=1))
    with pytest.raises(SystemExit) as caught:
        train_modified.main([*LONG, "--out", str(home)])
    assert caught.value.code == 130 and contents(home) == contents(earlier)
    assert "unfinished" not in files(home)


@pytest.fixture
def notebook(monkeypatch):
    """As if this were a cell of a notebook."""
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--size", "x"], "argument --size"),
        (["--data", "nowhere"], "nowhere: expected a folder"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_in_a_notebook_an_error_is_an_exception(flags, said, notebook, tmp_path):
    with pytest.raises(InputError, match=said):
        train_modified.main([*flags, "--out", str(tmp_path / "run")])


def test_in_a_notebook_help_ends_nothing_and_a_training_diverges_with_its_error(notebook, tmp_path, capsys):
    assert train_modified.main(["--help"]) is None
    assert "--epochs" in capsys.readouterr().out
    with pytest.raises(Diverged):
        train_modified.main([*LONG, "--rate", "1e30", "--out", str(tmp_path / "run")])


def test_in_a_notebook_what_cannot_be_segmented_is_an_exception(notebook, earlier, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError):
        main(
            [
                "segment",
                str(earlier / "model.npz"),
                str(tmp_path / "text.png"),
                "--out",
                str(tmp_path / "out"),
            ]
        )


def test_resume_of_what_came_to_its_end_does_nothing(earlier, capsys):
    before = contents(earlier)
    with pytest.raises(SystemExit) as caught:
        train_modified.main(["--resume", str(earlier)])
    assert caught.value.code == 0 and "nothing is left to do" in capsys.readouterr().out
    assert contents(earlier) == before


def killed(home, monkeypatch, *args, after=2, main=train_modified.main):
    """A run in this folder that was killed after so many epochs."""

    def kill(self, message):
        if message.startswith(f"epoch {after + 1:3}/"):
            raise SystemError("killed")
        Log.say(self, message)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "say", kill)
        patch.setattr(Run, "__exit__", lambda self, *error: self.leaving.close())
        with pytest.raises(SystemError):
            main([*LONG, *args, "--out", str(home)])
    assert {"run.json", "state.npz"} <= files(home / "unfinished")
    return home


def test_the_command_resumes_any_network(tmp_path, monkeypatch):
    main(["train", "--network", "original", *LONG, "--out", str(tmp_path / "whole")])
    home = killed(
        tmp_path / "run", monkeypatch, "--network", "original", main=lambda argv: main(["train", *argv])
    )
    main(["train", "--resume", str(home)])
    assert contents(home) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--epochs", "9"], "expected its run's own --epochs 4, got 9; leave that flag out"),
        (["--dilations", "1,1"], r"expected its run's own --dilations \[1, 2\], got \(1, 1\)"),
        (["--out", "elsewhere"], "expected its run's own --out"),
    ],
)
def test_resume_keeps_the_flags(args, words, tmp_path, monkeypatch, capsys):
    home = killed(tmp_path / "run", monkeypatch)
    capsys.readouterr()
    import re

    assert re.search(words, refused(train_modified.main, capsys, ["--resume", home, *args]))
    train_modified.main(["--resume", str(home), "--epochs", "4", "--out", str(home)])  # the same is no harm


def test_resume_of_another_network_is_refused(tmp_path, monkeypatch, capsys):
    home = killed(tmp_path / "run", monkeypatch)
    capsys.readouterr()
    words = refused(train_lungnet.main, capsys, ["--resume", home])
    assert "expected a run of lungnet, as this command's, got one of modified" in words


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_nothing_to_resume(content, tmp_path, capsys):
    if content:
        (tmp_path / "unfinished").mkdir()
        (tmp_path / "unfinished/run.json").write_text(content)
    words = refused(train_modified.main, capsys, ["--resume", tmp_path])
    assert "run.json: not what a run wrote" in words if content else "start one without --resume" in words


def test_a_run_that_was_killed_is_not_overwritten(tmp_path, monkeypatch, capsys):
    home = killed(tmp_path / "run", monkeypatch)
    state = (home / "unfinished/state.npz").read_bytes()
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        train_modified.main([*LONG, "--out", str(home)])
    assert caught.value.code == 2
    assert f"a run that was killed waits there; `--resume {home}` goes on with it" in capsys.readouterr().err
    assert (home / "unfinished/state.npz").read_bytes() == state


def test_other_images_than_the_training_began_with_are_refused(tmp_path, monkeypatch, capsys):
    home = killed(tmp_path / "run", monkeypatch)
    phantom = train_modified.load_data.__globals__["phantom"]
    monkeypatch.setattr("tinyseg.app.data.phantom", lambda count, size, seed: phantom(count, size, seed + 1))
    with pytest.raises(SystemExit):
        train_modified.main(["--resume", str(home)])
    assert "the images are not those that the training began with" in capsys.readouterr().err
    assert (home / "unfinished/state.npz").exists()


def test_a_second_run_in_one_folder_is_refused(tmp_path, capsys):
    with Run(tmp_path / "run") as run:
        run.say("at work")
        with pytest.raises(SystemExit) as caught:
            train_modified.main([*LONG, "--out", str(tmp_path / "run")])
        assert caught.value.code == 2 and "another run is at work there" in capsys.readouterr().err
    assert (tmp_path / "run/log.txt").read_text() == "at work\n"


def test_files_that_no_run_wrote_are_not_touched(tmp_path, capsys):
    (tmp_path / "masks.png").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        train_modified.main([*SMALL, "--out", str(tmp_path)])
    assert "got one with masks.png that no run wrote" in capsys.readouterr().err
    assert files(tmp_path) == {"masks.png", "notes.txt"}


def test_an_earlier_run_s_results_are_replaced_and_none_stays(tmp_path):
    with Run(tmp_path) as run:
        run.write("model.npz", "old")
        run.write("curves.png", "old")
    (tmp_path / "notes.txt").write_text("mine")
    with Run(tmp_path) as run:
        run.write("model.npz", "new")
        assert (tmp_path / "model.npz").read_text() == (tmp_path / "curves.png").read_text() == "old"
    assert files(tmp_path) == {"run.json", "log.txt", "model.npz", "notes.txt"}
    assert (tmp_path / "model.npz").read_text() == "new"


@pytest.mark.parametrize("moves", range(6))
def test_a_kill_while_results_take_their_places_is_made_up_for(moves, tmp_path, monkeypatch):
    names = {"model.npz", "metrics.json", "masks.png"}

    def results(content):
        with Run(tmp_path) as run:
            for name in {*names, "state.npz"}:
                run.write(name, content)
            run.ended = True

    results("old")
    replace, moved = os.replace, []

    def torn(old, new):
        if Path(old).parent.name == "finished":
            if len(moved) == moves:
                raise SystemError("killed")
            moved.append(old)
        replace(old, new)

    def killed(folder, **how):
        if folder.name == "finished" and folder.exists():
            raise SystemError("killed")
        clear(folder, **how)

    clear = Run.open.__globals__["clear"]
    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr("tinyseg.app.run.os.replace", torn)
        patch.setattr("tinyseg.app.run.clear", killed)  # where it was not killed before
        results("new")
    with pytest.raises(SystemExit):
        train_modified.main(["--resume", str(tmp_path)])
    assert {(tmp_path / name).read_text() for name in names} == {"new"}
    assert files(tmp_path) == {*names, "log.txt", "run.json"}


def full(path):
    raise InputError(f"{path}: cannot be written (No space left on device)")


def test_a_full_disk_is_one_line_and_the_last_good_state_is_kept(whole, tmp_path, monkeypatch, capsys):
    home = tmp_path / "run"
    write = train_modified.Progress.epoch.__globals__["write_checkpoint"]
    with monkeypatch.context() as patch:
        patch.setattr(
            "tinyseg.app.progress.write_checkpoint",
            lambda path, tree: write(path, tree) if tree["last"]["epoch"] < 3 else full(path),
        )
        with pytest.raises(SystemExit) as caught:
            train_modified.main([*LONG, "--out", str(home)])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.count("\n") == 1
    assert (
        f"(No space left on device); what was learnt by epoch 2 is kept, and `--resume {home}` goes on" in err
    )
    train_modified.main(["--resume", str(home)])
    assert contents(home) == whole


def test_a_log_that_cannot_be_written_ends_no_training(whole, tmp_path, monkeypatch):
    append = Log.log.__globals__["append"]
    lines = iter(range(1000))
    monkeypatch.setattr(
        "tinyseg.app.run.append", lambda path, text: full(path) if 5 < next(lines) < 9 else append(path, text)
    )
    train_modified.main([*LONG, "--out", str(tmp_path)])
    assert contents(tmp_path) == whole
    assert (tmp_path / "log.txt").read_text().count(
        "\nepoch "
    ) == 4  # a later line brings the lost ones along


@pytest.mark.parametrize("error", [OSError(errno.EIO, "gone"), BrokenPipeError(), ValueError("closed file")])
def test_a_screen_that_is_gone_ends_no_training(error, whole, tmp_path, monkeypatch):
    class Gone:
        errors = "strict"

        def reconfigure(self, **how):
            pass

        def write(self, text):
            raise error

        def flush(self):
            raise error

    monkeypatch.setattr(sys, "stdout", Gone())
    train_modified.main([*LONG, "--out", str(tmp_path)])
    assert contents(tmp_path) == whole


def test_model_starts_from_what_was_learnt(earlier, tmp_path):
    train_modified.main(
        [*LONG, "--model", str(earlier / "model.npz"), "--rate", "1e-12", "--out", str(tmp_path)]
    )
    ours, theirs = load(tmp_path / "model.npz")[1], load(earlier / "model.npz")[1]
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], atol=1e-9)


def test_a_model_of_another_network_is_refused(earlier, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        train_modified.main(
            [*LONG, "--maps", "2", "--model", str(earlier / "model.npz"), "--out", str(tmp_path / "run")]
        )
    err = capsys.readouterr().err
    assert caught.value.code == 2 and "maps=2" in err and "maps=1" in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_leaves_what_was_there_and_the_last_finite_model(
    earlier, tmp_path, capsys, monkeypatch
):
    home = copied(earlier, tmp_path / "run")
    monkeypatch.setattr(
        "train_modified.schedule_of", lambda args: lambda step, steps: 1e-3 if step < 16 else 1e45
    )
    with pytest.raises(SystemExit) as caught:
        train_modified.main([*LONG, "--out", str(home)])
    err = capsys.readouterr().err
    finite = home / "unfinished/last_finite.npz"
    assert (
        caught.value.code == 1 and "error: step 17: " in err and f"--model {finite} trains on from it" in err
    )
    assert contents(earlier).items() <= contents(home).items()
    assert all(np.isfinite(array).all() for array in load(finite)[1].values())
    assert "error: step 17: " in (home / "unfinished/log.txt").read_text()
    monkeypatch.undo()
    train_modified.main(
        [*LONG, "--model", str(finite), "--out", str(home)]
    )  # as it advises; it takes its place
    assert "unfinished" not in files(home)


def test_a_loss_that_is_lost_on_images_only_looked_at_is_said(tmp_path, capsys, monkeypatch):
    evaluate = train_modified.evaluate
    monkeypatch.setattr("train_modified.evaluate", lambda *args: (float("nan"), *evaluate(*args)[1:]))
    with pytest.raises(SystemExit) as caught:
        train_modified.main([*LONG, "--out", str(tmp_path / "run")])
    assert caught.value.code == 1 and "became nan. Try a tenth of that rate" in capsys.readouterr().err
    assert files(tmp_path / "run/unfinished") == {"run.json", "log.txt"}


def test_a_long_training_takes_no_more_memory_or_disk_per_epoch(tmp_path, monkeypatch):
    """Frames stay few, and the log grows by a line."""
    seen = []
    write = train_modified.Progress.epoch.__globals__["write_checkpoint"]
    monkeypatch.setattr(
        "tinyseg.app.progress.write_checkpoint",
        lambda path, tree: (seen.append([epoch for epoch, _ in tree["frames"]]), write(path, tree)),
    )
    train_modified.main([*SMALL, "--images", "5", "--epochs", "140", "--out", str(tmp_path)])
    assert max(map(len, seen)) <= FRAMES + 1
    assert seen[10] == list(range(12)) and seen[63] == list(range(0, 65, 2))
    assert seen[-1][0] == 0 and seen[-1][-1] == 140 and set(np.diff(seen[-1])) == {4}
    assert json.loads((tmp_path / "metrics.json").read_text())["steps"] == 280


@pytest.mark.parametrize("name", ["finished", "unfinished"])
def test_folders_of_ones_own_are_not_emptied(name, tmp_path, capsys):
    (tmp_path / name).mkdir()
    (tmp_path / name / "model.npz").write_text("mine")
    with pytest.raises(SystemExit):
        train_modified.main([*SMALL, "--out", str(tmp_path)])
    assert f"{name}: expected a place for a run's files, got what no run put there" in capsys.readouterr().err
    assert (tmp_path / name / "model.npz").read_text() == "mine"


def test_a_history_that_lost_its_end_is_not_made_up(tmp_path, monkeypatch, capsys):
    home = killed(tmp_path / "run", monkeypatch)
    os.truncate(home / "unfinished/history.csv", 40)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        train_modified.main(["--resume", str(home)])
    assert caught.value.code == 2 and "history.csv: expected " in capsys.readouterr().err


def test_a_result_that_cannot_be_replaced_waits(tmp_path, capsys):
    with Run(tmp_path) as run:
        run.write("model.npz", "old")
    (tmp_path / "model.npz").unlink()
    (tmp_path / "model.npz").mkdir()  # in the way
    with pytest.raises(InputError, match="model.npz: cannot be replaced .* wait in"), Run(tmp_path) as run:
        run.write("model.npz", "new")
    (tmp_path / "model.npz").rmdir()
    with pytest.raises(SystemExit):
        train_modified.main(["--resume", str(tmp_path)])
    assert (tmp_path / "model.npz").read_text() == "new" and files(tmp_path) == {
        "model.npz",
        "log.txt",
        "run.json",
    }


def test_a_log_that_is_gone_keeps_nobody_from_going_on(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        patch.setattr("tinyseg.app.progress.Progress.with_frame", stopping(at=3))
        train_modified.main([*LONG, "--out", str(tmp_path)])
    (tmp_path / "log.txt").unlink()
    train_modified.main(["--resume", str(tmp_path)])
    assert contents(tmp_path) == whole


def test_a_stopped_run_with_another_network_in_its_state_is_refused(tmp_path, monkeypatch, capsys):
    home = killed(tmp_path / "run", monkeypatch)
    other = killed(tmp_path / "other", monkeypatch, "--maps", "2")
    (home / "unfinished/state.npz").write_bytes((other / "unfinished/state.npz").read_bytes())
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        train_modified.main(["--resume", str(home)])
    assert caught.value.code == 2 and "state.npz: of another network: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "run_json", ["{}", "[]", '{"results": ["log.txt", "model.npz"]}', '{"version": 1, "flags": {}}']
)
@pytest.mark.parametrize("name", ["finished", "unfinished", "."])
def test_a_run_json_of_another_program_makes_no_file_ours(name, run_json, tmp_path, capsys):
    place = tmp_path / name
    place.mkdir(exist_ok=True)
    for file, content in {"run.json": run_json, "log.txt": "mine", "model.npz": "mine"}.items():
        (place / file).write_text(content)
    before = contents(place)
    assert str(tmp_path) in refused(train_modified.main, capsys, [*SMALL, "--out", tmp_path])
    assert contents(place) == before and (place / "log.txt").read_text() == "mine"


def test_hidden_files_of_others_stay(tmp_path):
    for name in (".lock", ".film.part", "notes.part"):
        (tmp_path / name).write_text("mine")
    with Run(tmp_path) as run:
        run.write("model.npz", "ours")
    assert files(tmp_path) == {".lock", ".film.part", "notes.part", "run.json", "log.txt", "model.npz"}


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_that_leads_nowhere_is_somebody_s_too(tmp_path, capsys):
    os.symlink("nowhere", tmp_path / "log.txt")
    assert "got one with log.txt that no run wrote" in refused(
        train_modified.main, capsys, [*SMALL, "--out", tmp_path]
    )
    assert os.readlink(tmp_path / "log.txt") == "nowhere"


def test_a_file_that_came_while_the_run_was_at_work_is_not_overwritten(tmp_path, capsys):
    with (
        pytest.raises(InputError, match="got model.npz that no run wrote; .* wait in .*finished"),
        Run(tmp_path) as run,
    ):
        run.write("model.npz", "ours")
        (tmp_path / "model.npz").write_text("mine")
    assert (tmp_path / "model.npz").read_text() == "mine"
    (tmp_path / "model.npz").unlink()
    with pytest.raises(SystemExit):
        train_modified.main(["--resume", str(tmp_path)])
    assert (tmp_path / "model.npz").read_text() == "ours" and "finished" not in files(tmp_path)


def test_a_state_cuts_no_file_but_the_run_s_own(tmp_path, monkeypatch, capsys):
    home = killed(tmp_path / "run", monkeypatch)
    (tmp_path / "precious").write_text("mine")
    tree = read_checkpoint(home / "unfinished/state.npz")
    tree["lengths"]["../../precious"] = 0
    write_checkpoint(home / "unfinished/state.npz", tree)
    with pytest.raises(SystemExit) as caught:
        train_modified.main(["--resume", str(home)])
    assert caught.value.code == 2 and "not the state of a training" in capsys.readouterr().err
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """(a killed run, its state)"""
    with pytest.MonkeyPatch.context() as monkeypatch:
        home = killed(tmp_path_factory.mktemp("state") / "run", monkeypatch)
    return home, read_checkpoint(home / "unfinished/state.npz")


OTHERS = {"an array": np.zeros(3), "a list of nothing": [None], "a far number": 10**400}


@pytest.mark.parametrize("value", OTHERS.values(), ids=OTHERS)
def test_a_state_of_another_kind_is_refused_in_a_line_and_nothing_is_touched(value, state, capsys):
    home, tree = state
    trees = [value, *(tree | {key: value} for key in tree if key != "kept" or value is not None)]
    trees += [tree | {"last": tree["last"] | {key: value}} for key in tree["last"]]
    before = {name: (home / "unfinished" / name).read_bytes() for name in ("log.txt", "history.csv")}
    for changed in trees:
        write_checkpoint(home / "unfinished/state.npz", changed)
        with pytest.raises(SystemExit) as caught:
            train_modified.main(["--resume", str(home)])
        said = capsys.readouterr().err
        assert caught.value.code == 2 and "state.npz" in said and said.count("\n") == 1
    assert before == {name: (home / "unfinished" / name).read_bytes() for name in before}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", "x"), ("epochs", None), ("size", 10**30), ("dilations", [1, "x"]), ("data", "a\0b"),
        ("rate", [1]), ("engine", {"a": 1}), ("seed", 1.5), ("fold", [1, 2, 3]), ("fold", "ab"),
        ("fold", None), ("weight_std", "x"),
    ],
)  # fmt: skip
def test_flags_that_somebody_changed_in_the_folder_are_refused_in_a_line(name, value, tmp_path, capsys):
    (tmp_path / "unfinished").mkdir()
    about = {"version": 1, "versions": {}, "flags": {"network": "modified", name: value}}
    (tmp_path / "unfinished/run.json").write_text(json.dumps(about))
    refused(train_modified.main, capsys, ["--resume", tmp_path])


@pytest.mark.parametrize("network", ["x", None, 7, ["modified"], {"a": 1}])
def test_a_network_that_nobody_has_is_refused_in_a_line(network, tmp_path, capsys):
    (tmp_path / "unfinished").mkdir()
    about = {"version": 1, "versions": {}, "flags": {"network": network}}
    (tmp_path / "unfinished/run.json").write_text(json.dumps(about))
    words = refused(main, capsys, ["train", "--resume", tmp_path])
    assert "expected a run of modified, original, lungnet" in words


ODD_NAME = "a\nb\x1b[31m\r\x9b\x7f\u202egpj.\u2066\udcff ä\t日"
AS_SHOWN = r"b\x1b[31m\r\x9b\x7f\u202egpj.\u2066\udcff ä" + "\t日"


def test_what_moves_a_terminal_is_shown_as_escapes():
    assert shown(ODD_NAME) == "a\n" + AS_SHOWN
    assert one_line(ODD_NAME) == r"a\n" + AS_SHOWN


def test_screen_and_log_show_no_control_characters(tmp_path, capsys):
    log = Log(tmp_path)
    log.say(ODD_NAME)
    log.fail(ODD_NAME)
    said = capsys.readouterr().out
    assert said == f"a\n{AS_SHOWN}\nerror: a\\n{AS_SHOWN}\n" == (tmp_path / "log.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError(f"{ODD_NAME}: odd"), rf"a\n{AS_SHOWN}: odd"),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "name\n"),
            r"name\n: cannot be used (File name too long)",
        ),
        (OSError(errno.ELOOP, "Loop", "one", None, "other"), "other: cannot be used (Loop)"),
        (OSError("no more"), "cannot be used (no more)"),
        (RecursionError("too deep"), "a name or a file cannot be used (too deep)"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), "a name or a file cannot be used"),
    ],
)
def test_an_error_is_one_line_and_status_2(error, words, capsys):
    @guarded
    def fails(argv):
        raise error

    assert refused(fails, capsys, []).startswith(f"error: {words}")


def test_a_flag_that_is_wrong_is_said_in_one_line(capsys):
    assert r"\x1b[31m\n" in refused(main, capsys, ["train", "--colour=\x1b[31m\n"])


@pytest.mark.parametrize("flag", ["--out", "--data", "--model", "--resume"])
@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "file/x"])
def test_names_that_no_file_can_have_are_refused_in_a_line(flag, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    refused(train_modified.main, capsys, [*SMALL, "--out", "out", flag, name])
    assert files(tmp_path) == {"file"}


def test_say_prints_a_line(capsys):
    say("a\x1bb")
    assert capsys.readouterr().out == "a\\x1bb\n"
