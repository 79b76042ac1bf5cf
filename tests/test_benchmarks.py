"""The benchmarks run small: every engine that is installed agrees, and the rows are complete."""

import json
import sys
from mmap import mmap

import convolution
import engines
import evaluation
import measuring
import numpy as np
import pytest
import training_step

from tinyseg import ops
from tinyseg.fast import conv

norms = pytest.mark.parametrize("norm", ["batch", "instance"])
peers = pytest.mark.parametrize("peer", engines.PEERS, ids=lambda peer: peer.name)


@pytest.fixture
def quick(monkeypatch):
    """No pauses, and this process keeps its cores."""
    for module in (training_step, convolution, evaluation):
        monkeypatch.setattr(module, "same_terms", lambda threads: None)
    monkeypatch.setattr(measuring, "PAUSE", 0)
    monkeypatch.setattr(measuring, "TURN", 0)


@norms
@peers
def test_the_same_step(peer, norm):
    pytest.importorskip(training_step.NEEDS.get(peer.name, "tinyseg"))
    work = engines.work(2, 2, 12, norm)
    ours, theirs = engines.Tinyseg(work), peer(work)
    training_step.agree(engines, ours, theirs)
    params = {name: array.copy() for name, array in work.params.items()}
    ours.step(), theirs.step()
    after = engines.unflatten(ours.vector, work.params)
    for name, array in work.params.items():
        np.testing.assert_array_equal(array, params[name])  # the work is as it was
        new = getattr(theirs, "params", None) or engines.unflatten(theirs.vector, work.params)
        new = new[name].detach().numpy() if hasattr(new[name], "detach") else np.asarray(new[name])
        moved = np.abs(ours.gradient()[name]) > 1e-4  # where Adam's first step has a sure sign
        np.testing.assert_allclose(new[moved], after[name][moved], atol=1e-4, err_msg=name)


def test_a_wrong_peer_is_found():
    ours, theirs = (engines.Tinyseg(engines.work(2, 1, 12, "batch")) for _ in range(2))
    theirs.vector = theirs.vector * 1.1
    with pytest.raises(SystemExit, match=r"tinyseg: the gradient of \S+ differs"):
        training_step.agree(engines, ours, theirs)


def test_one_array_without_a_gradient_is_found():
    """The smallest gradient of all, far below the largest."""
    ours, theirs = (engines.Tinyseg(engines.work(2, 1, 12, "batch")) for _ in range(2))
    gradient = ours.gradient()
    name = min(gradient, key=lambda name: np.abs(gradient[name]).max())
    theirs.gradient = lambda: gradient | {name: np.zeros_like(gradient[name])}
    with pytest.raises(SystemExit, match=f"tinyseg: the gradient of {name} differs"):
        training_step.agree(engines, ours, theirs)


def test_rows(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(training_step, "CASES", [(1, 1, 16)])
    monkeypatch.setattr(engines, "PEERS", [engines.Definitions, engines.Scipy])
    training_step.main(
        [
            "--sizes",
            "16",
            "--maps",
            "1",
            "--rounds",
            "1",
            "--norms",
            "batch",
            "--json",
            str(tmp_path / "rows.json"),
        ]
    )
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 5 * 3
    assert all(row["ms"] > 0 for row in rows)
    assert {"engine", "maps", "batch", "size", "norm", "part", "ms", "peak_mb"} == set(rows[0])
    assert {row["engine"] for row in rows} == {
        "tinyseg", "tinyseg, definitions", "tinyseg, scipy", "gemms", "flops",
    }  # fmt: skip
    if sys.platform == "linux":
        peaks = [row["peak_mb"] for row in rows if row["part"] == "step" and row["engine"] == "tinyseg"]
        assert all(0 <= peak < 50 for peak in peaks)
    assert capsys.readouterr().out.count("| 1 maps, 1 x 16 px, ") == 5


def test_only_small_sizes_go_through_scipy(quick, monkeypatch, capsys):
    monkeypatch.setattr(training_step, "CASES", [(1, 1, 16)])
    monkeypatch.setattr(training_step, "AUTOGRAD_PIXELS", 1)
    monkeypatch.setattr(engines, "PEERS", [engines.Scipy])
    training_step.main(["--sizes", "16", "--maps", "1", "--rounds", "1", "--norms", "batch"])
    out = capsys.readouterr().out
    assert "| tinyseg |" in out and "| tinyseg, scipy |" not in out


def test_each_of_our_engines_calls_its_own_convolution(monkeypatch):
    calls = []

    def recorded(module, name):
        function = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *args, **kwargs: calls.append(name) or function(*args, **kwargs)
        )

    recorded(conv, "_multiply")  # of the fast convolution
    recorded(ops.conv, "_mix")  # of the one by hand
    recorded(ops.conv, "convolve")  # autograd's
    for engine, name in (
        (engines.Tinyseg, "_multiply"), (engines.Definitions, "_mix"), (engines.Scipy, "convolve"),
    ):  # fmt: skip
        engine(engines.work(2, 1, 12, "batch")).step()
        assert set(calls) == {name}
        calls.clear()


