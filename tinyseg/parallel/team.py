"""Data-parallel training: several processes take a share of each minibatch, and come out as one would.

Each worker runs `fit` itself: it has all images, and draws the same random numbers as the others. Only the
network differs. `Shared` runs it on the worker's share of the minibatch, and asks the other workers at three
places for what one process would have known:

- The outputs are gathered, so that the loss is of the whole minibatch, on every worker.
- Batch norm's moments, and the two sums in its derivative, are of all workers' images.
- The gradient by the parameters is the sum of all workers' gradients (an all-reduce).

There is one kind of message for all three: each worker sends an array, and gets all workers' arrays, in the
workers' order. Their sum is the same to the last bit for everyone. So the parameters stay the same, and need
not be sent. The process that called `fit_parallel` hands the messages on.
"""

from __future__ import annotations

import os
import pickle
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinyseg.errors import InputError, is_whole
from tinyseg.optim import Adam, constant
from tinyseg.parallel.shared import Shared
from tinyseg.training import Snapshot, check_fit, fit


class WorkerLost(RuntimeError):
    """A worker did not come, did not answer or ended too early; the message says what to try."""


def fit_parallel(
    net,
    data,
    start: Snapshot,
    *,
    executor: Executor,
    workers: int,
    epochs: int,
    batch: int = 2,
    optimizer=Adam(),  # noqa: B008  a frozen value
    schedule=constant(1e-3),  # noqa: B008  a pure function
    augment=None,
    loss=None,
    host: str = "127.0.0.1",
    patience: float = 60.0,
) -> Iterator[Snapshot]:
    """`training.fit` with each minibatch shared among workers: the same snapshots, up to rounding.

    A minibatch of fewer images than workers is not shared: each worker computes all of it. Whatever goes to
    the workers has to pickle: a function at a module's top level does, or a `functools.partial` of one; a
    function within a function does not. Only the schedule stays here, where it is asked for all rates before
    the first step. A layer of one's own that mixes the images of a minibatch, other than by its engine's
    `normalize`, sees its worker's share alone.

    Args:
        net, data, start, epochs, batch, optimizer, schedule, augment, loss: as of `fit`.
        executor: with at least `workers` free processes, such as a `ProcessPoolExecutor` of them, or Dask's
            `client.get_executor()`. Each runs one task until the training ends.
        workers: how many share a minibatch.
        host: this machine's address, as the workers reach it. Who has no key is refused; but nothing is
            encrypted, so the network has to be one that you trust.
        patience: seconds to wait for a worker's start, and for each of its messages.

    Raises:
        Diverged, ValueError: as `fit` does; and what else a worker's network raises.
        InputError: `workers` is no whole number of at least 1, or something does not pickle.
        WorkerLost: a worker did not come, did not answer, or ended too early.
    """
    check_fit(net, data, start, batch, optimizer, schedule)
    if not is_whole(workers):
        raise InputError(f"fit_parallel: expected a whole number of workers, at least 1, got {workers!r}")
    if start.epoch >= epochs:
        return
    each = -(-len(data.images) // batch)  # steps of an epoch
    ahead = range(start.step, start.step + (epochs - start.epoch) * each)
    rates = {step: float(schedule(step, epochs * each)) for step in ahead}
    what = {"epochs": epochs, "batch": batch, "optimizer": optimizer, "loss": loss}
    what |= {"augment": augment} if augment else {}  # None: the one that `fit` has by default
    data = SimpleNamespace(images=data.images, labels=data.labels)  # all that `fit` looks at
    job = pickled(workers=workers, net=net, data=data, start=start, rates=rates, **what)
    with Team(executor, workers, host, patience) as team:
        team.send([job] * workers)
        for _ in range(start.epoch, epochs):
            while any(messages := team.receive()):
                team.send([b"".join(messages)] * workers)  # one array after another
            yield pickle.loads(team.receive(first=1)[0])  # all messages were empty: an epoch is over


def pickled(**parts) -> bytes:
    """All parts as one message, or an error that names the one that does not pickle."""
    pieces = {}
    for name, part in parts.items():
        try:
            pieces[name] = pickle.dumps(part)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(
                f"fit_parallel: expected {name} to pickle, as it goes to other processes, got {error}; "
                "define functions at a module's top level, and bind arguments with functools.partial"
            ) from None
    return pickle.dumps(pieces)


class Team:
    """The workers' tasks, and a connection to each of them, in their order.

    As a context manager it ends them all; who still computes ends when it sends its next array.
    """

    def __init__(self, executor: Executor, workers: int, host: str, patience: float):
        self.executor, self.workers, self.patience = executor, workers, patience
        self.key = secrets.token_bytes(32)
        self.listener = Listener((host, 0), backlog=workers, authkey=self.key)
        self.address: Any = self.listener.address  # (host, port)
        self.doorman = threading.Thread(target=self._let_in, daemon=True)  # a listener waits without end
        self.closing = threading.Event()
        self.arrived: SimpleQueue[tuple[int, Connection]] = SimpleQueue()
        self.futures: list[Future] = []
        self.links: list[Connection] = []
        self.connections = ExitStack()  # to be closed in the end

    def __enter__(self) -> Team:
        try:
            for rank in range(self.workers):
                self.futures.append(self.executor.submit(work, rank, self.address, self.key))
            self.doorman.start()
            self.links = self._wait_for_all()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End all tasks, also one that an executor starts anew, and wait for their ends."""
        if self.closing.is_set():
            return
        self.closing.set()
        if self.doorman.is_alive():
            with suppress(OSError):  # it may wait for someone
                socket.create_connection(self.address, timeout=1).close()
            self.doorman.join(1)
        self.listener.close()
        while not self.arrived.empty():
            self.arrived.get()[1].close()
        self.connections.close()
        for future in self.futures:
            future.cancel()
        wait(self.futures, self.patience)

    def _let_in(self):
        while not self.closing.is_set():
            with suppress(OSError, EOFError, AuthenticationError):  # of a stranger
                connection = self.listener.accept()
                set_up(connection, self.patience)
                self.arrived.put((connection.recv(), connection))

    def _wait_for_all(self) -> list[Connection]:
        links: dict[int, Connection] = {}
        until = time.monotonic() + self.patience
        while len(links) < len(self.futures):
            try:
                rank, connection = self.arrived.get(timeout=0.1)
                links[rank] = self.connections.enter_context(connection)
            except Empty:
                if any(future.done() for rank, future in enumerate(self.futures) if rank not in links):
                    raise self.failure("before it began") from None
                if time.monotonic() > until:
                    raise WorkerLost(
                        f"fit_parallel: expected {len(self.futures)} workers within {self.patience:g} s, got "
                        f"{len(links)}; the executor needs as many free processes, which reach this one at "
                        f"{self.address[0]} (host=)"
                    ) from None
        return [links[rank] for rank in sorted(links)]

    def receive(self, first: int | None = None) -> list[bytes]:
        """A message of each worker, or of the first few."""
        messages = []
        for rank, link in enumerate(self.links[:first]):
            try:
                messages.append(link.recv_bytes())
            except (BlockingIOError, TimeoutError):
                raise WorkerLost(
                    f"fit_parallel: worker {rank} did not answer for {self.patience:g} s; is it still there? "
                    "If its work takes so long, raise patience"
                ) from None
            except (EOFError, OSError):
                raise self.failure("before the training did") from None
        return messages

    def send(self, messages) -> None:
        """Give each worker its message."""
        for link, message in zip(self.links, messages):
            try:
                link.send_bytes(message)
            except OSError:
                raise self.failure("before the training did") from None

    def failure(self, when: str) -> BaseException:
        """Why a worker has ended: what it raised, if it could."""
        self.close()  # then the others end, too, and raise nothing
        for future in self.futures:
            error = future.exception() if future.done() and not future.cancelled() else None
            if error and not isinstance(error, BrokenExecutor):
                return error
        return WorkerLost(
            f"fit_parallel: a worker ended {when}, and could not say why; was it killed, for lack of memory? "
            "Fewer workers, or a smaller batch, take less. On spawned processes, the main module has to be a "
            'file that starts its work under `if __name__ == "__main__":`'
        )


class Gone(Exception):
    """The process that called is no longer there: the training is over."""


def work(rank: int, address, key: bytes) -> None:
    """A worker's task: `fit`, of a network that is shared with the others."""
    try:
        link = Client(address, authkey=key)
    except (OSError, EOFError):
        return
    with link, suppress(Gone):
        group = Group(link, rank)
        job = {name: pickle.loads(part) for name, part in pickle.loads(group.begin()).items()}
        group.workers, net, rates = job.pop("workers"), job.pop("net"), job.pop("rates")
        for snapshot in fit(Shared(net, group), **job, schedule=lambda step, *_: rates[step]):
            group.end_epoch(snapshot)


def set_up(link: Connection, patience: float | None = None) -> None:
    """Let no message wait until the one before it is confirmed, as TCP may; and wait no longer than this."""
    of_link = socket.socket(fileno=link.fileno())
    try:
        of_link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if patience:
            seconds, us = divmod(int(1e6 * patience), 10**6)
            windows, elsewhere = (
                struct.pack("@L", 1000 * seconds + us // 1000),
                struct.pack("@ll", seconds, us),
            )
            limit = windows if os.name == "nt" else elsewhere
            of_link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    finally:
        of_link.detach()  # the socket stays the link's


class Group:
    """What a worker knows of all workers: how many they are, which one it is, and how to reach them."""

    def __init__(self, link: Connection, rank: int):
        self.link, self.rank, self.workers = link, rank, 1
        set_up(link)

    def begin(self) -> bytes:
        """Say who has come, and get the job."""
        return self._ask(pickle.dumps(self.rank))

    def end_epoch(self, snapshot: Snapshot) -> None:
        """All say that an epoch is over, by an empty message. The first one says with what."""
        self._say(b"")
        if self.rank == 0:
            self._say(pickle.dumps(snapshot))

    def gather(self, x: np.ndarray) -> np.ndarray:
        """All workers' arrays (n, ...), one after another in the workers' order: (sum of n, ...)."""
        got = self._ask(np.ascontiguousarray(x))
        return np.frombuffer(got, x.dtype).reshape(-1, *x.shape[1:])  # bytes -> (sum of n, ...)

    def sum(self, x: np.ndarray) -> np.ndarray:
        """The sum of all workers' arrays of one shape, in the workers' order: an all-reduce."""
        return self.gather(x[None]).sum(axis=0)  # (...) -> (workers, ...) -> (...)

    def _say(self, message):
        try:
            self.link.send_bytes(message)
        except OSError:
            raise Gone from None

    def _ask(self, message):
        self._say(message)
        try:
            return self.link.recv_bytes()
        except (EOFError, OSError):
            raise Gone from None
