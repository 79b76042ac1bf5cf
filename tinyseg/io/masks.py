"""What the numbers in masks stand for: found out over all files together, or asked.

The same picture is coded in many ways. A mask may hold 0 and 1, 0 and 255, greys at blurred edges, a colour
on black, or its shape in the alpha channel; a label map may hold numbers of classes, or levels spread so
that one sees them. One file does not tell. So all files are looked at first, value by value (`Census`).
Where that leaves one reading, it is taken and said (`meaning_of`); where it leaves two, the error names the
flag that decides. Then each file becomes labels by the same `Meaning`, and so do others' files later.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from tinyseg.errors import InputError, listed
from tinyseg.io.pixels import Page, stem_of
from tinyseg.ops import UNLABELLED

MASK = (0, 255)  # what stands for the two classes in an ordinary mask
NAMES = ("background", "structure")
LOSSLESS = (".bmp", ".dcm", ".nii", ".nii.gz", ".npy", ".pgm", ".png", ".ppm", ".tif", ".tiff")  # of values
FLAT = 0.01  # of the pixels between the two levels of a mask with blurred edges, the share on no edge
MOST_COLOURS = 4096  # of masks; with more they are photographs
MOST_UNASKED = 9  # classes; more may be numbers of objects
GRADED = 16  # values; with fewer between the ends, they are classes rather than a blur


@dataclass(frozen=True)
class Meaning:
    """How masks are read: which value is which class, and what a mask of ours is written with.

    Raises:
        ValueError: a field makes no sense; the message names it.
    """

    values: tuple[int, ...] = MASK  # for each class, the value that stands for it
    names: tuple[str, ...] = NAMES  # of the classes
    above: float | None = None  # not by value: what is above this is the second class
    ignore: int | None = None  # this value says that nobody annotated the pixel
    alpha: bool = False  # the mask is the alpha channel
    colours: bool = False  # values are colours, 65536 red + 256 green + blue

    def __post_init__(self):
        values: tuple = tuple(self.values)
        names, most = tuple(self.names), 2**24 if self.colours else 2**16
        if not all(_whole(value) and 0 <= value < most for value in values):
            raise ValueError(f"values: expected whole numbers from 0 to {most - 1}, got {values}")
        if not all(isinstance(name, str) and name.isprintable() and 0 < len(name) <= 100 for name in names):
            raise ValueError("names: expected texts of 1 to 100 printable characters")
        if len(set(values)) < len(values) or len(names) != len(values):
            raise ValueError(f"names: expected one for each of different values {values}, got {names}")
        if self.above is not None and not (
            isinstance(self.above, int | float) and type(self.above) is not bool and len(values) == 2
        ):
            raise ValueError(f"above: expected a number, and two classes, got {self.above!r}")
        if self.ignore is not None and (not _whole(self.ignore) or self.ignore in values):
            raise ValueError(f"ignore: expected another whole number than the classes', got {self.ignore!r}")
        object.__setattr__(self, "values", tuple(map(int, values)))  # plain values: JSON knows no others
        object.__setattr__(self, "names", names)
        for name in ("alpha", "colours"):
            object.__setattr__(self, name, bool(getattr(self, name)))

    def labels(self, page: Page, file: Path) -> np.ndarray:
        """The classes of a page of a mask file: (H, W) uint8, UNLABELLED where nobody annotated.

        Raises:
            InputError: it holds other values; the message names the file and the values.
        """
        numbers = numbers_of(page, file, alpha=self.alpha, colours=self.colours)
        if self.above is not None:
            labels = (numbers > self.above).astype(np.uint8)
        else:
            order = np.argsort(self.values)
            ranked = np.array(self.values)[order]
            place = np.minimum(np.searchsorted(ranked, numbers), len(ranked) - 1)
            labels = order.astype(np.uint8)[place]
            found = np.unique(numbers[ranked[place] != numbers]).tolist()
            if others := [other for other in found if other != self.ignore]:
                raise InputError(
                    f"{file}: expected a mask of the values {self.shown(self.values)}, "
                    f"got {self.shown(others)}"
                )
        if self.ignore is not None:
            labels[numbers == self.ignore] = UNLABELLED
        return labels

    def shown(self, values) -> str:
        """Values for a message: colours by their red, green and blue."""
        return listed([shown(value, self.colours) for value in values])

    def picture(self, labels: np.ndarray) -> np.ndarray:
        """Labels (H, W) as a mask of this meaning: (H, W) uint8 or uint16, or (H, W, 3) uint8 of colours."""
        values = np.array(self.values)[labels]
        if self.colours:
            return np.stack([values >> 16, values >> 8 & 255, values & 255], axis=-1).astype(np.uint8)
        return values.astype(np.uint8 if max(self.values) < 256 else np.uint16)


def _whole(value) -> bool:
    """Whether it is a whole number; True is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def shown(value: int, colours: bool) -> str:
    """A value for a message."""
    return f"({value >> 16},{value >> 8 & 255},{value & 255})" if colours else str(value)


