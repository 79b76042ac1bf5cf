"""Which image goes with which masks, and whose it is: told by names alone, no image file is opened.

Three steps: listing.py lists the files, layout.py pairs them, subjects.py tells whose they are. What cannot
be paired is refused, never guessed, and the refusal names the way out.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinyseg.errors import InputError, listed
from tinyseg.io.layout import (
    IMAGE_WORDS,
    MASK_LIKE,
    MASK_WORDS,
    PARTS,
    Matched,
    added,
    beside,
    extends,
    image_files,
    lay_out,
    match,
    name_in,
)
from tinyseg.io.listing import MOST_NAMED, Tree, listing, natural, one_line, relative, tree
from tinyseg.io.pixels import SUFFIXES, has_image_suffix, stem_of
from tinyseg.io.rle import is_runs, read_runs
from tinyseg.io.subjects import by_regex, by_rule, by_table, of_images

LAYOUTS = "x.png beside x_mask.png, or images/ and masks/, or --images DIR --masks DIR"


@dataclass(frozen=True)
class Pair:
    """An image and what is known of it.

    `name` is relative to the folder, without its ending. `masks` are files that together are one mask.
    Without any, nothing is to be found. `runs` are run lengths in place of files, "" where nothing is there.
    `part` is "train", "val" or "test" if the images come with a split of their own, else "".
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    subject: str
    runs: tuple[str, ...] | None = None
    part: str = ""


@dataclass(frozen=True)
class Found:
    """All pairs in natural order; in words: the layout, how subjects were told, other readings of names.

    `passed_over` are files that are neither images nor masks, or that no layout asks for. `doubt` is the
    first of the hints if by it images of one patient would be called those of several.
    """

    pairs: tuple[Pair, ...]
    layout: str
    passed_over: tuple[str, ...]
    rule: str
    hints: tuple[str, ...] = ()
    doubt: str = ""


@dataclass(frozen=True)
class Choices:
    """What the flags say; None or False leaves it to the folder's own layout."""

    masks: Path | None = None  # a folder of masks, or a CSV of run lengths
    suffix: str | None = None  # x.png has x<suffix>.png
    empty: bool = False  # in an image without a mask nothing is to be found
    skip: bool = False  # an image without a mask is passed over
    subject: str | None = None  # a regex, whose first group is the subject
    subjects: Path | None = None  # a CSV with the columns image and subject


def find_pairs(folder: Path, choices: Choices = Choices()) -> Found:  # noqa: B008
    """Pair the images of a folder with their masks.

    Layouts: `x.png` beside `x_mask.png` or `x_mask_1.png`, `x_mask_2.png`; `images/` and `masks/`, with equal
    names or one common suffix; a folder for each image, with `images/` and any masks in `masks/`; images and
    a CSV of run lengths; `train/`, `val/` and perhaps `test/` of these. Folders below are read, too.

    Raises:
        InputError: files that cannot be paired; the message names all of them, and the way out.
    """
    return _found({"": folder}, choices)


def find_parts(parts: Mapping[str, Path], choices: Choices = Choices()) -> Found:  # noqa: B008
    """The same of "train", "val" and perhaps "test", each a folder of its own; names begin with the part.

    Raises:
        InputError: as `find_pairs`; or a folder is (in) another one.
    """
    for part, folder in parts.items():
        for other, above in parts.items():
            within = Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(above))
            if part != other and within:
                raise InputError(
                    f"--{part} {folder}: expected a folder of its own, got one in --{other} {above}"
                )
    return _found(parts, choices)


def images_in(place: Path) -> list[Path]:
    """A file itself; of a folder, or `images/` in it, all image files but the masks, in natural order.

    Raises:
        InputError: nothing is there, or no image.
    """
    if not os.path.lexists(place):
        raise InputError(f"{place}: expected an image or a folder of images, got nothing of this name")
    if not place.is_dir():
        return [place]

    def images(here: Tree) -> Iterator[Path]:
        if only := here.named(["images"]):
            # Beside masks/ any name is that of an image.
            yield from (
                (f for f in only[0].all() if has_image_suffix(f.name))
                if here.named(["masks"])
                else images(only[0])
            )
            return
        files = image_files(here.files, here.path, clash=False)
        masks = {mask for _, masks in beside(files, "_mask")[0].values() for mask in masks}
        yield from (file for file in here.files if has_image_suffix(file.name) and file not in masks)
        others = here.named(MASK_WORDS) if files or here.named(IMAGE_WORDS) else ()
        for folder in here.folders:
            if folder not in others:
                yield from images(folder)

    found = sorted(images(tree(place)), key=lambda file: natural(file.relative_to(place).as_posix()))
    if not found:
        raise InputError(f"{place}: expected images ({' '.join(SUFFIXES)}), got none")
    return found


