"""Images and masks on disk: a folder of files, large and small, grey and colour, becomes one `Dataset`.

Four steps: pair the files, read their pixels (pixels.py), cut out the centre square, resize it. What cannot
be read rightly is refused, never guessed, and what was found is kept for a user to see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyseg.data.dataset import Dataset
from tinyseg.errors import InputError, listed
from tinyseg.io.pixels import SUFFIXES, binary, centre_square, label_values, read_pixels
from tinyseg.io.preprocessing import Preprocessing, bits_in_use, planes, resize
from tinyseg.ops import UNLABELLED

CLUTTER = ("desktop.ini", "ehthumbs.db", "thumbs.db")  # left behind by file managers


def load_folder(path: str | Path, size: int, *, channels: int = 1, label_maps: bool = False) -> Dataset:
    """Load every image of a folder with its mask: cropped to the centre square, size x size pixels.

    Two layouts are understood, in any mixture of formats:

    - Kaggle's: `<subject>_<image>.tif` beside `<subject>_<image>_mask.tif`;
    - folders `images/` and `masks/` below `path`, with equal names up to the suffix.

    What stands before a name's last underscore is its subject; an image without one is a subject by itself.
    So are all images in `images/` if they share one such beginning (img_1, img_2: a collection, not a
    patient). Names sort naturally, 2 before 10.

    Images come out as (N, channels, size, size) float32 in [0, 1], grey or red, green and blue. 8-bit files
    are divided by 255. 16-bit files often hold 10 or 12 bits, so all of a folder are divided by
    2**bits - 1, with as many bits (8 at least) as the brightest pixel among them needs.

    Masks hold 0 and 1, or 0 and the brightest value (255, 65535), each file for itself; they come out
    as labels (N, size, size) uint8, 1 where at least half is covered. With `label_maps`, each value that
    is found in any of the files is a class, in rising order, and 255 says that nobody annotated a pixel.
    Only where there is nothing but 0 and 255 in all of them are these the two classes. They come out as
    labels (N, size, size) uint8, classes by number and UNLABELLED, whichever covers most.

    Raises:
        InputError: a folder, a pair or a file that cannot be used; the message names it.
    """
    if size < 1:
        raise InputError(f"{path}: expected a size of at least 1 pixel, got {size}")
    pairs = find_pairs(Path(path))
    kaggle = not (Path(path) / "images").is_dir()
    images = np.empty((len(pairs), channels, size, size), np.float32)
    labels = np.empty((len(pairs), size, size), np.uint16)  # values of files, numbered below
    kinds, bits, deep, values, one_bit = [], [], [], set(), False
    for i, (image_file, mask_file) in enumerate(pairs.values()):
        image, mask = read_pixels(image_file), read_pixels(mask_file, indices=label_maps)
        if image.shape[:2] != mask.shape[:2]:
            wanted, got = ("{1}x{0}".format(*pixels.shape) for pixels in (image, mask))
            raise InputError(f"{mask_file}: expected the size of {image_file}, {wanted}, got {got}")
        images[i] = [resize(plane, (size, size)) for plane in planes(centre_square(image), channels)]
        if label_maps:
            one_bit = one_bit or mask.dtype == bool
            mask = label_values(mask, mask_file)
            values |= set(np.unique(mask).tolist())
            check_values(values, path)
            labels[i] = largest(centre_square(mask), size)
        else:
            labels[i] = resize(centre_square(binary(mask, mask_file)), (size, size)) >= 0.5
        kinds.append(kind(image))
        bits.append(bits_in_use(image))
        deep.append(image.dtype == np.uint16)
    deepest = max((b for b, is_deep in zip(bits, deep) if is_deep), default=None)
    bits = [deepest if deepest and is_deep else b for b, is_deep in zip(bits, deep)]
    images /= np.array([2**b - 1 for b in bits], np.float32)[:, None, None, None]
    preprocessing = Preprocessing(size, channels, deepest)
    if label_maps:
        if one_bit and values - {0, 255}:
            raise InputError(f"{path}: expected label maps of one kind, got masks of 1 bit among them")
        labels, preprocessing = numbered(labels, values, preprocessing, path)
    of_each = subjects(pairs, kaggle=kaggle)
    return Dataset(images, labels, tuple(pairs), of_each, preprocessing.names, preprocessing, tuple(kinds))


def kind(image: np.ndarray) -> str:
    """What a file held, in words: its size and its depth."""
    bits = {"bool": "1-bit", "uint8": "8-bit", "uint16": "16-bit"}[image.dtype.name]
    colour = "grey" if image.ndim == 2 else "colour"
    return f"{image.shape[1]} x {image.shape[0]} pixels, {bits} {colour}"


def largest(labels: np.ndarray, size: int) -> np.ndarray:
    """Each new cell gets the value that covers most of it, of equals the lowest: (S, S) to (size, size)."""
    values = np.unique(labels)
    covered = [resize(labels == value, (size, size)) for value in values]
    return values[np.argmax(covered, axis=0)]


def check_values(values: set, path: str | Path, least: int = 0) -> None:
    """Refuse fewer than `least` classes, or more than the numbers below UNLABELLED tell apart."""
    classes = len(values - {UNLABELLED} if values != {0, UNLABELLED} else values)
    if not least <= classes < UNLABELLED:
        raise InputError(
            f"{path}: expected label maps of 2 to {UNLABELLED - 1} classes, "
            f"got the values {listed(sorted(values))}"
        )


def numbered(stored: np.ndarray, values: set, preprocessing: Preprocessing, path: str | Path):
    """Label maps' values as numbers of classes, uint8; and the preprocessing, which knows the values."""
    check_values(values, path, least=2)
    sparse = values != {0, UNLABELLED}  # else these two are an ordinary mask's
    classes = sorted(values - {UNLABELLED} if sparse else values)
    labels = np.searchsorted(classes, stored).astype(np.uint8)
    if sparse:
        labels[stored == UNLABELLED] = UNLABELLED
    names = tuple(f"value {value}" for value in classes)
    return labels, replace(preprocessing, values=tuple(classes), names=names)


