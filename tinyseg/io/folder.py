"""Images and masks on disk become one `Dataset`: whole images of any sizes, formats and codes.

Pair the files (pairing.py), look at all masks to learn what their values mean (masks.py), read each image
with its mask (pixels.py), resize both. What cannot be read rightly is refused, never guessed, and what was
found is kept for a user to see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from tinyseg.data.dataset import Dataset, of_any_size
from tinyseg.errors import InputError
from tinyseg.io.masks import Census, Meaning, meaning_of
from tinyseg.io.pairing import Found, Pair, find_pairs
from tinyseg.io.pixels import READ_LIMIT, NoReader, Page, read_pages
from tinyseg.io.preprocessing import Levels, Preprocessing, in_window, is_deep, resize, window_of
from tinyseg.io.rle import decode
from tinyseg.io.tiles import GB, free_memory
from tinyseg.ops import UNLABELLED

Window = tuple[float | str, float | str]  # --window: levels, or shares of the training's pixels such as "1%"


@dataclass(frozen=True)
class OwnLabels:
    """The labels of images at their files' own size, read when one asks: indexed as an array (N,)."""

    places: tuple[tuple[Pair, int, tuple[tuple[int, int], ...]], ...]  # pair, page, (H, W) of all its pages
    meaning: Meaning
    memory: float

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index):
        if isinstance(index, int | np.integer):
            pair, page, shapes = self.places[index]
            return labels_of(pair, shapes, self.meaning, self.memory)[page]
        return replace(self, places=tuple(self.places[i] for i in np.arange(len(self))[index]))