@pytest.mark.parametrize("band", [50, 2**20])
def test_products_of_the_floor_are_the_steps_own(band, monkeypatch):
    """Count multiplications: a weight for each pixel, but of the taps that only meet zeros."""
    monkeypatch.setattr(conv, "BAND", band)
    monkeypatch.setattr(conv, "SMALL", 0)
    work = engines.work(3, 2, 16, "batch")
    convolutions = engines.convolutions(work.net)
    assert len(convolutions) == 13
    taps = [1 if c.kernel == 1 or c.dilation > 15 else 9 for c in convolutions]
    weights = sum(t * c.in_channels * c.out_channels for t, c in zip(taps, convolutions))
    gemms = engines.Gemms(work)
    bands = 1 if band > 16 * 16 else 16 // (band // 16) + 1
    assert len(gemms.products["forward"]) == 13 * bands
    for part, times in (("forward", 1), ("gradient", 3), ("step", 3)):
        count = sum(a.shape[-2] * np.broadcast_shapes(b.shape, (2, 1, 1))[1] * b.shape[2] * 2
                    for a, b, *_ in gemms.products[part])  # fmt: skip
        assert count == times * weights * 2 * 16 * 16
    gemms.step()


def test_the_environment_does_not_choose_one_sides_kernels(monkeypatch, capsys):
    monkeypatch.setattr(measuring.os, "environ", {"OPENBLAS_CORETYPE": "Haswell", "HOME": "here"})
    monkeypatch.setattr(measuring.os, "sched_setaffinity", lambda pid, cores: None, raising=False)
    measuring.same_terms(2)
    assert "OPENBLAS_CORETYPE" not in measuring.os.environ and measuring.os.environ["HOME"] == "here"
    assert {measuring.os.environ[variable] for variable in measuring.THREADS} == {"2"}
    assert "OPENBLAS_CORETYPE=Haswell: dropped" in capsys.readouterr().err


def test_turns_alternate(quick):
    calls = []
    medians = measuring.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == list("aabbaabb")
    assert set(medians) == {"a", "b"}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
def test_memory_that_is_used_is_seen():
    def use():
        with mmap(-1, 2**25) as memory:  # 32 MB from the system, whatever the C library has kept
            for page in range(0, 2**25, 4096):
                memory[page] = 1

    assert 31 < measuring.peak_of(use) < 40


def test_convolution_and_evaluation_agree_with_what_they_time(quick, monkeypatch, capsys):
    monkeypatch.setattr(convolution, "SHAPES", [(1, 2, 24)])
    monkeypatch.setattr(convolution, "STEPS", [(2, 1, 16)])
    convolution.main(["--rounds", "1"])
    assert "| `in_bands` |" in capsys.readouterr().out
    monkeypatch.setattr(evaluation, "SIZE", (20, 30))
    evaluation.main(["--rounds", "1"])
    assert "tinyseg / it 1.00" in capsys.readouterr().out