def find_pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """{name: (image file, mask file)} of either layout, in natural order."""
    image_folder, mask_folder = folder / "images", folder / "masks"
    if image_folder.is_dir() or mask_folder.is_dir():
        images, masks = image_files(image_folder), image_files(mask_folder)
    else:
        files = image_files(folder)
        images = {stem: file for stem, file in files.items() if not stem.endswith("_mask")}
        masks = {stem.removesuffix("_mask"): file for stem, file in files.items() if stem.endswith("_mask")}
    if not images and not masks:
        layouts = "<subject>_<image>.tif with <subject>_<image>_mask.tif, or images/ with masks/"
        raise InputError(f"{folder}: expected {layouts}, got no image file")
    orphans = sorted(images.keys() ^ masks.keys(), key=natural)
    if orphans:
        file, partner = (images | masks)[orphans[0]], "mask" if orphans[0] in images else "image"
        more = f" ({len(orphans) - 1} more files lack theirs)" if orphans[1:] else ""
        raise InputError(f"{file}: expected its {partner} to be there too, got none{more}")
    return {name: (images[name], masks[name]) for name in sorted(images, key=natural)}


def image_files(folder: Path) -> dict[str, Path]:
    """{name without suffix: file} of a folder's images; hidden files and clutter are passed over."""
    try:
        files = sorted(file for file in folder.iterdir() if not file.is_dir())
    except OSError as error:
        raise InputError(f"{folder}: expected a folder of images, got: {error.strerror}") from None
    by_stem: dict[str, Path] = {}
    for file in files:
        if file.name.startswith(".") or file.name.lower() in CLUTTER:
            continue
        if file.suffix.lower() not in SUFFIXES:
            raise InputError(f"{file}: expected an image ({' '.join(SUFFIXES)}), got an unsupported format")
        if file.stem in by_stem:
            raise InputError(f"{file}: expected one file of this name, got {by_stem[file.stem].name} as well")
        by_stem[file.stem] = file
    return by_stem


def images_in(place: Path) -> list[Path]:
    """A file itself; of a folder, or `images/` in it, all image files in natural order but the masks."""
    if not place.exists():
        raise InputError(f"{place}: expected an image or a folder of images, got nothing of this name")
    if not place.is_dir():
        return [place]
    place = place / "images" if (place / "images").is_dir() else place
    files = [f for f in place.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
    stems = {file.stem for file in files}
    images = [f for f in files if not (f.stem.endswith("_mask") and f.stem.removesuffix("_mask") in stems)]
    images = [file for file in images if not file.is_dir()]
    if not images:
        raise InputError(f"{place}: expected images ({' '.join(SUFFIXES)}), got none")
    return sorted(images, key=lambda file: natural(file.name))


def truth_of(image: Path) -> Path | None:
    """The true mask of an image file in either layout, if there is one."""
    places = [(image.parent, f"{image.stem}_mask")]
    if image.parent.name == "images":
        places.append((image.parent.parent / "masks", image.stem))
    ends = [case for suffix in SUFFIXES for case in (suffix, suffix.upper(), suffix.title())]
    candidates = (folder / (stem + end) for folder, stem in places for end in ends)
    return next((file for file in candidates if file.is_file()), None)


def natural(name: str) -> tuple:
    """A sort key by which numbers inside a name count as numbers: 2 before 10."""
    parts = re.split(r"(\d+)", name)  # text and digits alternate, so that like is compared with like
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def subjects(names: Iterable[str], *, kaggle: bool) -> tuple[str, ...]:
    """Whom each image was taken from: `12` for `12_3`; an image without an underscore is by itself."""
    names = tuple(names)
    before = tuple(name.rpartition("_")[0] or name for name in names)
    return before if kaggle or len(set(before)) > 1 else names
