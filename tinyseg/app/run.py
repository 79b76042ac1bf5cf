"""A run's folder, in which nothing is lost, and the one place where errors become a line and a status.

    runs/modified/               the results of the last run that came to an end
    runs/modified/unfinished/    a run on its way: flags, log, history, and its state after each epoch

A run works in `unfinished`. At its end it becomes `finished` in one step, and from there its files take the
places of the earlier run's. A kill at any moment leaves one or the other whole.
"""

from __future__ import annotations

import builtins
import json
import os
import re
import signal
import sys
import time
from contextlib import ExitStack, suppress
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tinyseg.errors import InputError, listed
from tinyseg.io.files import UNWHOLE, append, content_of, held, write_whole
from tinyseg.training import Diverged

ABOUT = "run.json"  # a run's flags, and versions; in the end also the names of all its results
STATE = "state.npz"  # of a run that has not come to the end of its training: all that it needs to go on
LOG, HISTORY = "log.txt", "history.csv"
FINITE = "last_finite.npz"  # of a run that diverged: the model before
RESULTS = (
    ABOUT, STATE, LOG, HISTORY, FINITE, "model.npz", "metrics.json", "per_image.csv", "report.html",
    "data.png", "masks.png", "overlays.png", "probability.png", "curves.png", "steps.gif", "epochs.gif",
)  # fmt: skip


def in_notebook() -> bool:
    """Whether this runs in IPython, as a cell of a notebook does."""
    return hasattr(builtins, "__IPYTHON__")


def without_status(main, argv):
    """main(argv), with an InputError in place of a status that is not 0."""
    try:
        return main(argv)
    except SystemExit as end:
        if end.code:
            raise InputError("not all could be done; the lines above say what and why") from None


