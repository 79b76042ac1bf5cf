"""Images and masks on disk: a folder of files, large and small, grey and colour, becomes one `Dataset`.

Five steps, each a function or two: pair the files, read their pixels, turn colour into grey, cut out
the centre square, resize it. What cannot be read rightly is refused, never guessed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from tinyseg.data.dataset import Dataset
from tinyseg.errors import InputError

# The formats of which Pillow notices every truncated file (of JPEG 2000, for one, it does not).
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
CLUTTER = ("desktop.ini", "ehthumbs.db", "thumbs.db")  # left behind by file managers
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "I;16B")  # Pillow's names for grey, palette, colour
LUMA = np.array([299.0, 587.0, 114.0])  # Rec. 601 in thousandths: whole numbers keep white exactly white


def load_folder(path: str | Path, size: int) -> Dataset:
    """Load every image of a folder with its mask: grey, cropped to the centre square, size x size pixels.

    Two layouts are understood, in any mixture of formats:

    - Kaggle's: `<subject>_<image>.tif` beside `<subject>_<image>_mask.tif`;
    - folders `images/` and `masks/` below `path`, with equal names up to the suffix.

    What stands before a name's last underscore is its subject; an image without one is a subject by itself.
    So are all images in `images/` if they share one such beginning (img_1, img_2: a collection, not a
    patient). Names sort naturally, 2 before 10.

    Images come out as (N, 1, size, size) float32 in [0, 1]. 8-bit files are divided by 255. 16-bit files
    often hold 10 or 12 bits, so all of a folder are divided by 2**bits - 1, with as many bits (8 at least)
    as the brightest pixel among them needs. Masks hold 0 and 1, or 0 and the brightest value (255, 65535),
    each file for itself; they come out as (N, 1, size, size) float32, 1 where at least half is covered.

    Raises:
        InputError: a folder, a pair or a file that cannot be used; the message names it.
    """
    if size < 1:
        raise InputError(f"{path}: expected a size of at least 1 pixel, got {size}")
    pairs = find_pairs(Path(path))
    kaggle = not (Path(path) / "images").is_dir()
    images = np.empty((len(pairs), 1, size, size), np.float32)
    masks = np.empty_like(images)
    depths, brightest = [], 0
    for i, (image_file, mask_file) in enumerate(pairs.values()):
        image, mask = read_pixels(image_file), read_pixels(mask_file)
        if image.shape[:2] != mask.shape[:2]:
            wanted, got = ("{1}x{0}".format(*pixels.shape) for pixels in (image, mask))
            raise InputError(f"{mask_file}: expected the size of {image_file}, {wanted}, got {got}")
        images[i, 0] = resize(centre_square(grey(image)), size)
        masks[i, 0] = resize(centre_square(binary(mask, mask_file)), size) >= 0.5
        depths.append(image.dtype.name)
        if image.dtype == np.uint16:
            brightest = max(brightest, int(image.max()))
    bits = {"bool": 1, "uint8": 8, "uint16": max(8, brightest.bit_length())}
    images /= np.array([2 ** bits[depth] - 1 for depth in depths], np.float32)[:, None, None, None]
    return Dataset(images, masks, tuple(pairs), subjects(pairs, kaggle=kaggle))


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


def natural(name: str) -> tuple:
    """A sort key by which numbers inside a name count as numbers: 2 before 10."""
    parts = re.split(r"(\d+)", name)  # text and digits alternate, so that like is compared with like
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def subjects(names: Iterable[str], *, kaggle: bool) -> tuple[str, ...]:
    """Whom each image was taken from: `12` for `12_3`; an image without an underscore is by itself."""
    names = tuple(names)
    before = tuple(name.rpartition("_")[0] or name for name in names)
    return before if kaggle or len(set(before)) > 1 else names


def read_pixels(file: Path) -> np.ndarray:
    """The pixels of an image file as they are stored, without alpha.

    Returns: (H, W) bool, uint8 or uint16, or (H, W, 3) uint8.
    """
    try:
        data = file.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that we do not use
            # Always Pillow, so that no file depends on which other readers imageio finds installed.
            with iio.imopen(data, "r", plugin="pillow") as image:
                pages = image.properties(index=...).n_images
                tags = image.metadata(index=0, exclude_applied=False)
                pixels = image.read(index=0)
    except Exception as error:  # on a damaged file a decoder may raise anything
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise InputError(
            f"{file}: expected an image, got a file that cannot be read as one ({reason})"
        ) from None
    # PNG keeps the bits of a sample in byte 24, TIFF in a tag; the others have 8, or come scaled to 8.
    bits = data[24] if data.startswith(b"\x89PNG") else int(np.max(tags.get("BitsPerSample", 8)))
    flaws = {  # that Pillow passes over in silence
        f"{pages} pages": pages != 1,
        f"mode {tags['mode']}": tags["mode"] not in MODES or pixels.dtype == np.int32,
        f"{bits}-bit colour": bits > 8 and pixels.dtype == np.uint8,  # of which it keeps the high bytes
        "signed bytes": tags.get("SampleFormat") == 2 and pixels.dtype == np.uint8,
        "0 for white": tags.get("PhotometricInterpretation") == 0 and bits == 16,  # inverted up to 8 bits
        "a turned image": tags.get("Orientation", 1) not in (0, 1),  # set upright in TIFF, but not in JPEG
    }
    if any(flaws.values()):
        got = ", ".join(flaw for flaw, present in flaws.items() if present)
        raise InputError(
            f"{file}: expected one upright page of 8- or 16-bit unsigned grey or of 8-bit colour, "
            f"got {got} ({pixels.dtype} of shape {pixels.shape})"
        )
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def grey(pixels: np.ndarray) -> np.ndarray:
    """The luma of a colour image, (H, W, 3) to (H, W); grey stays as it is."""
    return pixels if pixels.ndim == 2 else pixels @ LUMA / LUMA.sum()


def binary(pixels: np.ndarray, file: Path) -> np.ndarray:
    """A mask, (H, W) or (H, W, 3) with equal channels, as (H, W) bool; `file` is what an error names."""
    levels = pixels if pixels.ndim == 2 else pixels[..., 0]
    top = levels.max()
    is_grey = pixels.ndim == 2 or (pixels == pixels[..., :1]).all()
    if is_grey and top in (0, 1, 255, 65535) and ((levels == 0) | (levels == top)).all():
        return levels > 0
    found = (np.unique(levels) if is_grey else np.unique(pixels.reshape(-1, 3), axis=0)).tolist()
    some = ", ".join(map(str, found[:5])) + (f", ... ({len(found)} values)" if found[5:] else "")
    raise InputError(f"{file}: expected a grey mask of 0 and 1, or of 0 and 255, got {some}")


def centre_square(image: np.ndarray) -> np.ndarray:
    """The largest square around the centre of an image, (H, W) to (S, S) with S = min(H, W)."""
    side = min(image.shape)
    top, left = ((extent - side) // 2 for extent in image.shape)
    return image[top : top + side, left : left + side]


def resize(square: np.ndarray, size: int) -> np.ndarray:
    """Each new cell gets the mean of what it covers of the old pixels, by area: (S, S) to (size, size).

    A mean over a rectangle is a mean over rows of means over columns, hence two small matrix products.
    Lengths are counted in 1/(S * size) of the side. In that unit every edge, old or new, is a whole number,
    and so is every sum: a mask that covers just half a cell does so on every machine.
    """
    side = len(square)
    cells, pixels = np.arange(size)[:, None] * side, np.arange(side) * size  # where each begins
    ends = np.minimum(cells + side, pixels + size)
    overlap = np.maximum(ends - np.maximum(cells, pixels), 0.0)  # (size, S); each row adds up to S
    return overlap @ square @ overlap.T / side**2