def masks_of(image: Path) -> tuple[Path, ...]:
    """The true masks of one image file by the layouts of `find_pairs`, () if there are none."""
    name, place, masks = name_in(image, image.parent), image.parent, None
    if above := next((folder for folder in image.parents if folder.name.lower() == "images"), None):
        masks = next((folder for folder in listing(above.parent)[1] if folder.name.lower() == "masks"), None)
    if above and masks:
        if name == above.parent.name and len(image_files(listing(place)[0], place, clash=False)) == 1:
            return tuple(image_files(tree(masks).all(), masks, clash=False).values())
        place = masks / place.relative_to(above)
    there = image_files(listing(place, name)[0], place, clash=False) if place.is_dir() else {}
    alike = image_files(listing(image.parent, name)[0], image.parent, clash=False)  # x_1 may be an image, too
    found = match(alike, there, "").get(name, []) if masks else []
    return tuple(found or match(alike, there, "_mask").get(name, []))


def with_masks(places: Iterable[Path], choices: Choices) -> list[Pair]:
    """The images of files and folders, each with its true masks as `find_pairs` finds them.

    None has to have any. Beside images, files that are called like masks are none of the images.

    Raises:
        InputError: as `images_in`; or `choices.masks` is nothing that holds masks.
    """
    csv = choices.masks if choices.masks and _is_csv(choices.masks) else None
    rows, of_folder, found = read_runs(csv) if csv else {}, dict[Path, dict[Path, Pair]](), list[Pair]()
    for place in places:
        images_in(place)  # raises
        folder = place if place.is_dir() else place.parent
        if folder not in of_folder:
            matched = lay_out(folder, None if csv else choices.masks, choices.suffix, False)
            runs = of_images(rows, list(matched.pairs), csv) if csv else {}
            of_folder[folder] = {
                image: Pair(name, image, () if csv else tuple(masks), "", runs.get(name))
                for name, (image, masks) in matched.pairs.items()
            }
        if folder == place:
            found += sorted(of_folder[folder].values(), key=lambda pair: natural(pair.name))
        else:
            found.append(of_folder[folder].get(place) or Pair(stem_of(place.name), place, (), ""))
    return found