def numbers_of(page: Page, file: Path, *, alpha: bool = False, colours: bool = False) -> np.ndarray:
    """The number at each pixel of a mask's page, (H, W) whole numbers.

    Of one bit they are 0 and 255; of grey the levels; of a float in [0, 1] its 255ths. Of colour it is the
    brightest channel, or with `colours` 65536 red + 256 green + blue.
    """
    pixels = page.pixels
    if alpha:
        if page.alpha is None:
            raise InputError(f"{file}: expected a mask in the alpha channel, as others have it, got none")
        pixels = page.alpha
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise InputError(f"{file}: expected a mask of whole numbers, got NaN or an infinity")
        if (pixels != np.rint(pixels)).any():
            if pixels.min() < 0 or pixels.max() > 1:
                raise InputError(f"{file}: expected a mask of whole numbers or of 0 to 1, got fractions")
            pixels = np.rint(pixels * 255)
        pixels = pixels.astype(np.int32)
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
        raise InputError(f"{file}: expected a mask of 1 or 3 channels, got {pixels.shape[2]}")
    if colours:
        if pixels.max(initial=0) > 255 or pixels.min(initial=0) < 0:
            raise InputError(f"{file}: expected colours of 8 bits, got levels up to {pixels.max()}")
        wide = pixels.astype(np.int32)
        return wide @ np.array([65536, 256, 1]) if wide.ndim == 3 else wide * 65793  # grey v is (v, v, v)
    return pixels.max(axis=2) if pixels.ndim == 3 else pixels  # (H, W, channels) -> (H, W)


def is_coloured(pixels: np.ndarray) -> bool:
    """Whether it is more than grey stored in three channels."""
    return pixels.ndim == 3 and bool((pixels != pixels[..., :1]).any())


@dataclass
class Census:
    """Which values there are in all mask files together, and in how many pixels."""

    counts: Counter = field(default_factory=Counter)  # {value: pixels}; of colour by the brightest channel
    colours: Counter = field(default_factory=Counter)  # the same of colours as numbers
    of_each: dict[frozenset, Path] = field(default_factory=dict)  # sets of values that a file has: an example
    pages: int = 0
    flat: Counter = field(default_factory=Counter)  # {value: pixels} on no edge, of files with a third value
    coloured: Path | None = None  # a file with colours
    in_alpha: Path | None = None  # a file of one colour whose alpha channel has a shape
    one_bit: Path | None = None
    fractions: Path | None = None  # a file of numbers from 0 to 1, which count as 255ths
    colour_of: dict[int, tuple] = field(
        default_factory=dict
    )  # of a palette's number, the first file's colour
    repainted: Path | None = None  # a file whose palette has another colour for the same number
    lossy: Path | None = None

    def add(self, page: Page, file: Path) -> None:
        """Count a page of a mask file."""
        self.pages += 1
        self.one_bit = self.one_bit or (file if page.pixels.dtype == bool else None)
        if file.name[len(stem_of(file.name)) :].lower() not in LOSSLESS:
            self.lossy = self.lossy or file
        if page.alpha is not None and np.ptp(page.alpha) and not np.ptp(page.pixels, axis=(0, 1)).any():
            self.in_alpha = self.in_alpha or file
        coloured = is_coloured(page.pixels)
        self.coloured = self.coloured or (file if coloured else None)
        if page.pixels.dtype.kind == "f" and (page.pixels != np.rint(page.pixels)).any():
            self.fractions = self.fractions or file
        for number, colour in (page.palette or {}).items():
            if self.colour_of.setdefault(number, colour) != colour:
                self.repainted = self.repainted or file
        numbers = numbers_of(page, file)
        counted = _counted(numbers)
        self.counts.update(counted)
        self.flat.update(_counted(_flat(numbers)) if len(counted) > 2 else {})
        if page.pixels.dtype in (bool, np.uint8) and len(self.colours) <= MOST_COLOURS:
            greys = {65793 * value: count for value, count in counted.items()}
            colours = _counted(numbers_of(page, file, colours=True)) if coloured else greys
            self.colours.update(dict(list(colours.items())[: MOST_COLOURS + 1]))
        self.of_each.setdefault(frozenset(list(counted)[: UNLABELLED + 2]), file)

    @property
    def of_photographs(self) -> bool:
        """Whether no reading by values is left, so that one need not look further."""
        return len(self.colours) > MOST_COLOURS and not self.lossy


