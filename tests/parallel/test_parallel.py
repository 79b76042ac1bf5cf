"""Several workers train as one process would; whatever ends one of them is said once, and ends them all."""

import os
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing import AuthenticationError, get_context
from multiprocessing.connection import Client
from threading import Thread
from types import SimpleNamespace

import numpy as np
import parallel
import pytest

from tinyseg.data import random_symmetry
from tinyseg.errors import InputError
from tinyseg.networks import lungnet, modified, original
from tinyseg.ops import UNLABELLED, semi_supervised
from tinyseg.optim import Adam, GradientDescent, cosine
from tinyseg.parallel import WorkerLost, fit_parallel
from tinyseg.parallel.shared import RandomShare, share_of
from tinyseg.parameters import flatten
from tinyseg.training import Diverged, begin, fit

SMALL = {"dilations": (1, 2)}
NET = modified(**SMALL)
LUNG = lungnet(maps=3, widths=(8, 4), classes=3, **SMALL)
SPARSE = partial(semi_supervised, class_weights=(1.0, 2.0, 3.0))

pytestmark = pytest.mark.processes


def blobs(count=13, classes=2, unlabelled=0.0, dtype=np.float32):
    """Noise with a threshold as its label; the later an image, the less of it is labelled."""
    rng = np.random.default_rng(0)
    images = rng.random((count, 1, 12, 12)) * np.linspace(1, 3, count)[:, None, None, None]
    labels = np.minimum(images[:, 0] * classes / 2, classes - 1).astype(np.uint8)
    labels[rng.random(labels.shape) < unlabelled * np.linspace(0, 1, count)[:, None, None]] = UNLABELLED
    return SimpleNamespace(images=images.astype(dtype), labels=labels)


def start_of(net, optimizer=Adam(), dtype=np.float32):  # noqa: B008  a frozen value
    start = begin(net, 3)
    params, state = ({k: v.astype(dtype) for k, v in d.items()} for d in (start.params, start.state))
    return replace(start, params=params, state=state, memory=optimizer.init(flatten(params)))


@pytest.fixture(scope="module")
def pool():
    """Three processes of one thread each."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(variable, "1")
        with ProcessPoolExecutor(3, get_context("spawn")) as executor:
            for future in [executor.submit(begin, NET) for _ in range(3)]:
                future.result()
            yield executor


def close(ours, theirs, dtype):
    """The same snapshots, up to rounding; it grows from step to step."""
    assert len(ours) == len(theirs)
    bound = 1e-9 if dtype is np.float64 else 3e-5
    for a, b in zip(ours, theirs):
        assert (a.epoch, a.step, a.rng) == (b.epoch, b.step, b.rng)
        np.testing.assert_allclose(a.losses, b.losses, rtol=bound)
        for one, other in ((a.params, b.params), (a.state, b.state)):
            assert list(one) == list(other)
            for key in one:
                assert one[key].dtype == dtype
                np.testing.assert_allclose(one[key], other[key], rtol=bound, atol=bound, err_msg=key)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize(("net", "loss", "data"), [
    (NET, None, {}),
    (original(**SMALL), None, {}),
    (LUNG, SPARSE, {"classes": 3, "unlabelled": 0.9}),
    (replace(LUNG, norm="batch", running=False), SPARSE, {"classes": 3, "unlabelled": 0.9}),
], ids=["modified", "original", "sparse labels", "batch norm without running statistics"])  # fmt: skip
def test_workers_learn_what_one_process_learns(pool, net, loss, data, workers):
    """In float64. Of 13 images in batches of 4, the last is not shared; 3 workers share 4 unevenly."""
    data, start = blobs(**data, dtype=np.float64), start_of(net, dtype=np.float64)
    how = {"epochs": 3, "batch": 4, "loss": loss, "augment": random_symmetry}
    expected = list(fit(net, data, start, **how))
    assert expected[-1].step == 12
    close(list(fit_parallel(net, data, start, executor=pool, workers=workers, **how)), expected, np.float64)


@pytest.mark.parametrize("net", [NET, original(**SMALL)], ids=["modified", "original"])
def test_in_float32_too(pool, net):
    """By gradient descent: where a gradient is 0 but for rounding, Adam's steps would be of any sign."""
    sgd = GradientDescent(0.5)
    data, start = blobs(), start_of(net, sgd)
    how = {"epochs": 3, "batch": 4, "optimizer": sgd, "schedule": cosine(0.05)}
    expected = list(fit(net, data, start, **how))
    assert not np.allclose(
        expected[0].params["output.weight"], expected[2].params["output.weight"], atol=1e-3
    )
    close(list(fit_parallel(net, data, start, executor=pool, workers=2, **how)), expected, np.float32)


