"""Files are written whole or not at all, and one folder is one program's at a time."""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident

from tinyseg.errors import InputError

UNWHOLE = re.compile(r"\.\d+-\d+\.part")  # the name of a file that is not whole yet: process, thread
LOCK = ".tinyseg.lock"


def content_of(path: str | Path, most: int = 2**32) -> bytes:
    """What a regular file holds: a pipe or a device may have no end.

    Raises:
        InputError: there is no such file, or none that can be read, or it has more than `most` bytes.
    """
    try:
        about = os.stat(path)  # before it is opened: to open a pipe may take for ever
        if stat.S_ISREG(about.st_mode) and about.st_size <= most:
            with open(path, "rb") as file:
                return file.read(about.st_size)  # what the system makes up as one reads may have no end
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", error) or "not enough memory"
        raise InputError(f"{path}: cannot be read ({reason})") from None
    if stat.S_ISREG(about.st_mode):
        raise InputError(f"{path}: expected a file of at most {most} bytes, got {about.st_size}")
    what = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or a device"
    raise InputError(f"{path}: cannot be read (expected a file, got {what})")


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write to a neighbouring file first and rename it, which is one indivisible step.

    Any number of processes and threads may do so at once; the last one's content stays.

    Raises:
        InputError: the place cannot be written to; what was there before is there still.
    """
    path = Path(path)
    beside = path.parent / f".{os.getpid()}-{get_ident()}.part"  # see UNWHOLE
    try:
        if isinstance(content, str):  # file names in it may hold bytes that are no characters
            content = content.encode(errors="surrogateescape")
        beside.unlink(missing_ok=True)  # of a process of this number that was killed
        with open(beside, "xb") as file:  # never through a link that somebody laid there
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name with nothing in it
        os.replace(beside, path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({getattr(error, 'strerror', error)})") from None
    finally:
        with suppress(OSError, ValueError):
            beside.unlink()


def append(path: str | Path, text: str) -> None:
    """Add text at the end of a file, which need not be there yet.

    Raises:
        InputError: it cannot be written to.
    """
    try:
        with open(path, "ab") as file:
            file.write(text.encode(errors="surrogateescape"))
            file.flush()
            os.fsync(file.fileno())  # before a state that speaks of it
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


@contextmanager
def held(folder: Path, message: str):
    """While the body runs, whoever else asks to hold this folder gets the InputError `message`.

    The operating system lets go when the process ends, however it ends.
    """
    path = folder / LOCK
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from None
    try:
        if not _locked(file) or not os.path.samestat(os.fstat(file), _stat(path)):  # or its holder just left
            raise InputError(message)
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no file that is open
                if not os.fstat(file).st_size:  # ours is empty
                    path.unlink()
    finally:
        os.close(file)


def _stat(path):
    try:
        return os.stat(path)
    except OSError:
        return os.stat(path.parent)


def _locked(file: int) -> bool:
    """Whether this process got the lock of an open file."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: then nobody can be refused
        return True
    return True
