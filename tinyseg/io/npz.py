"""Arrays in one .npz file, from whomever it came: sizes are compared before memory is taken. No pickle.

An .npz file is a zip archive with an entry, an .npy file, for each array. A few kilobytes of it may claim
gigabytes, or unfold to them. So there are bounds, and the smaller thing is always read first: the archive's
list of entries, then an entry's header, then its array.
"""

from __future__ import annotations

import json
import math
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo, is_zipfile

import numpy as np
from numpy.lib import format as npy

from tinyseg.errors import InputError, brief
from tinyseg.io.files import content_of

MOST_BYTES = 2**32  # of a file, and of its arrays
MOST_ENTRIES = 10**5
MOST_RATIO = 100  # of the arrays' bytes to the file's: trained weights hardly shrink
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """An .npz file of these arrays.

    Raises:
        ValueError: a name or a size that `read_arrays` would refuse.
    """
    if odd := [name for name in arrays if not _plain(name)]:
        raise ValueError(f"expected printable names that are no paths, got {odd[0]!r}")
    content = BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # which takes names for flags
    if content.tell() > MOST_BYTES:
        raise ValueError(f"expected arrays of at most {MOST_BYTES} bytes, got {content.tell()}")
    return content.getvalue()


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name.

    Raises:
        InputError: no such file, no regular file, larger than MOST_BYTES, or not a whole .npz file of plain
            arrays.
    """
    content = content_of(path, MOST_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a header that NumPy can only guess at
            return _arrays(content)
    except Exception as error:  # what a damaged file sets off inside a decoder may be anything
        reason = brief(error) or type(error).__name__
        raise InputError(f"{path}: not a whole .npz file ({reason})") from None


def json_in(array: np.ndarray, most: int, **how: Any) -> Any:
    """The JSON that an array () of text holds, of at most `most` letters; `how` as of `json.loads`.

    Raises:
        ValueError: it is no text, longer, no JSON, or nested too deeply.
    """
    if array.dtype.kind != "U" or array.shape or array.dtype.itemsize > 4 * most:  # 4 bytes for a letter
        raise ValueError(f"expected a text of at most {most} letters, got {array.dtype} {array.shape}")
    try:
        return json.loads(str(array), **how)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """All arrays of an .npz file with this content; anything may be raised."""
    if not is_zipfile(BytesIO(content)):
        raise ValueError("no zip archive, or its end is missing")
    if content.count(b"PK\1\2") > MOST_ENTRIES:  # so begins each line of the list, which ZipFile reads whole
        raise ValueError(f"more than {MOST_ENTRIES} entries")
    with ZipFile(BytesIO(content)) as archive:
        entries = archive.infolist()
        names = [entry.filename.removesuffix(".npy") for entry in entries]
        for name, entry in zip(names, entries):
            if name == entry.filename or not _plain(name):
                raise ValueError(f"an entry of the odd name {entry.filename!r}")
            if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                raise ValueError(f"{entry.filename} is compressed in an unknown way")
        if len(set(names)) < len(names):
            raise ValueError("two entries of one name")
        claimed = sum(entry.file_size for entry in entries)
        if claimed > min(MOST_BYTES, MOST_RATIO * len(content)):
            raise ValueError(f"{len(content)} bytes claim to hold {claimed}")
        return {name: _array(archive, entry) for name, entry in zip(names, entries)}


def _array(archive: ZipFile, entry: ZipInfo) -> np.ndarray:
    """One array; its header must agree with the entry's size."""
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        shape, _, dtype = HEADERS[version](file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or not dtype.itemsize or min(shape, default=0) < 0:
            raise ValueError(f"{entry.filename} holds {dtype} {shape}")
        if file.tell() + size != entry.file_size:
            raise ValueError(f"{entry.filename} has {entry.file_size} bytes, {dtype} {shape} needs {size}")
    with archive.open(entry) as file:
        array = npy.read_array(file, allow_pickle=False)
        file.read(1)  # its end, where the archive's checksum is compared
    return array


def _plain(name: str) -> bool:
    """Whether this is a name of an array, and no path to anywhere else."""
    return name.isprintable() and name[:1] != "/" and "\\" not in name and ".." not in name.split("/")
