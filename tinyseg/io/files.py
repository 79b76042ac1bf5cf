"""Files are written whole or not at all, and one folder is one program's at a time."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident

from tinyseg.errors import InputError

PART = ".part"  # how the name of a file ends that is not whole yet


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write to a neighbouring file first and rename it, which is one indivisible step.

    Any number of processes and threads may do so at once; the last one's content stays.

    Raises:
        InputError: the place cannot be written to; what was there before is there still.
    """
    path = Path(path)
    beside = path.parent / f".{os.getpid()}-{get_ident()}{PART}"
    try:
        if isinstance(content, str):  # file names in it may hold bytes that are no characters
            content = content.encode(errors="surrogateescape")
        with open(beside, "wb") as file:
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
    path = folder / ".lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from None
    try:
        if not _locked(file) or not os.path.samestat(os.fstat(file), _stat(path)):  # or its holder just left
            raise InputError(message)
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no file that is open
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