def test_the_same_workers_give_the_same_bytes_and_can_be_followed_by_one_process(pool):
    data, start = blobs(), start_of(NET, dtype=np.float64)
    data.images = data.images.astype(np.float64)
    how = {"executor": pool, "workers": 2, "batch": 5}
    one, two = (list(fit_parallel(NET, data, start, epochs=2, **how)) for _ in range(2))
    assert all(one[-1].params[key].tobytes() == two[-1].params[key].tobytes() for key in one[-1].params)
    assert list(fit_parallel(NET, data, one[-1], epochs=2, **how)) == []
    close(list(fit(NET, data, one[0], epochs=2, batch=5)), one[1:], np.float64)
    close(list(fit_parallel(NET, data, one[0], epochs=2, **how)), one[1:], np.float64)


def test_on_dask():
    distributed = pytest.importorskip("distributed")
    quiet = {"dashboard_address": ":0", "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, **quiet) as cluster,
        distributed.Client(cluster) as client,
    ):
        data, start = blobs(dtype=np.float64), start_of(NET, dtype=np.float64)
        how = {"epochs": 2, "batch": 4}
        got = list(fit_parallel(NET, data, start, executor=client.get_executor(), workers=2, **how))
    close(got, list(fit(NET, data, start, **how)), np.float64)


class Recording(Executor):
    """Another executor, and what it was asked for."""

    def __init__(self, executor):
        self.executor, self.futures, self.asked = executor, [], []

    def submit(self, task, *args):
        self.asked.append(args)
        self.futures.append(self.executor.submit(task, *args))
        return self.futures[-1]


def training(executor, workers=2, epochs=2, batch=4, net=NET, **how):
    return fit_parallel(net, blobs(), begin(net), executor=executor, workers=workers, epochs=epochs,
                        batch=batch, **how)  # fmt: skip


def test_to_stop_early_ends_the_tasks(pool):
    recording = Recording(pool)
    stream = training(recording, workers=3, epochs=1000)
    assert next(stream).epoch == 1
    assert not any(future.done() for future in recording.futures)
    stream.close()
    assert [future.result(timeout=0) for future in recording.futures] == [None] * 3


def first(path, do, y, labels):
    """A loss, but the first worker that finds no file there makes it, and does something else."""
    try:
        open(path, "x").close()
    except FileExistsError:
        return NET.loss(y, labels)
    return do()


def fail():
    raise ZeroDivisionError("of a worker")


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_of_one_worker_is_raised_as_it_is_and_ends_the_others(pool, tmp_path, workers):
    recording = Recording(pool)
    with pytest.raises(ZeroDivisionError, match="^of a worker$"):
        list(training(recording, workers, loss=partial(first, tmp_path / "flag", fail)))
    assert all(future.done() for future in recording.futures)
    assert next(training(pool, workers=3)).epoch == 1  # the processes are free for other work


def test_a_worker_that_dies_is_missed(tmp_path):
    with (
        ProcessPoolExecutor(2, get_context("spawn")) as executor,
        pytest.raises(WorkerLost, match="a worker ended before the training did, .* was it killed"),
    ):
        list(training(executor, loss=partial(first, tmp_path / "flag", partial(os._exit, 1))))


def wait_for(path):
    while not path.exists():
        time.sleep(0.05)
    return fail()


def test_a_worker_that_does_not_answer_is_not_waited_for(pool, tmp_path):
    loss = partial(first, tmp_path / "flag", partial(wait_for, tmp_path / "over"))
    with pytest.raises(WorkerLost, match=r"worker \d did not answer for 1 s; .*raise patience"):
        list(training(pool, loss=loss, patience=1))
    (tmp_path / "over").touch()