def guarded(main):
    """Turn what a user can mend into one line and a status: 2 for bad input, 1 for a run that diverged.

    In a notebook, which no status ends, whoever called gets an exception.
    """

    @wraps(main)
    def run(argv=None):
        if in_notebook():
            return without_status(main, argv)
        if getattr(sys.stdout, "errors", None) == "strict":  # names may hold bytes that are no characters
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return main(argv)
        except (InputError, Diverged) as error:
            say(one_line(f"error: {error}"), sys.stderr)
            raise SystemExit(2 if isinstance(error, InputError) else 1) from None
        except OSError as error:  # of a name that no file can have, say: more than can be foreseen
            name, why = error.filename2 or error.filename, error.strerror or error
            say(one_line(f"error: {'' if name is None else f'{name}: '}cannot be used ({why})"), sys.stderr)
            raise SystemExit(2) from None
        except (RecursionError, UnicodeError) as error:
            say(one_line(f"error: a name or a file cannot be used ({error})"), sys.stderr)
            raise SystemExit(2) from None
        except MemoryError:
            say("error: not enough memory; try a smaller --size, --maps or --images", sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt as stop:
            say(f"interrupted{stop}", sys.stderr)
            raise SystemExit(130) from None

    return run


# What moves a terminal's cursor, changes its colours or turns text around; bytes that are no characters. A
# newline and a tab may stay.
ODD = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """A text that may hold names from anywhere, with what is not to reach a terminal as backslash escapes."""
    return ODD.sub(lambda odd: odd[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """The same, and no newline."""
    return shown(text).replace("\n", "\\n")


def say(line: str, stream=None) -> None:
    """Print a line. A screen that cannot be written, or a reader who has gone, is no reason to stop."""
    stream = stream or sys.stdout
    try:
        print(shown(line), file=stream, flush=True)
    except (OSError, ValueError, AttributeError):
        with suppress(OSError, ValueError, AttributeError):  # nor is what Python writes at its own end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Log:
    """A folder for results, and a log in it of what is said."""

    def __init__(self, folder: Path, name: str = LOG, *, quiet: bool = False):
        self.folder = self.home = folder
        self.name, self.quiet = name, quiet
        self.errors, self.unwritten, self.start = 0, "", time.perf_counter()
        make(folder)
        write_whole(folder / name, "")  # learn now, not in the end, if it cannot be written

    @property
    def seconds(self) -> float:
        """Since the work began, or went on."""
        return time.perf_counter() - self.start

    def say(self, line: str) -> None:
        """Print a line (not if quiet) and keep it."""
        if not self.quiet:
            say(line)
        self.log(line)

    def fail(self, message) -> None:
        """Say what is wrong with a part of the work, and go on."""
        self.say(one_line(f"error: {message}"))
        self.errors += 1

    def log(self, line: str) -> None:
        """Keep a line that is printed elsewhere."""
        self.unwritten += f"{shown(line)}\n"
        with suppress(InputError):  # the disk is full, perhaps: the next line tries again
            append(self.folder / self.name, self.unwritten)
            self.unwritten = ""

    def write(self, name: str, content: str | bytes) -> None:
        """A file in the folder."""
        write_whole(self.folder / name, content)


class Run(Log):
    """A run on its way, in a folder that nobody else may use meanwhile: `with Run(args.out, flags) as run`.

    `run.folder` is where it works, `run.home` where its results go in the end. Meanwhile Ctrl-C, SIGTERM and
    SIGHUP raise a KeyboardInterrupt. With `resume` it goes on with the run that was killed or stopped there;
    `flags`, a dict for JSON, are those of a new one.

    Raises:
        InputError: the folder cannot be made, another run is in it, a file in it is not a run's, or a run
            that was killed there waits for --resume.
    """

    def __init__(self, home: Path, flags: dict | None = None, *, resume: bool = False, quiet: bool = False):
        self.home, self.folder, self.name = home, home / "unfinished", LOG
        self.resume, self.quiet, self.muted = resume, quiet, False
        self.about = {"version": 1, "flags": flags or {}, "versions": versions()}
        self.errors, self.unwritten, self.start = 0, "", time.perf_counter()
        self.epoch = 0  # the last one whose state is saved
        self.saving = False  # whether an epoch is being written, its row, its line and its state
        self.ended = False  # whether the training came to its end
        self.stopped: str | None = None  # by this signal
        self.handlers: dict = {}
        self.leaving = ExitStack()

    def __enter__(self) -> Run:
        make(self.home)
        self.leaving.enter_context(alone(self.home))
        try:
            settle(self.home)
            self.reopen() if self.resume else self.open()
            self.listen()
        except BaseException:
            self.leaving.close()
            raise
        return self

    def open(self) -> None:
        """Make a folder to work in, without what an earlier run left there."""
        if (
            all((self.folder / name).exists() for name in (ABOUT, HISTORY, STATE))
            and not (self.folder / FINITE).exists()
        ):
            raise InputError(
                f"{self.home}: a run that was killed waits there; `--resume {self.home}` goes on with it. To "
                f"do without it, delete {self.folder}"
            )
        refuse_strange(self.folder)
        ours = results_of(self.home)
        if strange := [name for name in RESULTS if os.path.lexists(self.home / name) and name not in ours]:
            raise InputError(
                f"{self.home}: expected a folder for results, got one with {listed(strange)} that no run "
                "wrote; --out DIR is another one"
            )
        clear(self.folder)
        make(self.folder)
        self.write(ABOUT, json.dumps(self.about, indent=1) + "\n")  # the first: it says whose files these are
        self.write(LOG, "")

    def reopen(self) -> None:
        """Take the folder as a kill left it, or make it anew from the results of a run that was stopped."""
        stopped = not (self.folder / STATE).exists() and (self.home / STATE).exists()
        if stopped and flags_of(self.home, settled=True) == flags_in(self.home):
            clear(self.folder)
            make(self.folder)
            for name in (ABOUT, LOG, HISTORY, STATE):  # the last one says that all are there
                if name != LOG or (self.home / LOG).exists():
                    self.write(name, content_of(self.home / name))
        self.about = (about_in(self.folder) or self.about) | {"results": None}
        clear(self.folder, all=False)
        if (self.folder / STATE).exists():
            self.muted = True  # the log has what is said until the training goes on
        else:
            self.cut({LOG: 0, HISTORY: 0})

    def log(self, line: str) -> None:
        """Keep a line that is printed elsewhere."""
        if not self.muted:
            super().log(line)

    def lengths(self) -> dict[str, int]:
        """The lengths, in bytes, of the files that grow."""
        grow = (self.folder / name for name in (LOG, HISTORY))
        return {path.name: path.stat().st_size for path in grow if path.exists()}

    def cut(self, lengths: dict[str, int]) -> None:
        """Take files that grow back to their lengths when the state was saved.

        Raises:
            InputError: the history is shorter than that, so a part of it is lost.
        """
        for name, length in lengths.items():
            path = self.folder / name
            there = path.stat().st_size if path.exists() else 0
            if there < length and name == HISTORY:
                raise InputError(f"{path}: expected {length} bytes, as when {STATE} was saved, got {there}")
            if there > length:
                os.truncate(path, length)
        self.muted = False

    def listen(self) -> None:
        """Let the signals that end a program raise a KeyboardInterrupt, but those that it is to ignore."""

        def stop(number, frame):
            first, self.stopped = self.stopped is None, signal.Signals(number).name
            if self.saving or self.ended and first:  # what is left to do takes a moment
                return  # `check` comes after saving; when the training has ended, only a second signal counts
            raise KeyboardInterrupt

        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            with suppress(ValueError, TypeError):  # outside the main thread nobody can listen
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.handlers[number] = signal.signal(number, stop)

    def check(self) -> None:
        """Stop if a signal came and an import or a destructor swallowed what it raised."""
        if self.stopped:
            raise KeyboardInterrupt

    def __exit__(self, kind, error, trace) -> None:
        for number in self.handlers:
            signal.signal(number, signal.SIG_IGN)  # what follows takes a moment, and is not to be torn
        kept = (
            f"; what was learnt by epoch {self.epoch} is kept, and `--resume {self.home}` goes on from there"
        )
        try:
            if error is None:
                self.publish()
            elif isinstance(error, Diverged):
                self.log(f"error: {error}")
            elif self.stopped or isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(kept if self.epoch else str(error)) from None
            elif isinstance(error, InputError) and self.epoch:
                raise InputError(f"{error}{kept}") from None
        finally:
            if not (self.folder / STATE).exists() and not isinstance(error, Diverged):
                clear(self.folder)  # there is nothing to keep
            for number, handler in self.handlers.items():
                signal.signal(number, handler)
            self.leaving.close()

    def publish(self) -> None:
        """Let the results take the places of the earlier run's."""
        names = {path.name for path in self.folder.iterdir()} & set(RESULTS)
        about = self.about | {"results": sorted(names - {STATE} if self.ended else names)}
        self.write(ABOUT, json.dumps(about, indent=1) + "\n")
        os.rename(self.folder, self.home / "finished")  # from here on they are the folder's results
        settle(self.home)


def alone(home: Path):
    """A context in which no other run may work in this folder."""
    return held(home, f"{home}: another run is at work there; --out DIR is another folder for this one")


def settle(home: Path) -> None:
    """Move the results of a run that has come to its end to their places, also where a kill left off."""
    done = home / "finished"
    refuse_strange(done)
    new, old = results_of(done), results_of(home)
    if strange := [
        name
        for name in new
        if name not in old and os.path.lexists(home / name) and os.path.lexists(done / name)
    ]:
        raise InputError(
            f"{home}: expected room for results, got {listed(strange)} that no run wrote; the new results "
            f"wait in {done}, and `--resume {home}` moves them when that is elsewhere"
        )
    try:
        for name in new:
            if name != ABOUT and (done / name).exists():
                os.replace(done / name, home / name)
        if new:
            for name in set(old) - set(new):
                (home / name).unlink(missing_ok=True)
            for name in set(RESULTS) - {ABOUT}:  # the state of a training that came to its end
                (done / name).unlink(missing_ok=True)
            os.replace(done / ABOUT, home / ABOUT)  # the last one: it says what is there
    except OSError as error:
        raise InputError(
            f"{error.filename2 or error.filename}: cannot be replaced ({error.strerror}); the new results "
            f"wait in {done}, and the next run in {home} or --resume moves them"
        ) from None
    clear(done)


def refuse_strange(folder: Path) -> None:
    """Refuse to work in a folder with files that no run put there."""
    ours = folder.is_dir() and not folder.is_symlink()
    if ours and os.path.lexists(folder / ABOUT):
        ours = about_in(folder) is not None
    elif ours:
        ours = all(UNWHOLE.fullmatch(path.name) for path in folder.iterdir())
    if not ours and (folder.exists() or folder.is_symlink()):
        raise InputError(
            f"{folder}: expected a place for a run's files, got what no run put there; "
            "--out DIR is another folder"
        )


def about_in(folder: Path) -> dict | None:
    """What the run.json of a run in this folder says; None if there is none, or it is not from a run."""
    try:
        about = json.loads(content_of(folder / ABOUT, 2**24))
        ours = isinstance(about["flags"], dict) and isinstance(about["versions"], dict)
        return about if ours and about["version"] == 1 else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def results_of(folder: Path) -> list[str]:
    """The names of the results that a run left in this folder."""
    names = (about_in(folder) or {}).get("results")
    return [name for name in RESULTS if isinstance(names, list) and name in names]


def flags_of(home: Path, *, settled: bool = False) -> dict | None:
    """The flags of the run in this folder that was killed or stopped; None of one that came to its end.

    Raises:
        InputError: there is neither.
    """
    if home.is_dir() and not settled:
        with alone(home):
            settle(home)
    for folder in (home / "unfinished", home):
        if (folder / ABOUT).exists() and (folder != home or (home / STATE).exists()):
            return flags_in(folder)
    if results_of(home):
        return None
    raise InputError(f"{home}: expected the folder of a run that was killed or stopped, got none; "
                     "start one without --resume")  # fmt: skip


def has_state(home: Path) -> bool:
    """Whether a run that was killed or stopped can go on there."""
    return (home / "unfinished" / STATE).exists() or (home / STATE).exists()


def has_ended(home: Path, flags: dict) -> bool:
    """Whether the results there are those of a run with these flags that came to its end."""
    about = about_in(home) or {}
    return about.get("flags") == flags and bool(results_of(home)) and not (home / STATE).exists()


def left_behind(home: Path, flags: dict) -> bool:
    """Whether a run with these flags was killed there; what one with others left is taken away."""
    work = home / "unfinished"
    try:
        if flags_of(home) == flags and has_state(home):
            return True
    except InputError:
        pass
    refuse_strange(work)
    clear(work)
    return False


def flags_in(folder: Path) -> dict:
    """The flags of the run whose files are in this folder.

    Raises:
        InputError: its run.json is none that a run wrote.
    """
    if (about := about_in(folder)) is None:
        raise InputError(f"{folder / ABOUT}: not what a run wrote")
    return about["flags"]


def make(folder: Path) -> None:
    """The folder, if it is not there yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be made ({getattr(error, 'strerror', error)})") from None


def clear(folder: Path, *, all: bool = True) -> None:
    """Take away what a run wrote there, or only what is not whole, and the folder if it is empty."""
    names: tuple[str, ...] = (*RESULTS[1:], ABOUT) if all else ()  # the last one says whose files these are
    with suppress(OSError):
        names += tuple(path.name for path in folder.iterdir() if UNWHOLE.fullmatch(path.name))
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()
    with suppress(OSError):
        folder.rmdir()


def versions() -> dict[str, str]:
    """Of Python, and of what computes."""
    found = {"Python": sys.version.split()[0]}
    for name in ("tinyseg", "numpy", "scipy", "autograd"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
