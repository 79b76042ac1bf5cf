"""What is in a folder, in natural order: its files, its folders and theirs, but no endless loop of links."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tinyseg.errors import InputError
from tinyseg.io.files import content_of
from tinyseg.io.pixels import has_image_suffix

MOST_FILES, MOST_LEVELS = 10**6, 50
MOST_NAMED = 20  # in one message
LISTS = {"run.json": "flags", "segment.json": "results"}  # which say that a folder has results of ours
CLUTTER = ("desktop.ini", "ehthumbs.db", "thumbs.db", "__macosx")  # left behind by file managers


@dataclass(frozen=True)
class Tree:
    """A folder, the files in it, and the folders in it."""

    path: Path
    files: tuple[Path, ...]
    folders: tuple[Tree, ...]

    def walk(self) -> Iterator[Tree]:
        """This folder and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()

    def all(self) -> list[Path]:
        """Every file, at any depth."""
        return [file for tree in self.walk() for file in tree.files]

    def named(self, names: Iterable[str]) -> tuple[Tree, ...]:
        """The folders in it of these names, large or small letters, that hold images at any depth."""
        named = (f for f in self.folders if re.sub("[ -]", "_", f.path.name.lower()) in names)
        return tuple(folder for folder in named if folder.has_images())

    def has_images(self) -> bool:
        """Whether there is any image file, at any depth."""
        return any(has_image_suffix(file.name) for tree in self.walk() for file in tree.files)


def tree(folder: Path, above: tuple[str, ...] = (), seen: Iterator[int] | None = None) -> Tree:
    """List a folder and all below it, but for results of ours.

    Args:
        folder: where.
        above: real paths of folders that are left out, so that no link leads back up.
        seen: counts files and folders.

    Raises:
        InputError: a folder that cannot be read, or that holds more than MOST_FILES and MOST_LEVELS.
    """
    seen = seen or count(1)
    files, folders = listing(folder)
    ours = results_in(folder, files)
    above = (*above, os.path.realpath(folder))
    if len(above) > MOST_LEVELS or any(next(seen) > MOST_FILES for _ in files + folders):
        bounds = f"{MOST_FILES} files and {MOST_LEVELS} folders within each other"
        raise InputError(f"{folder}: expected at most {bounds}, got more; give a folder below")
    below = (tree(f, above, seen) for f in folders if not _holds(os.path.realpath(f), above))
    return Tree(folder, tuple(file for file in files if file.name not in ours), tuple(below))


def results_in(folder: Path, files: Iterable[Path]) -> set[str]:
    """The names of what a run or a segmentation of ours wrote in a folder: nobody's images."""
    names = {file.name for file in files}
    for about in LISTS.keys() & names:
        with suppress(InputError, ValueError, TypeError, RecursionError):
            said = json.loads(content_of(folder / about))
            if isinstance(said, dict) and {"version", LISTS[about]} <= said.keys():
                return names & {*said["results"]} if about == "segment.json" else names
    return set()


def _holds(real: str, above: tuple[str, ...]) -> bool:
    """Whether a folder is one of these or has one of them in it: a link there leads round in a circle."""
    return any(Path(one).is_relative_to(real) for one in above)


def listing(folder: Path, start: str = "") -> tuple[list[Path], list[Path]]:
    """The files and the folders in a folder whose names begin so, but what is hidden and clutter.

    Raises:
        InputError: it cannot be read.
    """
    files: list[Path] = []
    folders: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if start and not unicodedata.normalize("NFC", entry.name).startswith(start):
                    continue
                if not entry.name.startswith(".") and entry.name.lower() not in CLUTTER:
                    (folders if entry.is_dir() else files).append(folder / entry.name)
    except (OSError, ValueError) as error:
        place, reason = getattr(error, "filename", None) or folder, getattr(error, "strerror", None) or error
        raise InputError(f"{place}: expected a folder of images, got: {reason}") from None
    return sorted(files, key=lambda f: natural(f.name)), sorted(folders, key=lambda f: natural(f.name))


def natural(name: str) -> tuple:
    """A sort key by which numbers inside a name count as numbers: 2 before 10."""
    parts = re.split(r"(\d+)", name)  # text and digits alternate, so that like is compared with like
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def relative(file: Path, root: Path) -> str:
    """A file's name for a message: relative to a folder if it is in it."""
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


def one_line(message: str) -> str:
    """A message without what is no printable character: a file's name may hold any."""
    return "".join(character if character.isprintable() else "?" for character in message)
