"""Masks as run lengths in a CSV file, as Kaggle's competitions have them.

A run is a stretch of pixels of the mask, written as its start and its length. Pixels are counted from 1, from
top to bottom, then from left to right.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tinyseg.errors import InputError
from tinyseg.io.files import write_whole
from tinyseg.io.pixels import stem_of

MOST_BYTES = 10**9  # of a CSV file
COLUMNS = ["img", "pixels"]  # of the tables that we write
EMPTY = ("", "-1")  # what stands for a mask of no pixel
TITLES = re.compile(r"(encoded_?)?(pixels|masks?|runs?)|encoding|(mask_)?rles?(_masks?)?|segmentation", re.I)


def encode(mask: np.ndarray) -> str:
    """The runs of a mask, (H, W) bool: "start length start length ...", and "" if it is empty."""
    line = np.zeros(mask.size + 2, np.int8)  # begins and ends outside of the mask
    line[1:-1] = mask.T.ravel()  # (H, W) to (W * H,), column by column
    edges = np.flatnonzero(np.diff(line)) + 1  # first of a run, first after it, first of the next, ...
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges.tolist()))


def decode(text: str, size: tuple[int, int]) -> np.ndarray:
    """The mask that runs stand for.

    Args:
        text: the runs; "" and "-1" are an empty mask.
        size: (H, W).

    Returns:
        (H, W) bool.

    Raises:
        InputError: these are no runs in an image of this size. The message does not know the file's name.
    """
    pixels = size[0] * size[1]
    longest = 2 * (pixels + 1) * (len(str(pixels)) + 1)  # as if each pixel were a run of its own
    if len(text) > longest:
        raise InputError(f"run lengths: expected at most {longest} characters, got {len(text)}")
    words = [] if text.strip() in EMPTY else text.split()
    if odd := next((word for word in words if not (word.isascii() and word.isdigit())), None):
        raise InputError(f"run lengths: expected whole numbers above 0, got {odd[:20]!r}")
    if len(words) % 2:
        raise InputError(f"run lengths: expected pairs of start and length, got {len(words)} numbers")
    big = pixels + 1  # stands for any number beyond the image, however large
    numbers = [int(word) if len(word) <= len(str(big)) else big for word in words]
    starts, lengths = np.array(numbers, np.int64).reshape(-1, 2).T - [[1], [0]]  # (2 * runs,) to 2 x (runs,)
    ends = starts + lengths
    for good, expected in (
        ((starts >= 0) & (lengths > 0), "starts and lengths of at least 1"),
        (ends <= pixels, f"runs within {size[1]} x {size[0]} pixels"),
        (np.diff(starts, prepend=-1) > 0, "rising starts"),
        (starts >= np.append(0, ends)[:-1], "runs that do not overlap"),
    ):
        if not good.all():
            i = int(np.argmin(good))
            run = " ".join(word[:20] for word in words[2 * i : 2 * i + 2])
            raise InputError(f"run lengths: expected {expected}, got run {i + 1}: {run}")
    steps = np.zeros(pixels + 1, np.int8)
    steps[starts] += 1  # each start once, so that none is lost
    steps[ends] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).reshape(size[::-1]).T.astype(bool)  # (W * H,) to (H, W)


def table(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not blank, each with the number of its line: at first the header.

    Raises:
        InputError: it is no regular file, of more than MOST_BYTES, or no CSV.
    """
    line, limit = 1, csv.field_size_limit()
    try:
        if not file.is_file():
            raise InputError(f"{file}: expected a CSV file, got none of this name")
        if (size := file.stat().st_size) > MOST_BYTES:
            raise InputError(f"{file}: expected a CSV of at most {MOST_BYTES} bytes, got {size}; split it")
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            reader = csv.reader(lines)
            while True:
                csv.field_size_limit(MOST_BYTES)  # one mask may be longer than csv's own limit
                try:
                    row = next(reader, None)
                finally:
                    csv.field_size_limit(limit)  # it is everybody's
                line = reader.line_num
                if row is None:
                    return
                if any(field.strip() for field in row):
                    yield line, [field.strip() for field in row]
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", error)
        raise InputError(f"{file}, line {line}: expected a CSV file, got: {reason}") from None


def is_runs(file: Path) -> bool:
    """Whether a CSV file's header ends like that of run lengths."""
    try:
        _, header = next(table(file))
    except (InputError, StopIteration):
        return False
    return len(header) > 1 and bool(TITLES.fullmatch(header[-1]))


def read_runs(file: Path) -> dict[str, tuple[str, ...]]:
    """{name of an image: the runs of each of its objects}, "" where nothing is there.

    The last column has the runs. Those before it, joined by "_", are the name; an image's ending is left out.

    Raises:
        InputError: it is no such CSV; the message names the file and the line.
    """
    rows = table(file)
    _, header = next(rows, (1, []))
    if len(header) < 2 or not TITLES.fullmatch(header[-1]):
        got = ",".join(header)[:80] or "nothing"
        raise InputError(
            f"{file}, line 1: expected a header such as img,pixels or ImageId,EncodedPixels, with commas, "
            f"got {got}"
        )
    runs: dict[str, list[str]] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(f"{file}, line {line}: expected {len(header)} columns, got {len(row)}")
        runs.setdefault(stem_of("_".join(row[:-1])), []).append("" if row[-1] in EMPTY else row[-1])
    return {name: tuple(objects) for name, objects in runs.items()}


def write_runs(file: str | Path, runs: Mapping[str, str]) -> None:
    """Write run lengths {name of an image: as `encode` gives them} as a CSV of the columns img and pixels.

    Raises:
        InputError: the place cannot be written to, or holds another table; what was there is there still.
    """
    file = Path(file)
    if file.exists() and next(table(file), (1, []))[1] != COLUMNS:
        raise InputError(f"{file}: expected a new file, or run lengths to write anew, got another file")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(runs.items())
    write_whole(file, text.getvalue())