def test_workers_that_do_not_come_are_not_waited_for():
    with ThreadPoolExecutor(1) as executor:
        recording = Recording(executor)
        with pytest.raises(WorkerLost, match="expected 2 workers within 1 s, got 1; .*free processes"):
            next(training(recording, patience=1))
        assert all(future.done() for future in recording.futures)


def test_divergence_is_raised_as_fit_raises_it(pool):
    with pytest.raises(Diverged, match=r"^step 1: parameter .* became infinite; the rate was 1e\+300"):
        list(training(pool, schedule=lambda step, steps: 1e300))
    bright = blobs()
    bright.images *= np.float32(1e20)
    with pytest.raises(Diverged, match="^step 1: input: batch_norm: the variance is too large"):
        next(fit_parallel(NET, bright, begin(NET), executor=pool, workers=2, epochs=1, batch=4))


def test_one_who_has_no_key_is_refused_and_the_training_goes_on(pool):
    refused, threads = [], []

    def intrude(address):
        with pytest.raises((AuthenticationError, EOFError, OSError)) as caught:
            Client(address, authkey=b"a guess")
        refused.append(caught.type)

    class Watched(Recording):
        def submit(self, task, rank, address, key):
            threads.append(Thread(target=intrude, args=(address,)))
            threads[-1].start()
            return super().submit(task, rank, address, key)

    assert next(training(Watched(pool))).epoch == 1
    for thread in threads:
        thread.join()
    assert refused == [AuthenticationError] * 2


def test_what_does_not_pickle_is_named():
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(InputError, match="expected loss to pickle.*got .*; define functions .*partial$"):
            next(training(executor, loss=lambda y, labels: NET.loss(y, labels)))
        with pytest.raises(InputError, match="expected augment to pickle"):
            next(training(executor, augment=lambda images, labels, rng: (images, labels)))


def test_what_fit_refuses_is_refused_and_so_is_a_number_of_workers_that_makes_no_sense():
    with pytest.raises(ValueError, match="expected a whole batch of at least 1 image"):
        next(training(None, batch=0))
    for workers in (0, 1.5, True):
        with pytest.raises(InputError, match="expected a whole number of workers, at least 1, got"):
            next(training(None, workers=workers))


def test_the_benchmark_times_all_three_ways(pool, monkeypatch, capsys):
    monkeypatch.setattr(parallel, "same_terms", lambda threads: None)
    monkeypatch.setattr(parallel, "pool", lambda processes, threads: nullcontext(pool))
    monkeypatch.setattr(parallel, "CASES", [(1, 24, 2)])
    monkeypatch.setattr(parallel, "PIXELS", 1)
    parallel.main(["--rounds", "1", "--epochs", "1", "--sizes", "24", "--maps", "1"])
    *_, line = capsys.readouterr().out.splitlines()
    name, *times = line.strip("| ").split(" | ")
    one, two, workers, gain = map(float, times)
    assert name == "1 maps, 24 px, batch 2" and min(one, two, workers) > 0
    assert gain == pytest.approx(min(one, two) / workers, rel=0.1, abs=0.01)


def test_a_share_of_random_numbers_is_cut_from_the_whole_batchs():
    whole = np.random.default_rng(5).random((7, 2, 3))
    rngs = [np.random.default_rng(5) for _ in range(3)]
    groups = [SimpleNamespace(rank=rank, workers=3) for rank in range(3)]
    shares = [share_of(7, group) for group in groups]
    drawn = [RandomShare(rng, 7, share).random((share.stop - share.start, 2, 3))
             for rng, share in zip(rngs, shares)]  # fmt: skip
    assert [len(part) for part in drawn] == [2, 2, 3]
    np.testing.assert_array_equal(np.concatenate(drawn), whole)
    rng = RandomShare(rngs[0], 7, shares[0])
    with pytest.raises(ValueError, match=r"which workers can share, got rng.normal"):
        rng.normal(size=(2, 2, 3))
    with pytest.raises(ValueError, match=r"expected random numbers \(N, ...\) for 2 images, got 5"):
        rng.random(5)
