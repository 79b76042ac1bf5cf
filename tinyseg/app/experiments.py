"""Many runs on as many machines as there are: a list of configurations, an executor, one table.

An executor takes calls and makes them somewhere else (`concurrent.futures`): in processes of this machine, or
by a Dask scheduler on any machines, which then share the folder of results. Results come as they are done,
into one CSV file. What is in it already is not done again, and a worker that is lost costs only its time.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from io import StringIO
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

from tinyseg.app.run import one_line, say
from tinyseg.errors import InputError
from tinyseg.io.files import write_whole

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
PATIENCE = 3  # workers lost without a result in between


def run_experiments(
    work: Callable[[str, dict], dict],
    configurations: dict[str, dict],
    *,
    table: Path,
    there: Callable[[str, dict], bool] = lambda name, settings: True,
    scheduler: str | None = None,
    say: Callable[[str], None] = say,
) -> dict[str, dict]:
    """Call `work(name, settings)` for each configuration, and return what it returned, by name.

    Args:
        work: a function of a module, which other processes can import; it returns a flat dict for JSON.
        configurations: a name and a flat dict of settings for JSON each.
        table: the CSV file: a row for each, with its name, its settings and its results.
        there: of a row in the table, whether what it speaks of is still there; else it is done again.
        scheduler: None for processes on this machine, "local" for Dask on this machine, or the address of a
            Dask scheduler, tcp://HOST:PORT.

    Raises:
        InputError: some did not come to a result, or the table or the scheduler is of no use. What is done
            stays in the table.
    """
    rows = rows_of(table, configurations)
    done = finished(rows, configurations)
    done = {name: results for name, results in done.items() if there(name, configurations[name])}
    if done:
        say(f"{len(done)} of {len(configurations)} runs are in {table} already")
    failed: dict[str, str] = {}
    progress, lost = Progress(len(configurations), len(done), say), 0
    while missing := [name for name in configurations if name not in done | failed]:
        before = len(done) + len(failed)
        try:
            with executor(scheduler, len(missing)) as pool:
                with deaf():
                    calls = {pool.submit(outcome, work, name, configurations[name]): name for name in missing}
                for call in as_completed(calls):
                    name, (result, error) = calls[call], call.result()
                    if error:
                        failed[name] = error
                        progress.show(f"{name} failed: {error}")
                    else:
                        done[name] = result
                        write_whole(table, written(configurations, done, rows))
                        progress.show(name)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("; the same command goes on with what is missing") from None
        except BrokenProcessPool:
            lost = lost + 1 if len(done) + len(failed) == before else 1
            if lost == PATIENCE:
                raise InputError(
                    f"{len(missing)} of {len(configurations)} runs: their process ends before they do; "
                    "is there memory enough for all at once?"
                ) from None
    if failed:
        name, error = next(iter(failed.items()))
        raise InputError(f"{len(failed)} of {len(configurations)} runs failed; {name}: {error}")
    return {name: done[name] for name in configurations}


def begin_table(table: Path, configurations: dict[str, dict], names: list[str]) -> None:
    """Begin a table in a folder for results, or refuse what is there: nothing that somebody made is lost.

    Raises:
        InputError: there is another table, one of runs with other settings, or, without a table, a file of
            these names.
    """
    rows = rows_of(table, configurations)
    for name, row in rows.items():
        for key, value in compared(configurations.get(name, {})).items():
            if row.get(key) != cell(value):
                raise InputError(
                    f"{table}: {name} was made with {key} {row.get(key)}, not {cell(value)}; "
                    "--out DIR is another folder"
                )
    if table.exists():
        return
    if there := [name for name in names if (table.parent / name).exists()]:
        raise InputError(
            f"{table.parent}: expected a folder for results, got one with {there[0]}; --out DIR is another"
        )
    write_whole(table, written(configurations, {}, {}))  # so that a run that is stopped finds its own again


def compared(settings: dict) -> dict:
    """The settings that decide what comes out; the folder may be named in another way, or moved."""
    return {key: value for key, value in settings.items() if key != "out"}


def outcome(work, name: str, settings: dict) -> tuple[dict | None, str]:
    """What the work returns, or why it failed, in a line: not every exception can travel."""
    try:
        return work(name, settings), ""
    except (Exception, KeyboardInterrupt) as error:
        return None, " ".join(f"{type(error).__name__}: {error}".split())


# Where the work is done


@contextmanager
def executor(scheduler: str | None, count: int):
    """An executor for so many calls; if the body fails, what is still on its way is given up."""
    if scheduler is None:
        pool = ProcessPoolExecutor(min(count, cores()), get_context("spawn"), initializer=follow_parent)
        others = set(active_children())
        try:
            with pool, one_thread_each():
                try:
                    yield pool
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    for child in set(active_children()) - others:
                        child.kill()
                    raise
        finally:
            pool.shutdown()
    else:
        with dask(scheduler, count) as client:
            pool = client.get_executor(pure=False)
            try:
                yield pool
            finally:  # what is on its way is given up, if the body did not wait for it
                pool.shutdown(wait=False)


@contextmanager
def dask(scheduler: str, count: int):
    """A client of a Dask scheduler: of the one at this address, or of "local" processes."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError("--scheduler: needs Dask; install it by: pip install 'tinyseg[cluster]'") from None
    if scheduler == "local":
        how = {"n_workers": min(count, cores()), "threads_per_worker": 1, "processes": True}
        with deaf():
            cluster = LocalCluster(**how, dashboard_address=None)
        with cluster, Client(cluster) as client:
            yield client
    else:
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"--scheduler {scheduler}: expected tcp://HOST:PORT of a Dask scheduler, got none ({error})"
            ) from None
        with client:
            yield client


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread_each():
    """Processes that begin meanwhile get one BLAS thread each, and keep out of each other's way."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def deaf():
    """Processes that begin meanwhile ignore Ctrl-C: it is for their parent to end them."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # outside the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def follow_parent() -> None:
    """Let this process end when its parent does, however that ends."""

    def wait():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# The table


