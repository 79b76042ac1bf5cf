"""Many runs: each once, whoever dies meanwhile; the table holds what is done, and a rerun does the rest."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinyseg.app.experiments import THREADS, begin_table, cell, content, cores, run_experiments
from tinyseg.errors import InputError

pytestmark = pytest.mark.processes
unix = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


def square(name, settings):
    """A run that leaves a note of having been made."""
    with open(Path(settings["notes"]) / name, "a") as file:
        file.write("x")
    if settings.get("fail"):
        raise InputError(f"{name} fails\nin two lines")
    return {"square": settings["x"] ** 2, "word": "null", "nothing": None}


def dies_once(name, settings):
    """A run that is killed the first time."""
    result = square(name, settings)
    if settings["x"] == 2 and (Path(settings["notes"]) / name).read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def dies(name, settings):
    os.kill(os.getpid(), signal.SIGKILL)


def environment(name, settings):
    return {variable: os.environ.get(variable) for variable in THREADS}


def sleeps(name, settings):
    """A run that says who it is, and takes long."""
    (Path(settings["notes"]) / f"pid-{name}").write_text(str(os.getpid()))
    time.sleep(settings["x"])
    return {"slept": settings["x"]}


def made(tmp_path):
    """How often each run was made."""
    return {path.name: len(path.read_text()) for path in (tmp_path / "notes").iterdir()}


@pytest.fixture
def four(tmp_path):
    (tmp_path / "notes").mkdir()
    return {f"run {x}": {"x": x, "notes": str(tmp_path / "notes")} for x in range(4)}


def quiet(line):
    pass


def test_each_is_done_once_and_a_rerun_does_what_is_missing(four, tmp_path):
    table, said = tmp_path / "runs.csv", []
    first = dict(list(four.items())[:3])
    results = run_experiments(square, first, table=table, say=said.append)
    assert results == {f"run {x}": {"square": x**2, "word": "null", "nothing": None} for x in range(3)}
    assert len(said) == 3 and said[-1].startswith("3 of 3 done  ")
    four["run 1"]["x"] = 1.0  # other settings
    again = run_experiments(square, four, table=table, say=said.append)
    assert list(again) == list(four) and again["run 3"]["square"] == 9
    assert said[3] == f"2 of 4 runs are in {table} already"
    assert made(tmp_path) == {"run 0": 1, "run 1": 2, "run 2": 1, "run 3": 1}
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["square"], row["nothing"]) for row in rows] == [
        ("run 0", "0", "null"), ("run 1", "1.0", "null"), ("run 2", "4", "null"), ("run 3", "9", "null"),
    ]  # fmt: skip


def test_a_run_that_fails_is_named_and_the_others_go_on(four, tmp_path):
    four["run 1"]["fail"] = True
    with pytest.raises(InputError, match="1 of 4 runs failed; run 1: InputError: run 1 fails in two lines"):
        run_experiments(square, four, table=tmp_path / "runs.csv", say=quiet)
    del four["run 1"]["fail"]
    assert run_experiments(square, four, table=tmp_path / "runs.csv", say=quiet)["run 1"]["square"] == 1
    assert made(tmp_path)["run 0"] == 1 and made(tmp_path)["run 1"] == 2


@unix
def test_the_run_of_a_process_that_dies_is_done_again(four, tmp_path):
    results = run_experiments(dies_once, four, table=tmp_path / "runs.csv", say=quiet)
    assert [result["square"] for result in results.values()] == [0, 1, 4, 9] and made(tmp_path)["run 2"] == 2


@unix
def test_a_run_that_always_kills_its_process_ends_in_a_line(four, tmp_path):
    one = {"run 0": four["run 0"]}
    with pytest.raises(InputError, match="1 of 1 runs: their process ends before they do"):
        run_experiments(dies, one, table=tmp_path / "runs.csv", say=quiet)


def test_a_process_has_one_thread_and_ours_keeps_its_own(four, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    results = run_experiments(environment, {"a": {}}, table=tmp_path / "runs.csv", say=quiet)
    assert set(results["a"].values()) == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    "value", [1, 1.0, True, None, "word", "1", "null", '"x"', "", [1, "a"], "NaN", "a,\n"]
)
def test_a_cell_gives_back_what_it_holds(value):
    assert content(cell(value)) == value and type(content(cell(value))) is type(value)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "name,age\nAnn,7\n", 'name\n"open', "name\n\xff\xfe"])
def test_another_file_is_no_table(content, four, tmp_path):
    (tmp_path / "runs.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="runs.csv: not a table of runs"):
        run_experiments(square, four, table=tmp_path / "runs.csv", say=quiet)


def test_a_table_that_was_begun_is_known_again_wherever_its_folder_lies(four, tmp_path):
    table = tmp_path / "runs.csv"
    begin_table(table, {name: run | {"out": "here"} for name, run in four.items()}, ["log.txt"])
    (tmp_path / "log.txt").write_text("ours")  # and then it was stopped
    here = {name: run | {"out": str(tmp_path)} for name, run in four.items()}
    begin_table(table, here, ["log.txt"])
    said = []
    run_experiments(square, {"run 0": here["run 0"]}, table=table, say=quiet)
    run_experiments(square, {"run 0": four["run 0"] | {"out": "moved"}}, table=table, say=said.append)
    assert said == [f"1 of 1 runs are in {table} already"]


def test_runs_of_other_names_stay_and_those_of_other_settings_are_refused(four, tmp_path):
    table = tmp_path / "runs.csv"
    run_experiments(square, four, table=table, say=quiet)
    run_experiments(square, {"run 1": four["run 1"] | {"x": 7}}, table=table, say=quiet)
    said = []
    assert run_experiments(square, four, table=table, say=said.append)["run 1"]["square"] == 1
    assert said[0] == f"3 of 4 runs are in {table} already"
    before = table.read_bytes()
    with pytest.raises(InputError, match="run 2 was made with x 2, not 5; --out DIR is another folder"):
        begin_table(table, {"run 2": four["run 2"] | {"x": 5}}, [])
    assert table.read_bytes() == before


def test_an_empty_table_and_one_that_was_cut_are_refused_in_a_line(four, tmp_path):
    table = tmp_path / "runs.csv"
    table.write_text("")
    with pytest.raises(InputError, match="not a table of runs .it has no column name.; delete it"):
        begin_table(table, four, [])
    table.unlink()
    run_experiments(square, four, table=table, say=quiet)
    table.write_text(table.read_text().rpartition(",")[0])
    with pytest.raises(InputError, match="a row is longer or shorter"):
        begin_table(table, four, [])


PARENT = """
import json, sys
from pathlib import Path
from test_experiments import sleeps
from tinyseg.app.experiments import run_experiments
if __name__ == "__main__":
    runs = {name: {"x": x, "notes": sys.argv[1]} for name, x in json.loads(sys.argv[2]).items()}
    try:
        run_experiments(sleeps, runs, table=Path(sys.argv[1]) / "runs.csv")
    except KeyboardInterrupt:
        print("stopped")