@dataclass(frozen=True)
class Loaded:
    """What a folder holds, before anybody has said which levels are black and white."""

    data: Dataset  # images of 8 bits in [0, 1], those of more with the levels of their files
    dtypes: tuple[np.dtype, ...]  # of each image's file
    levels: tuple[Levels | None, ...]  # of each that has more than 8 bits
    parts: tuple[str, ...]  # "train", "val" or "test", where the folder has a split of its own
    names: tuple[str, ...]  # of all images
    own_counts: np.ndarray  # (N, 256): pixels of each label at the files' own size
    found: Found
    masks: str  # in words, how they are read
    turned: int  # how many images were set upright
    unsure: int  # of these, those of which no size tells whether the mask fits

    def window(self, train: np.ndarray, wanted: Window | None = None) -> tuple[float, float] | None:
        """The window of all files of more than 8 bits: as wanted, or by those of the training, (N,) bool."""
        deep = [i for i, levels in enumerate(self.levels) if levels]
        if not deep:
            if wanted:
                raise InputError("--window: expected images of more than 8 bits, got none; leave it out")
            return None
        seen = [i for i in deep if train[i]] or deep
        if wanted is None:
            try:
                return window_of([levels for i in seen if (levels := self.levels[i])])
            except ValueError as error:
                raise InputError(f"{self.names[seen[0]]} and others: {error}") from None
        low, high = (self._level(end, seen) for end in wanted)
        if low >= high:
            raise InputError(f"--window: expected a lower and a higher level, got {low:g} and {high:g}")
        return low, high

    def _level(self, end: float | str, seen: list[int]) -> float:
        if not isinstance(end, str):
            return float(end)
        values = [self.data.images[i].ravel() for i in seen]
        every = max(1, sum(map(len, values)) // 10**7)  # enough for a percentile
        return float(np.percentile(np.concatenate([one[::every] for one in values]), float(end.rstrip("%"))))

    def ready(self, train: np.ndarray | None = None, window: Window | None = None) -> Dataset:
        """The images in [0, 1], by a window that only those of the training decide on, (N,) bool."""
        train = np.ones(len(self.data), bool) if train is None else train
        images, ends = self.data.images, self.window(train, window)
        if ends:
            images = of_any_size(
                in_window(image, dtype, ends) if is_deep(dtype) else image
                for image, dtype in zip(images, self.dtypes)
            )
        return replace(self.data, images=images, preprocessing=replace(self.data.preprocessing, window=ends))


def load_folder(
    path: str | Path,
    size: int = 64,
    *,
    channels: int = 1,
    label_maps: bool = False,
    window: Window | None = None,
) -> Dataset:
    """Every image of a folder with its mask, whole, the shorter side resized to `size` pixels (0: as it is).

    The folder has one of the layouts that pairing.py knows. The images come out as float32 in [0, 1], with 1
    channel (grey), 3 (colour), or as many as all files have. The labels come out as uint8: of masks 0 and 1,
    where a pixel is 1 if at least half of what it covers is; with `label_maps` a number for each value that
    is found in any of the files, in rising order, or UNLABELLED, whichever covers most.

    Raises:
        InputError: a folder, a pair or a file that cannot be used; the message names it, and all others.
    """
    found = find_pairs(Path(path))
    return read_found(
        found, Preprocessing(_checked(size, path), channels), two=not label_maps, window=window
    ).ready(window=window)


def _checked(size: int, path) -> int:
    if size < 0:
        raise InputError(f"{path}: expected a size of at least 1 pixel, or 0 for the images' own, got {size}")
    return size


def read_found(
    found: Found,
    preprocessing: Preprocessing,
    *,
    two: bool,
    values: str | tuple[int, ...] | None = None,
    ignore: int | str | None = None,
    colours: dict[int, str] | None = None,
    window: Window | None = None,
    memory: float | None = None,
) -> Loaded:
    """Read pairs of images and masks.

    Args:
        found: the pairs.
        preprocessing: size and channels; its window and masks are found out here.
        two, values, ignore, colours: as of `masks.meaning_of`.
        window: as wanted; one that begins below 0 says that 16-bit levels are signed numbers.
        memory: bytes that all images together may take (None: half of what is free), and one file, if that is
            more than READ_LIMIT.

    Raises:
        InputError: files that cannot be used; the message names them all.
    """
    limit, room = max(READ_LIMIT, memory or 0), memory or free_memory()
    faults: list[str] = []
    census = Census()
    for pair in found.pairs:
        for file in pair.masks if values or not census.of_photographs else ():
            with_faults(faults, count_pages, census, file, limit)
    for pair in found.pairs if faults else ():  # all files at fault are named at once
        with_faults(faults, read_pages, pair.image, memory=limit)
    refuse(faults)
    meaning, said = Meaning(above=0), "run lengths of a CSV"
    if census.counts:
        source = next(file for pair in found.pairs for file in pair.masks).parent
        meaning, said = meaning_of(
            census, two=two, values=values, ignore=ignore, colours=colours, source=source
        )
    elif values or ignore or colours:
        raise InputError("--mask-values, --ignore, --colours: expected masks in files, got none")
    low = window[0] if window and not isinstance(window[0], str) else 0.0
    preprocessing = replace(preprocessing, masks=meaning, window=(low, low + 1) if low < 0 else None)
    columns: dict[str, list] = {name: [] for name in ("images", "labels", "names", "subjects", "kinds")}
    places, dtypes, levels, parts, counts = [], [], [], [], []
    turned = unsure = taken = 0
    for pair in found.pairs:
        pages = with_faults(faults, read_pages, pair.image, memory=limit)
        if pages is None:
            continue
        shapes = tuple(page.pixels.shape[:2] for page in pages)
        known = with_faults(
            faults, labels_of, pair, shapes, meaning, limit, any(page.turned for page in pages), pages[0].axes
        )
        for i, page in enumerate(pages if known else []):
            shape = with_faults(faults, preprocessing.shape, page.pixels, named=pair.image)
            if shape is None:
                continue
            height, width = shape
            taken += height * width * (4 * preprocessing.channels + 1)
            if taken > room or 16 * height * width > limit:
                raise InputError(
                    f"{pair.image}: expected images that fit into memory, got {width} x {height} pixels at "
                    f"--size {preprocessing.size}, {taken / GB:.1f} GB with those before it, and "
                    f"{min(room, limit) / GB:.1f} GB are allowed; a smaller --size, or --memory GB"
                )
            image = with_faults(faults, preprocessing.resized, page.pixels, named=pair.image)
            if faults:  # there is no use for the rest but to name what is wrong with it
                continue
            deep = is_deep(page.pixels.dtype)
            columns["images"].append(image if deep else in_window(image, page.pixels.dtype, None))
            columns["labels"].append(resized_labels(known[i], (height, width)))
            columns["names"].append(pair.name + (f"_page{i + 1}" if len(pages) > 1 else ""))
            columns["subjects"].append(pair.subject)
            columns["kinds"].append(kind(page))
            places.append((pair, i, shapes))
            dtypes.append(page.pixels.dtype)
            levels.append(Levels.of(page.pixels) if deep else None)
            parts.append(pair.part)
            counts.append(np.bincount(known[i].ravel(), minlength=UNLABELLED + 1))
        turned += any(page.turned for page in pages)
        unsure += any(page.turned in (2, 3, 4) or page.turned and shape[0] == shape[1]
                      for page, shape in zip(pages, shapes))  # fmt: skip
    refuse(faults)
    images, labels = (of_any_size(columns.pop(name)) for name in ("images", "labels"))
    alike = all(shapes[page] == one.shape for (_, page, shapes), one in zip(places, labels))
    own = None if alike else OwnLabels(tuple(places), meaning, limit)
    of_each = {name: tuple(column) for name, column in columns.items()}
    data = Dataset(
        images, labels, **of_each, class_names=meaning.names, preprocessing=preprocessing, own_labels=own
    )
    about = tuple(dtypes), tuple(levels), tuple(parts), data.names, np.array(counts)
    return Loaded(data, *about, found, said, turned, unsure)


def count_pages(census: Census, file: Path, memory: float) -> None:
    """Count the values of a mask file."""
    for page in read_pages(file, memory=memory, mask=True):
        census.add(page, file)


def with_faults(faults: list[str], do: Callable, *args, named: Path | None = None, **how):
    """What `do` returns; or None, with its error among the faults, all of which are named at once."""
    try:
        return do(*args, **how)
    except NoReader:  # it would be the same of each file
        raise
    except ValueError as error:  # an InputError names its file
        faults.append(f"{named}: {error}" if named else str(error))


def refuse(faults: list[str], most: int = 20) -> None:
    """One error for all faults."""
    faults = list(dict.fromkeys(faults))  # pages of a file may have the same one
    if not faults:
        return
    if len(faults) == 1:
        raise InputError(faults[0])
    more = f"; and {len(faults) - most} more" if faults[most:] else ""
    raise InputError(f"{len(faults)} files cannot be used: {'; '.join(faults[:most])}{more}")


def labels_of(
    pair: Pair,
    shapes: tuple[tuple[int, int], ...],
    meaning: Meaning,
    memory: float,
    turned: bool = False,
    axes: str = "",
) -> list[np.ndarray]:
    """The labels of each page of an image, (H, W) uint8, as its masks have them; of several masks, all parts.

    `turned` and `axes` are what the image's pages say: see `Page`.

    Raises:
        InputError: another size, other pages or values than expected, or parts that contradict each other.
    """
    if pair.runs is not None:
        if len(shapes) > 1:
            raise InputError(f"{pair.image}: expected one page for run lengths, got {len(shapes)}")
        runs = [decode(text, shapes[0]) for text in pair.runs]
        return [np.any(runs, axis=0).astype(np.uint8) if runs else np.zeros(shapes[0], np.uint8)]
    merged = [np.zeros(shape, np.uint8) for shape in shapes]
    for number, file in enumerate(pair.masks):
        pages = read_mask(file, memory)
        if len(pages) != len(shapes):
            axes = "; its axes are (H, W, channels), or (pages, H, W)" * pair.image.name.endswith(".npy")
            raise InputError(
                f"{file}: expected {len(shapes)} pages, as {pair.image} has, got {len(pages)}{axes}"
            )
        for i, (page, shape) in enumerate(zip(pages, shapes)):
            if axes and page.axes and page.axes != axes:
                raise InputError(
                    f"{file}: expected the axes of {pair.image}, {axes}, got {page.axes}; save the mask with "
                    "the image's affine"
                )
            if page.pixels.shape[:2] != shape:
                wanted, got = ("{1}x{0}".format(*one) for one in (shape, page.pixels.shape))
                way_out = "; save the mask at the image's size"
                if turned:
                    way_out = (
                        "; the image was set upright by its EXIF tag: draw the mask on the upright image"
                    )
                raise InputError(f"{file}: expected the size of {pair.image}, {wanted}, got {got}{way_out}")
            labels = meaning.labels(page, file)
            merged[i] = _both(merged[i], labels, file) if number else labels
    return merged


@lru_cache(maxsize=1)
def read_mask(file: Path, memory: float) -> list[Page]:
    """The pages of a mask. The last file is remembered, because a stack's pages are asked for in turn."""
    return read_pages(file, memory=memory, mask=True)


def _both(one: np.ndarray, other: np.ndarray, file: Path) -> np.ndarray:
    """The labels of two parts of one mask: where one has nothing, what the other has."""
    nothing = (one == 0) | (one == UNLABELLED)
    if (~nothing & (other != 0) & (other != UNLABELLED) & (one != other)).any():
        raise InputError(f"{file}: expected parts of one mask, got another class where a part before has one")
    return np.where(nothing & (other != UNLABELLED), np.where(other == 0, one, other), one)


def resized_labels(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The label that covers most of each new cell, (H, W) to `shape`; of equals the lowest, of a mask's 1."""
    if labels.shape == shape:
        return labels
    values = np.unique(labels)
    if values[-1] <= 1:
        return (resize(labels, shape) >= 0.5).astype(np.uint8)
    return values[np.argmax([resize(labels == value, shape) for value in values], axis=0)]


def kind(page: Page) -> str:
    """What a file held, in words: its size and its depth."""
    image = page.pixels
    bits = f"{1 if image.dtype == bool else 8 * image.itemsize}-bit"
    levels = {"i": "signed", "f": "float"}.get(
        image.dtype.kind, bits
    )  # of which the file's own bits are unknown
    samples = 1 if image.ndim == 2 else image.shape[2]
    colour = {1: "grey", 3: "colour"}.get(samples, f"of {samples} channels")
    clear = " (transparency left out)" if page.alpha is not None and np.ptp(page.alpha) else ""
    return f"{image.shape[1]} x {image.shape[0]} pixels, {levels} {colour}{clear}"