def _counted(numbers: np.ndarray) -> dict[int, int]:
    """{value: pixels} in rising order."""
    if numbers.dtype in (np.uint8, np.uint16):
        counts = np.bincount(numbers.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    return dict(zip(*(found.tolist() for found in np.unique(numbers, return_counts=True))))


def _flat(numbers: np.ndarray) -> np.ndarray:
    """The numbers of those pixels that are much like all eight neighbours: on no edge."""
    return numbers[maximum_filter(numbers, 3) - minimum_filter(numbers, 3) < np.ptp(numbers) / 8]


def meaning_of(
    census: Census,
    *,
    two: bool,
    values: str | tuple[int, ...] | None = None,
    ignore: int | str | None = None,
    colours: dict[int, str] | None = None,
    source: str | Path = "masks",
) -> tuple[Meaning, str]:
    """(how these masks are read, the same in words): by the flags, or by what the census leaves no doubt of.

    Args:
        two: the network tells two classes apart; else as many as there are, and 255 may be "not annotated".
        values: --mask-values: "nonzero", "half", "above:N", or the values of the classes in their order.
        ignore: --ignore: a value, or "none".
        colours: --colours: {colour as a number: name of the class, or "ignore"}.
        source: what an error names.

    Raises:
        InputError: they can be read in more than one way, or not in the way that the flags say.
    """
    try:
        return _meaning_of(census, two, values, ignore, colours, source)
    except InputError:
        raise
    except ValueError as error:  # such as numbers beyond those that a mask can hold
        raise InputError(f"{source}: {error}; --mask-values nonzero, if they number objects") from None


def _meaning_of(census: Census, two: bool, values, ignore, colours, source) -> tuple[Meaning, str]:
    if census.in_alpha:
        if len(census.counts) > 1 or not two:
            raise InputError(
                f"{census.in_alpha}: expected masks of one kind, got this one with its shape in the alpha "
                "channel; save it as grey"
            )
        return Meaning(above=0, alpha=True), "the alpha channel has the shape; above 0 is structure"
    if census.repainted and values is None:
        raise InputError(
            f"{census.repainted}: expected one colour for each number of all palettes, got another one here; "
            "save the masks without palettes, or say by --mask-values V,V,... that the numbers count"
        )
    if colours is not None:
        return _by_colours(census, colours, two, source)
    if isinstance(values, str):
        return _by_threshold(census, values, ignore, source)
    if values is not None:
        return _by_values(census, values, ignore, two, source)
    return (_two if two else _many)(census, ignore, source)


def _by_threshold(census, rule: str, ignore, source) -> tuple[Meaning, str]:
    """nonzero, half or above:N."""
    kept = [value for value in census.counts if value != ignore]
    top = max(kept, default=0)
    if rule == "nonzero" and min(kept, default=0) < 0:
        raise InputError(f"{source}: --mask-values nonzero: expected values of at least 0, got {min(kept)}")
    above = {"nonzero": 0, "half": top / 2}.get(rule)
    above = float(rule.removeprefix("above:")) if above is None else above
    if census.fractions and rule.startswith("above:") and 0 < above < 1:
        above *= 255  # as the numbers are counted
    if rule == "half":
        _refuse_odd_ones(census, 0, top, above)
    ignored = None if ignore == "none" else ignore
    if ignored in MASK:  # which a mask of ours needs for its classes
        raise InputError(f"{source}: --ignore {ignored}: expected --mask-values V,V beside it, got {rule}")
    return Meaning(above=above, ignore=ignored), f"above {above:g} is structure"


def _by_values(census, values: tuple[int, ...], ignore, two: bool, source) -> tuple[Meaning, str]:
    """V,V,...: the classes in their order."""
    if two and len(values) != 2:
        raise InputError(
            f"--mask-values: expected 2 values for a network of two classes, got {len(values)}; "
            "--network lungnet has as many classes as there are values"
        )
    if ignore is None:
        ignore = UNLABELLED if not two and UNLABELLED not in values else "none"
    ignored = None if ignore == "none" else ignore
    if others := sorted(set(census.counts) - {*values, ignored}):
        where = next(file for found, file in census.of_each.items() if found & set(others))
        raise InputError(
            f"{where}: expected the values {listed(values)} that --mask-values names, got {listed(others)}"
        )
    names = NAMES if two else tuple(f"value {value}" for value in values)
    return Meaning(values, names, ignore=ignored), _said(values, names, ignored, census)


def _by_colours(census, colours: dict[int, str], two: bool, source) -> tuple[Meaning, str]:
    """--colours: each colour has the name of its class."""
    classes = {colour: name for colour, name in colours.items() if name != "ignore"}
    ignored = next((colour for colour, name in colours.items() if name == "ignore"), None)
    if two and len(classes) != 2:
        raise InputError(f"--colours: expected 2 classes for a network of two, got {len(classes)}")
    if others := sorted(set(census.colours) - set(colours)):
        found = listed([shown(other, True) for other in others])
        raise InputError(f"{source}: expected the colours of --colours, got also {found}")
    meaning = Meaning(tuple(classes), tuple(classes.values()), ignore=ignored, colours=True)
    return meaning, ", ".join(f"{shown(colour, True)} is {name}" for colour, name in colours.items())


def _two(census: Census, ignore, source) -> tuple[Meaning, str]:
    """The masks of a structure, by what leaves no doubt."""
    found, ask = set(census.counts), "say which are the structure"
    if min(found) < 0:
        raise InputError(f"{source}: expected values of at least 0, got {min(found)}; save them as 0 and 255")
    if census.coloured:
        colours = set(census.colours)
        if len(colours - {0}) == 1:
            return Meaning(above=0), f"{shown(max(colours), True)} is structure, black is background"
        _refuse_photographs(census)
        if not (soft := _soft(census)):
            raise InputError(
                f"{census.coloured}: expected a mask of two colours, one of them black, got "
                f"{listed([shown(colour, True) for colour in sorted(colours)])}; {ask}: --colours FILE, "
                "--mask-values nonzero or --mask-values half"
            )
        return soft
    black = [number for number in found if census.colour_of.get(number) == (0, 0, 0)]
    if (
        len(found) == 2 and len(black) == 1 and black[0] > min(found)
    ):  # a palette that begins with the structure
        (white,) = found - {black[0]}
        return Meaning((black[0], white), NAMES), f"{white} is structure, {black[0]} is black, the background"
    whites = [values - {0} for values in census.of_each]
    if all(len(white) <= 1 for white in whites):
        levels = set().union(*whites)
        if len(levels) <= 1:
            return Meaning(above=0), f"{listed(levels) or 'nothing'} is structure, 0 is background"
        if levels <= {1, 255, 65535}:
            said = " and ".join(map(str, sorted(levels)))
            return Meaning(above=0), f"{said} are structure, each in its files; 0 is background"
    if len(found) == 2:
        low, high = sorted(found)
        if low >= 0:
            return Meaning((low, high), NAMES), f"{high} is structure, {low} is background"
    if soft := _soft(census):
        return soft
    where = next(
        file for values, file in census.of_each.items() if len(values) == max(map(len, census.of_each))
    )
    raise InputError(
        f"{where}: expected a mask of two values, got {_shares(census)} in all masks; {ask}: "
        "--mask-values nonzero (numbers of objects), --mask-values half (blurred edges), or "
        "--mask-values BACKGROUND,STRUCTURE; --network lungnet tells more than two classes apart"
    )


def _refuse_photographs(census: Census) -> None:
    if census.of_photographs:
        raise InputError(
            f"{census.coloured}: expected a mask, got more than {MOST_COLOURS} colours, as of a photograph; "
            "--mask-values half, if bright is the structure"
        )


def _soft(census: Census) -> tuple[Meaning, str] | None:
    """Two levels and a blur between, of JPEG or smooth edges: many values, none of them on a flat place."""
    low, high = min(census.counts), max(census.counts)
    few = len(census.counts) < GRADED and not census.lossy  # JPEG holds no classes, however few its values
    if low < 0 or high < 128 or few:
        return None  # numbers of classes or of objects, perhaps
    eighth = (high - low) / 8
    dark = sum(count for value, count in census.counts.items() if low < value <= low + eighth)
    inside, flat = (
        sum(count for value, count in of.items() if low + eighth < value < high - eighth)
        for of in (census.counts, census.flat)
    )
    bright = sum(count for value, count in census.counts.items() if value >= high - eighth)
    if inside > 2 * bright or flat > FLAT * inside or (dark > 10 * inside and not census.lossy):
        return None  # a third class, perhaps, or many dark ones
    total = sum(census.counts.values())
    above = (low + high) / 2
    _refuse_odd_ones(census, low, high, above)
    return Meaning(
        above=above
    ), f"above {above:g} is structure: {low} and {high}, and {inside / total:.1%} between"


def _refuse_odd_ones(census: Census, low: int, high: int, above: float) -> None:
    """Refuse a file in which nothing would be found, though it has levels: of 0 and 1 beside 0 and 255."""
    for values, file in census.of_each.items():
        noise = 32 if file.name[len(stem_of(file.name)) :].lower() not in LOSSLESS else low
        if noise < max(values) <= above:
            raise InputError(
                f"{file}: expected masks of one kind, got levels up to {max(values)} here, and to {high} in "
                "others; save them alike, or say by --mask-values nonzero or above:N what is structure"
            )


def _many(census: Census, ignore, source) -> tuple[Meaning, str]:
    """Label maps: a value or a colour is a class, and 255 may be "not annotated"."""
    if census.lossy:
        raise InputError(
            f"{census.lossy}: expected a label map as {' '.join(LOSSLESS)}: others may change its values; "
            "of one structure, --mask-values half takes it"
        )
    if census.coloured:
        _refuse_photographs(census)
        _check_count(set(census.colours), source, colours=True)
        classes = tuple(sorted(census.colours))
        _refuse_objects(census, classes, "--colours FILE")
        names = tuple(f"colour {shown(colour, True)}" for colour in classes)
        return Meaning(classes, names, colours=True), ", ".join(names)
    found = set(census.counts)
    ignored = ignore if isinstance(ignore, int) else None
    if census.one_bit and found - {0, 255}:
        raise InputError(f"{census.one_bit}: expected label maps of one kind, got a mask of 1 bit among them")
    _check_count(found, source)
    white = 2**16 - 1 if 2**16 - 1 in found else UNLABELLED
    if ignore is None and white in found and found != {0, white}:
        _ask_about_white(census, white, source)
        ignored = white
    _refuse_two_codings(census, ignored)
    classes = tuple(sorted(found - {ignored}))
    _check_count(set(classes), source)
    if classes[0] < 0:
        raise InputError(
            f"{source}: expected values of at least 0, got {classes[0]}; --ignore {classes[0]} leaves it out"
        )
    _refuse_objects(census, classes, f"--mask-values {','.join(map(str, classes))}")
    names = tuple(f"value {value}" for value in classes)
    said = _said(classes, names, ignored, census)
    said += "; if they number objects, --mask-values nonzero" * (len(classes) > 4)
    return Meaning(classes, names, ignore=ignored), said


def _refuse_objects(census: Census, values: tuple[int, ...], classes: str) -> None:
    """Refuse what may number objects: in each file anew from 1 on, or so that few files share a number."""
    each = [sorted(found & {*values} - {0}) for found in census.of_each]
    anew = [len(found) for found in each if found and found == [*range(1, len(found) + 1)]]
    in_each_anew = len(anew) == sum(map(bool, each)) and len({*anew}) > 2
    if len(values) > MOST_UNASKED and (in_each_anew or len(values) > census.pages / 2):
        first = next(iter(census.of_each.values()))
        raise InputError(
            f"{first}: expected to know what {len(values)} values in {census.pages} label maps are; "
            f"--mask-values nonzero: they number objects; {classes}: they are classes"
        )


def _ask_about_white(census: Census, white: int, source) -> None:
    """Refuse label maps in which 255 may be a class: levels spread to be seen, or masks among label maps.

    `white` is 255, or 65535 of 16 bits.
    """
    others = set(census.counts) - {white}
    order = sorted(others | {white})
    steps = [after - before for before, after in zip(order, order[1:])]
    spread = (
        max(others) >= 32 and len(others) < max(others) / 4 and steps[-1] <= 4 * max(steps[:-1], default=0)
    )
    of_masks = ({0, white}, {white}) if others <= {0, 1} else ({0, white},)
    masks = [file for values, file in census.of_each.items() if values in of_masks]
    together = any(white in values and values - {0, white} for values in census.of_each)
    if len(others) == 1 or spread or (masks and not together and others - {0}):
        where = masks[0] if masks and not spread else source
        nonzero = f"; --mask-values nonzero: 0 and {white} are what 0 and 1 are in other files"
        raise InputError(
            f"{where}: expected to know what {white} means, got {_shares(census)} in all label maps; "
            f"--ignore none: a class like the others; --ignore {white}: nobody annotated these pixels"
            + nonzero
            * (others == {0, 1})
        )


def _refuse_two_codings(census: Census, ignored: int | None) -> None:
    """Refuse label maps of which some hold 0, 1, 2 and others 0, 127, 254: the same classes, perhaps."""
    values = set(census.counts) - {0, ignored}
    small, large = {value for value in values if value < 32}, {value for value in values if value >= 32}
    mixed = any(each & small and each & large for each in census.of_each)
    if small and large and not mixed and len(large) <= len(small):
        where = next(file for each, file in census.of_each.items() if each & large)
        raise InputError(
            f"{where}: expected label maps of one kind, got {listed(sorted(large))} here, and "
            f"{listed(sorted(small))} in other files; save them alike, or say by --mask-values 0,1,... that "
            "all are classes"
        )


def _check_count(values: set, source, *, colours: bool = False) -> None:
    """Refuse fewer than 2 classes, or more than the numbers below UNLABELLED tell apart."""
    if not 2 <= len(values) <= UNLABELLED - (UNLABELLED not in values):
        what = listed([shown(value, colours) for value in sorted(values)])
        raise InputError(
            f"{source}: expected label maps of 2 to {UNLABELLED - 1} classes, got the values {what}"
            + ("; --mask-values nonzero if they are numbers of objects" if len(values) > 2 else "")
        )


def _said(values, names, ignored, census: Census) -> str:
    said = ", ".join(
        f"{value} is {'a class' if name == f'value {value}' else name}" for value, name in zip(values, names)
    )
    if len(values) > 4 and names[0] == f"value {values[0]}":
        said = f"{listed(values, 12)} are classes"
    if ignored is not None:
        share = census.counts[ignored] / max(1, sum(census.counts.values()))
        said += f"; {ignored} is taken for not annotated ({share:.1%} of all pixels)"
    return said


def _shares(census: Census) -> str:
    """The values with their shares of all pixels, the most frequent first."""
    total = sum(census.counts.values())
    each = [f"{value} ({count / total:.1%})" for value, count in census.counts.most_common(6)]
    more = len(census.counts) - len(each)
    return ", ".join(each) + (f" and {more} more values" if more else "")