def _found(folders: Mapping[str, Path], choices: Choices) -> Found:
    """Pair each folder by itself, then tell the subjects of all."""
    masks = None if choices.masks is None or _is_csv(choices.masks) else choices.masks
    if masks and "" not in folders:
        raise InputError(f"--masks {masks}: expected a CSV file with --train and --val, got a folder")
    matches = {
        part: lay_out(folder, masks, choices.suffix, choices.empty) for part, folder in folders.items()
    }
    pairs = [
        Pair(f"{part}/{name}" if part else name, image, tuple(its), "", None, part)
        for part, matched in matches.items()
        for name, (image, its) in matched.pairs.items()
    ]
    pairs.sort(key=lambda pair: natural(pair.name))
    file = _run_lengths(matches.values(), pairs, choices)
    for matched in matches.values():
        if not matched.pairs and (file or not matched.orphans):
            endings = listed(sorted({f.suffix or "no ending" for f in matched.passed_over}))
            raise InputError(
                f"{matched.root}: expected {LAYOUTS}, got no image file ({' '.join(SUFFIXES)})"
                + (f" among others ({one_line(endings)}); save them as one of these" if endings else "")
            )
    rows = read_runs(file) if file else {}
    passed_over = [relative(f, m.root) for m in matches.values() for f in m.passed_over if f != file]
    orphans = [] if file else [relative(mask, m.root) for m in matches.values() for mask in m.orphans]
    layout = " and ".join({layout: None for m in matches.values() for layout in m.layouts})
    if file:
        if all(pair.name.startswith("images/") for pair in pairs):  # a CSV stands for masks/ beside it
            pairs = [replace(pair, name=pair.name.removeprefix("images/")) for pair in pairs]
        runs = of_images(rows, [pair.name for pair in pairs], file)
        pairs = [replace(pair, masks=(), runs=runs.get(pair.name)) for pair in pairs]
        layout = f"run lengths in {file.name}"
        without = [pair.name for pair in pairs if pair.name not in runs]
        used = {name.split("/", i)[-1] for name in runs for i in range(name.count("/") + 1)}
        others = [key for key in rows if key not in used]
        if others and without and choices.empty:  # a misspelt name must not become an empty image
            raise InputError(
                one_line(
                    f"{file}: expected rows of the images that are here, got none of {listed(without)}, "
                    f"and rows of {listed(others)}, which are not here; mend the names, or cut those rows"
                )
            )
        if others:
            passed_over.append(f"{file.name}: {len(others)} images that are not here")
    if "" in folders:
        pairs, dropped, parts = _parted(pairs)
        passed_over, layout = passed_over + dropped, parts + layout
    lacking = [pair for pair in pairs if not pair.masks and pair.runs is None]
    if choices.empty and len(lacking) < len(pairs):  # but b_seg beside b is a mask rather than an empty image
        all_names = {pair.name for pair in pairs} if choices.masks is choices.suffix is None else ()
        lacking = [pair for pair in lacking if extends(pair.name, all_names)]
    elif choices.skip and len(lacking) < len(pairs):
        left_out = dict.fromkeys(pair.name for pair in lacking)
        passed_over += [f"without a mask: {listed(left_out, 3)}"] * bool(lacking)
        pairs, lacking = [pair for pair in pairs if pair.name not in left_out], []
    if lacking or orphans:
        place = ", ".join(map(str, folders.values()))
        raise InputError(
            one_line(f"{place}: {_refusal(pairs, lacking, orphans, passed_over, rows, choices)}")
        )
    if file:
        pairs = [replace(pair, runs=pair.runs or ("",)) for pair in pairs]
    names = [pair.name for pair in pairs]
    inner = [rest if pair.part else pair.name for pair, (_, rest) in zip(pairs, _tops(names))]
    hints: list[str] = []
    doubt = ""
    if choices.subjects:
        subjects, rule = by_table(names, choices.subjects), f"by {choices.subjects}"
    elif choices.subject is not None:
        subjects = by_regex(inner, choices.subject)
        rule = f"--subject '{choices.subject}': {subjects[0]} of {inner[0]}"
    else:
        of_parts = [pair.part for pair in pairs]
        subjects, rule, hints, doubt = by_rule(inner, [pair.image.name for pair in pairs], names, of_parts)
    pairs = [replace(pair, subject=subject) for pair, subject in zip(pairs, subjects)]
    return Found(tuple(pairs), layout, tuple(passed_over), rule, tuple(hints), doubt)


def _run_lengths(matches: Iterable[Matched], pairs: list[Pair], choices: Choices) -> Path | None:
    """The CSV with the masks: what --masks says, or the only one that lies beside images without masks."""
    if choices.masks is not None:
        return choices.masks if _is_csv(choices.masks) else None
    found = [f for m in matches for f in m.passed_over if f.parent == m.root and _is_csv(f) and is_runs(f)]
    if any(pair.masks for pair in pairs):
        return None
    if found[1:]:
        ways = " or ".join(f"--masks {file}" for file in found)
        raise InputError(
            f"{found[0].parent}: expected one CSV file of run lengths, got {len(found)}; give {ways}"
        )
    return found[0] if found else None


def _is_csv(file: Path) -> bool:
    return file.suffix.lower() == ".csv" and not file.is_dir()


def _tops(names: Sequence[str]) -> list[tuple[str, str]]:
    """Of each name the first folder that not all have in common, and the rest."""
    common = posixpath.commonpath([posixpath.dirname(name) for name in names]) if names else ""
    cut = [name[len(common) :].lstrip("/").partition("/") for name in names]
    return [(first, rest) if slash else ("", first) for first, slash, rest in cut]


def _parted(pairs: list[Pair]) -> tuple[list[Pair], list[str], str]:
    """Pairs, with the parts that train/ and val/ make; what is passed over then; the parts in words."""
    tops = [top for top, _ in _tops([pair.name for pair in pairs])]
    of_each = [(pair, top, PARTS.get(top.lower(), "")) for pair, top in zip(pairs, tops)]
    parts, dropped = {part for *_, part in of_each}, []
    test = [(pair, top) for pair, top, part in of_each if part == "test"]
    if test and "train" in parts and not any(pair.masks or pair.runs for pair, _ in test):
        dropped = [f"{test[0][1]}/ ({len(test)} images, no mask)"]
        of_each = [each for each in of_each if each[2] != "test"]
    words = ", ".join({f"{top}/": None for _, top, part in of_each if part})
    if not {"train", "val"} <= parts:
        as_one = {"train", "test"} <= parts and not dropped
        words = f"{words} as one, since there is no val/: " if as_one else ""
        return [pair for pair, *_ in of_each], dropped, words
    dropped += [pair.name for pair, _, part in of_each if not part]
    return [replace(pair, part=part) for pair, _, part in of_each if part], dropped, f"{words}: "


