"""A run's folder and its log, and the one place where errors become a line and a status."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from functools import wraps
from pathlib import Path

from tinyseg.errors import InputError
from tinyseg.io.files import write_whole
from tinyseg.training import Diverged

RESULTS = (
    "log.txt", "history.csv", "metrics.json", "model.npz", "data.png", "masks.png", "overlays.png",
    "probability.png", "curves.png", "steps.gif", "epochs.gif",
)  # fmt: skip


def guarded(main):
    """Turn what a user can mend into one line and a status: 2 for bad input, 1 for a run that diverged."""

    @wraps(main)
    def run(argv=None):
        if sys.stdout.errors == "strict":  # a file's name may hold bytes that are no characters
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return main(argv)
        except (InputError, Diverged) as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2 if isinstance(error, InputError) else 1) from None
        except MemoryError:
            print("error: not enough memory; try a smaller --size, --maps or --images", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None
        except BrokenPipeError:  # whoever read along has gone, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python says at its end
            raise SystemExit(141) from None

    return run


class Run:
    """A run's folder: what is said goes to the screen and into a log, results are written whole.

    As a context manager it also logs why a training diverged.
    """

    def __init__(
        self, folder: Path, *, quiet: bool = False, log: str = "log.txt", results: tuple[str, ...] = RESULTS
    ):
        self.folder, self.quiet, self.log_name = folder, quiet, log
        self.lines: list[str] = []
        self.errors, self.start = 0, time.perf_counter()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror})") from None
        for name in results:  # of an earlier run in this folder: results of two runs do not mix
            with suppress(OSError):
                (folder / name).unlink()
        self.write(log, "")  # learn now, not after the training, if it cannot be written

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, Diverged):
            self.log(f"error: {error}")

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self.start

    def say(self, line: str) -> None:
        """Print a line (not if quiet) and keep it."""
        if not self.quiet:
            print(line, flush=True)
        self.log(line)

    def fail(self, message) -> None:
        """Say what is wrong with a part of the work, and go on."""
        self.say(f"error: {message}")
        self.errors += 1

    def log(self, line: str) -> None:
        """Keep a line that is printed elsewhere."""
        self.lines.append(line)
        self.write(self.log_name, "\n".join(self.lines) + "\n")

    def write(self, name: str, content: str | bytes) -> None:
        """A file of this run."""
        write_whole(self.folder / name, content)
