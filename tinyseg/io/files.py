"""Files are written whole or not at all: a reader never meets half of one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tinyseg.errors import InputError


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write to a neighbouring file first and rename it, which is one indivisible step.

    Raises:
        InputError: the place cannot be written to; nothing is left there.
    """
    path = Path(path)
    beside = path.parent / f".{path.name}.{os.getpid()}"
    try:
        if isinstance(content, str):  # file names in it may hold bytes that are no characters
            content = content.encode(errors="surrogateescape")
        beside.write_bytes(content)
        os.replace(beside, path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({getattr(error, 'strerror', error)})") from None
    finally:
        with suppress(OSError, ValueError):
            beside.unlink()