"""


@unix
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_when_the_parent_ends_its_processes_do_and_what_is_done_stays(name, tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    runs = {"quick": 0, **{f"long{i}": 600 for i in range(cores())}}
    command = [sys.executable, tmp_path / "parent.py", tmp_path, json.dumps(runs)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(
        command, **how, env=os.environ | {"PYTHONPATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as parent:  # fmt: skip
        until(lambda: (tmp_path / "runs.csv").exists() and (tmp_path / "pid-long0").exists())
        if name == "SIGINT":
            os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
        else:
            parent.kill()
        out, err = parent.communicate(timeout=20)
    if name == "SIGINT":
        assert (out.splitlines()[1:], err) == (["stopped"], "")
    children = [int(path.read_text()) for path in tmp_path.glob("pid-*")]
    until(lambda: not any(map(alive, children)))
    assert (tmp_path / "runs.csv").read_text().splitlines()[1].startswith("quick,")


def until(condition, seconds=20):
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_dask_loses_a_worker_and_the_table_is_complete(four, tmp_path):
    distributed = pytest.importorskip("distributed")
    how = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**how, silence_logs=60) as cluster:
        table = tmp_path / "runs.csv"
        results = run_experiments(
            dies_once, four, table=table, scheduler=cluster.scheduler_address, say=quiet
        )
    assert [result["square"] for result in results.values()] == [0, 1, 4, 9]
    assert made(tmp_path)["run 2"] == 2 and len(table.read_text().splitlines()) == 5


def test_dask_on_this_machine(four, tmp_path):
    pytest.importorskip("distributed")
    results = run_experiments(square, four, table=tmp_path / "runs.csv", scheduler="local", say=quiet)
    assert [result["square"] for result in results.values()] == [0, 1, 4, 9]


def test_a_scheduler_that_is_not_there(four, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match=r"--scheduler nonsense: expected tcp://HOST:PORT"):
        run_experiments(square, four, table=tmp_path / "runs.csv", scheduler="nonsense", say=quiet)


def test_without_dask_the_way_out_is_named(four, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'tinyseg\[cluster\]'"):
        run_experiments(square, four, table=tmp_path / "runs.csv", scheduler="local", say=quiet)