def _refusal(
    pairs: list[Pair],
    lacking: list[Pair],
    orphans: list[str],
    passed_over: list[str],
    rows: Mapping[str, object],
    choices: Choices,
) -> str:
    """What lacks its mask or its image, what is nearest to it in name, and the way out."""
    ending = {pair.name: pair.image.name[len(stem_of(pair.image.name)) :] for pair in pairs}
    files = [pair.name + ending[pair.name] for pair in lacking]
    said: list[str] = []
    ways: list[str] = []
    suffixes: Counter[str] = Counter()
    if lacking:
        spare = list(rows) or orphans + [file for file in passed_over if has_image_suffix(file)]
        spare += [] if choices.masks else files
        named = _named(files, spare, suffixes)
        of = "a row with run lengths" if rows else "a mask"
        said.append(f"expected {of} for each image, got none for {len(lacking)} of {len(pairs)}: {named}")
    if orphans:
        named = _named(orphans, [name + end for name, end in ending.items()], suffixes)
        said.append(f"expected an image for each mask, got none for {len(orphans)}: {named}")
    if not suffixes and not choices.masks and not orphans:
        suffixes.update(_called_masks(files))
    del suffixes[choices.suffix or ""]  # which was tried
    if choices.masks is None:
        del suffixes[""]
    if suffixes and not rows:
        suffix = suffixes.most_common(1)[0][0] or "''"
        ways.append(f"--mask-suffix{'=' if suffix.startswith('-') else ' '}{suffix}")
    if have := len(pairs) - len(lacking):
        without = (
            f"{have} {'has' if have == 1 else 'have'} one; --skip-without-mask leaves the others out, "
            "--empty-without-mask says that nothing is in them"
        )
        if choices.empty:
            without = "these may be masks: say by --mask-suffix what masks are called"
        ways += [without] * bool(lacking)
        ways += ["rename these masks, or take them away"] * bool(orphans)
    elif rows:
        ways.append("in the CSV each image needs rows under its own name, of one class")
    elif not ways and choices.masks:
        below = [file.rpartition("/") for file in orphans]
        one = next((folder for folder, _, name in below if stem_of(name) in ending), "")
        ways.append(
            f"give one of its folders, such as --masks {one}"
            if one
            else "rename the masks to the names of their images, or say by --mask-suffix how they end"
        )
    elif not ways:
        ways.append(LAYOUTS)
    return "; ".join(said + ways)


def _called_masks(files: Sequence[str]) -> Iterator[str]:
    """The last word of the names of half of these files, if it says that they are masks: P1/P1_seg."""
    words = Counter(re.sub(r".*?([-_. ]?[^\W\d_]+)$", r"\1", stem_of(file), flags=re.S) for file in files)
    yield from (word for word, count in words.items() if MASK_LIKE.search(word) and 2 * count == len(files))


def _named(files: Sequence[str], spare: Sequence[str], suffixes: Counter[str]) -> str:
    """The first of some files, each with the one nearest in name; counts what one name adds to the other."""
    named = []
    stems = {file: stem_of(file.rpartition("/")[2]) for file in spare}
    alike = set(files)  # one that lacks its mask is no other one's mask, unless its name says so
    free = {stem: file for file, stem in list(stems.items())[:2000] if file not in alike}
    for file in files[:MOST_NAMED]:
        stem = stem_of(file.rpartition("/")[2])
        rests = {other: added(stem, its) for other, its in stems.items() if other != file}
        longer = [other for other, rest in rests.items() if rest or rest == "" and other not in alike]
        near = min(longer, key=lambda other: len(rests[other] or ""), default="")
        if near:
            suffixes[rests[near] or ""] += 1
        elif close := difflib.get_close_matches(stem, list(free), 1, 0.8):
            near = free[close[0]]
        named.append(f"{file} (there is {near})" if near else file)
    return listed(named + [""] * (len(files) - len(named)), MOST_NAMED)  # the others are counted
