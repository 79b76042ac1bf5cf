"""Files are written whole or not at all: a reader never meets half of one."""

from __future__ import annotations

import os
from pathlib import Path

from tinyseg.errors import InputError


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write to a neighbouring file first and rename it, which is one indivisible step.

    Raises:
        InputError: the place cannot be written to; nothing is left there.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        beside.unlink(missing_ok=True) if beside.parent.is_dir() else None