def written(configurations: dict[str, dict], done: dict[str, dict], before: dict[str, dict]) -> str:
    """The table as CSV: a cell is a text as it is, or JSON. Rows of before with other names stay."""
    rows = [{"name": name} | configurations[name] | done[name] for name in configurations if name in done]
    rows = [{key: cell(value) for key, value in row.items()} for row in rows]
    rows += [row for name, row in before.items() if name not in configurations]
    table, settings = StringIO(), [key for each in configurations.values() for key in each]
    columns = dict.fromkeys(["name", *settings, *(key for row in rows for key in row)])
    writer = csv.DictWriter(table, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def rows_of(table: Path, configurations: dict[str, dict]) -> dict[str, dict]:
    """The rows of a table of such configurations, by name, as texts."""
    if not table.exists():
        return {}
    try:
        with open(table, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            rows = list(reader)
        common = set.intersection(*map(set, configurations.values()))
        if missing := sorted({"name", *common} - set(columns)):
            raise ValueError(f"it has no column {missing[0]}")  # it may be somebody's own
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row is longer or shorter than the first")
        return {row["name"]: row for row in rows}
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{table}: not a table of runs ({error}); delete it, or choose another --out"
        ) from None


def finished(rows: dict[str, dict], configurations: dict[str, dict]) -> dict[str, dict]:
    """The results of those configurations that have a row with the same settings."""
    found = {}
    for name, settings in configurations.items():
        row = rows.get(name, {})
        if row and all(row.get(key) == cell(value) for key, value in compared(settings).items()):
            found[name] = {key: content(row[key]) for key in row if key not in settings and key != "name"}
    return found


def cell(value) -> str:
    """A value as a cell; a text that would read as JSON gets quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)


def content(text: str):
    """`cell` undone."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class Progress:
    """How far many runs are: one line that changes on a terminal, else a line for each."""

    def __init__(self, count: int, done: int, say: Callable[[str], None]):
        self.count, self.done, self.first, self.say = count, done, done, say
        self.began = time.perf_counter()

    def show(self, last: str) -> None:
        """One more is done."""
        self.done += 1
        left = (time.perf_counter() - self.began) / (self.done - self.first) * (self.count - self.done)
        line = f"{self.done:{len(str(self.count))}} of {self.count} done  {left / 60:4.1f} min left  {last}"
        with suppress(OSError, ValueError, AttributeError):
            if sys.stdout.isatty():
                full = 20 * self.done // self.count
                end = "\n" if self.done == self.count else ""
                print(f"\r\x1b[K[{'#' * full}{'.' * (20 - full)}] {one_line(line)[:90]}", end=end, flush=True)
                return
        self.say(line)
