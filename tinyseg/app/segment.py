"""Segment images with a trained network: for each, a mask, a probability map, and the mask on the image.

An image goes the way of the training images, its shorter side resized to the training's size, but whole:
nothing is cut off. The answer is brought back to the image's own size. --size N shows it to the network at
another size, --size 0 at its own; what memory cannot hold is cut into overlapping tiles.

Of two classes the probability map is a 16-bit PNG of the second one; of more it is a TIFF, a page for each
class in the order of legend.png.
A true mask, <image>_mask beside an image or of its name in masks/ beside images/, is compared with. --masks
and --mask-suffix name others, as in training.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tinyseg.app.flags import Parser, above_zero, folder, number, window
from tinyseg.app.judging import falsely
from tinyseg.app.report import MOST_BYTES, MOST_IMAGES, Shown, figure, page, paragraph, section, slider, table
from tinyseg.app.run import Log, guarded, make
from tinyseg.errors import InputError
from tinyseg.io import pictures
from tinyseg.io.files import content_of
from tinyseg.io.folder import labels_of, read_mask
from tinyseg.io.masks import NAMES, Census, Meaning, meaning_of
from tinyseg.io.models import load
from tinyseg.io.pairing import Choices, Pair, images_in, masks_of, with_masks
from tinyseg.io.pixels import READ_LIMIT, read_pages, stem_of
from tinyseg.io.preprocessing import is_deep
from tinyseg.io.rle import encode, write_runs
from tinyseg.io.tiles import GB, free_memory, probability_maps, tile_for
from tinyseg.metrics import ConfusionMatrix, confusion_matrix
from tinyseg.ops import UNLABELLED
from tinyseg.training import most_probable

LOG, PAGE, LEGEND = "segment.txt", "segment.html", "legend.png"
LIST = "segment.json"  # the names of all that was written: nothing else in the folder is ours
ENDS = ("_mask.png", "_probability.png", "_probability.tif", "_overlay.png")


def parse(argv) -> argparse.Namespace:
    """The flags."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="tinyseg segment", description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL", type=folder, help="model.npz of a training run")
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", type=folder, help="files, also of many pages, or folders"
    )
    parser.add_argument(
        "--out", type=folder, metavar="DIR", default=Path("runs/segmented"),
        help="where the results go (default runs/segmented)",
    )  # fmt: skip
    masks = "the folder of the true masks, or a CSV of run lengths"
    parser.add_argument("--masks", type=folder, metavar="DIR|FILE", help=masks)
    parser.add_argument(
        "--mask-suffix", metavar="TEXT", help="the true mask of x.png is xTEXT.png, such as _segmentation"
    )
    parser.add_argument(
        "--size", type=number(int, 0, "a whole number of at least 0"), metavar="N",
        help="the shorter side in pixels when the network sees it, 0: its own; things must then be as large "
        "as they were in training (default: as in training)",
    )  # fmt: skip
    parser.add_argument(
        "--memory", type=above_zero, metavar="GB",
        help="what the network may take, larger images go in tiles (default: half of what is free); and what "
        "a file may take, if that is more than 1",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=number(float, 0, "a number of at least 0"), metavar="P", default=0.5,
        help="of two classes, the probability above which a pixel is the second's (default 0.5)",
    )  # fmt: skip
    parser.add_argument(
        "--window", type=window, metavar="LOW,HIGH",
        help="levels of more than 8 bits that become black and white (default: as in training)",
    )  # fmt: skip
    parser.add_argument(
        "--rle", type=folder, metavar="FILE.csv", help="of two classes, write the masks as run lengths, too"
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.window and isinstance(args.window[0], str):
        parser.error("--window: expected two levels, got percentages; the training has them")
    return args


@guarded
def main(argv=None):
    args = parse(argv)
    model = load(args.model)
    if args.rle and len(model[3].masks.names) > 2:
        raise InputError(f"--rle: expected a model of two classes, got {len(model[3].masks.names)}")
    flags = args.masks is not None or args.mask_suffix is not None
    pairs = with_masks(args.images, Choices(args.masks, args.mask_suffix)) if flags else []
    truths = {pair.image: pair for pair in pairs} or own_masks(args.images)
    files, meaning = list(truths), meaning_of_truths(truths.values(), model[3].masks, args)
    names = result_names(files)
    ours = check_out(names, args.out)
    if args.rle and os.path.lexists(args.rle) and listed_in(args.out, "runs") != {os.path.realpath(args.rle)}:
        raise InputError(
            f"--rle {args.rle}: expected a new file, or the one of the last segmentation to {args.out}"
        )
    if args.rle:
        write_runs(args.rle, {})  # a place that cannot be written to is known before the work
    run = Results(args.out, ours, {os.path.realpath(args.rle)} if args.rle else set())
    if (classes := model[3].masks.names)[2:]:
        run.claim(LEGEND)
        pictures.write_image(args.out / LEGEND, pictures.legend(classes, 480))
    counted, done, looked = [], 0, Looked()
    for file, name in names.items():
        try:
            counted += segment(run, model, file, name, (truths[file], meaning), args, looked)
            done += 1
        except InputError as error:  # the others are segmented all the same
            run.fail(error)
        except MemoryError:
            run.fail(f"{file}: not enough memory; try a smaller --memory, or another --size")
    if len(counted) > 1:
        run.say(
            f"all {len(counted)} with a true mask together: {score(ConfusionMatrix(np.sum(counted, axis=0)))}"
        )
    if args.rle:
        write_runs(args.rle, looked.runs)
    run.keep(run.ours & {*os.listdir(args.out), PAGE})  # not what could not be segmented
    run.write(PAGE, looked.page(args, model[3].masks.names))
    without = "" if counted else "; none has a true mask to compare with"
    without += " (--masks and --mask-suffix name others)" * (not counted and not flags)
    where = f"; the results are in {args.out}{without}" if done else ""
    run.say(f"{done} of {len(files)} images segmented{where}")
    if run.errors:
        raise SystemExit(2)
    return counted


@dataclass
class Looked:
    """What segment.html shows: a line for each image, and as many images as it holds."""

    lines: list[dict] = field(default_factory=list)
    images: list[Shown] = field(default_factory=list)
    overlays: list[str] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)  # run lengths, where they are asked for
    pixels: int = 0

    def add(self, path: Path, words: str, image: np.ndarray, p: np.ndarray, truth) -> None:
        """One more image (H, W), and its probabilities (1 or classes, H, W)."""
        name = path.name
        self.lines.append({"image": name, "what was found": words})
        held = len(self.images) + len(self.overlays)
        if held >= MOST_IMAGES or 8 * (self.pixels + image.size) > MOST_BYTES:  # what a browser opens at once
            return
        self.pixels += image.size
        if len(p) == 1:
            self.images.append(Shown(name, image, p[0], truth))
        else:
            overlay = f"{path.name}_overlay.png"
            self.overlays.append(figure(overlay, path.with_name(overlay).read_bytes(), name))

    def page(self, args, names) -> str:
        """The page."""
        out = len(self.lines) - len(self.images) - len(self.overlays)
        note = f"{out} of {len(self.lines)} images are left out, so that the page stays small." if out else ""
        shown = [slider(self.images, {f"{args.threshold:g}, as in the masks": args.threshold})] * bool(
            self.images
        )
        if self.overlays:
            legend = (args.out / LEGEND).read_bytes()
            shown = [figure(LEGEND, legend, ", ".join(names)), *self.overlays]
        sections = [section("The images", paragraph(note), *shown)]
        if self.lines:
            sections.append(section("In words", table("Each image", self.lines)))
        return page(f"Segmented by {args.model.name}", sections)


class Results(Log):
    """A folder for results, and in it a list of what earlier segmentations wrote (`ours`) and this one does.

    A name is on the list before its file is written, so that a kill leaves no file of ours that is not.
    """

    def __init__(self, folder: Path, ours: set[str], runs: set[str]):
        make(folder)
        self.folder, self.ours, self.runs = folder, ours, runs
        self.claim(LOG, PAGE)
        super().__init__(folder, LOG)

    def claim(self, *names: str) -> None:
        """Put names on the list, where they are not yet."""
        if not self.ours.issuperset(names):
            self.keep(self.ours.union(names))

    def keep(self, names) -> None:
        """Write the list anew."""
        self.ours = set(names)
        about = {"version": 1, "results": sorted(self.ours), "runs": sorted(self.runs)}
        self.write(LIST, json.dumps(about, indent=1) + "\n")


def own_masks(places: list[Path]) -> dict[Path, Pair]:
    """{image: itself with its true masks}, of files and folders, as each file's neighbours tell it."""
    pairs = {}
    for file in (file for place in places for file in images_in(place)):
        masks: tuple[Path, ...] = ()
        with suppress(InputError):  # a folder that cannot be listed
            masks = masks_of(file)
        pairs[file] = Pair(file.name, file, masks, "")
    return pairs


def meaning_of_truths(pairs: Iterable[Pair], trained: Meaning, args) -> Meaning:
    """How to read true masks of two classes: as training read its own, if they are coded alike.

    Else as they are coded, where that leaves no doubt.
    """
    census, memory = Census(), max(READ_LIMIT, args.memory * GB if args.memory else 0)
    for file in (file for pair in pairs for file in pair.masks) if trained.names == NAMES else ():
        with suppress(InputError):  # it is said of the image
            for page in read_mask(file, memory):
                census.add(page, file)
    found = set(census.counts)
    with suppress(InputError):
        other, _ = meaning_of(census, two=True) if max(found, default=0) > 0 else (trained, "")
        if trained.above is None:
            alike = found <= {*trained.values, trained.ignore}
        else:  # above 0 is no reading of 1 and 2, nor of JPEG's noise
            alike = max(found, default=0) > trained.above and (
                trained.above > 0 or 0 in found and not census.lossy
            )
        return trained if alike or trained.alpha or trained.colours else other
    return trained


def result_names(files: list[Path]) -> dict[Path, str]:
    """{image file: name of its results}: that of the file, with its folder in front where others have it.

    Raises:
        InputError: two images' results would have one name.
    """
    stems = {file: stem_of(file.name) for file in files}
    often = Counter(stems.values())
    names = {
        file: stem if often[stem] == 1 else f"{Path(os.path.realpath(file)).parent.name}_{stem}"
        for file, stem in stems.items()
    }
    by_name: dict[str, Path] = {}
    for file, name in names.items():
        if other := by_name.get(name):
            raise InputError(f"{file}: expected images of different names, got {other} as well")
        by_name[name] = file
    for file, name in names.items():
        stack = without_page(name)  # results of a stack's pages have such names
        if stack != name and stack in by_name:
            raise InputError(
                f"{file}: expected images of different names, got {by_name[stack]} and its pages"
            )
    return names


def check_out(names: dict[Path, str], out: Path) -> set[str]:
    """The names in `out` that are an earlier segmentation's.

    Raises:
        InputError: it is a folder of images, or a result would take the place of a file not on the list.
    """
    for file in names:
        if os.path.realpath(file.parent) == os.path.realpath(out):
            raise InputError(f"{out}: expected another folder than that of the images, got {file.name}'s own")
    ours = listed_in(out)
    for name in sorted(os.listdir(out) if out.exists() else ()):
        begins = {name.removesuffix(end) for end in ENDS if name.endswith(end)}
        result = name in (LOG, PAGE, LEGEND) or any({b, without_page(b)} & {*names.values()} for b in begins)
        if result and name not in ours:
            raise InputError(
                f"{out / name}: expected to write a result here, got a file that is not from here; "
                "--out DIR is another folder"
            )
    return ours


def without_page(stem: str) -> str:
    """A stack's name, of that of the results of one of its pages."""
    return re.sub(r"_page\d+$", "", stem)


def listed_in(out: Path, what: str = "results") -> set[str]:
    """The names on the list of what an earlier segmentation wrote, or ("runs") where its run lengths are."""
    if not os.path.lexists(out / LIST):
        return set()
    try:
        about = json.loads(content_of(out / LIST))
        if about["version"] != 1 or not all(isinstance(name, str) for name in about["results"]):
            raise ValueError
        return set(about.get(what, []))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{out / LIST}: expected a list of results, got a file that is not from here; "
            "--out DIR is another folder"
        ) from None


def segment(
    run: Results, model: tuple, file: Path, stem: str, known: tuple[Pair, Meaning], args, looked: Looked
) -> list[np.ndarray]:
    """Segment each page of a file and write what came out; the confusion counts of those with a true mask."""
    net, params, state, preprocessing = model
    memory, counted = (args.memory * GB if args.memory else free_memory()), []
    limit = max(READ_LIMIT, memory if args.memory else 0)
    read = read_pages(file, memory=limit)
    pages, axes = [page.pixels for page in read], read[0].axes
    truths: list[np.ndarray | None] = [None] * len(pages)
    try:
        if args.window:
            preprocessing = replace(preprocessing, window=args.window)
        preprocessing = preprocessing.for_file(pages)
        pair, meaning = known
        if pair.masks or pair.runs is not None:
            truths = list(
                labels_of(pair, tuple(pixels.shape[:2] for pixels in pages), meaning, limit, axes=axes)
            )
    except InputError as error:  # what cannot be judged is segmented all the same
        run.fail(error)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    stems = [f"{stem}_page{i}" for i in range(1, len(pages) + 1)] if pages[1:] else [stem]
    unused = "_probability.tif" if len(preprocessing.masks.values) == 2 else "_probability.png"
    run.claim(*(stem + end for stem in stems for end in ENDS if end != unused))
    for name, pixels, truth in zip(stems, pages, truths):
        try:
            height, width = preprocessing.shape(pixels, args.size)
        except ValueError as error:
            raise InputError(f"{file}: {error}") from None
        if 16 * height * width > limit:
            raise InputError(
                f"{file}: {width} x {height} pixels at this --size take {16 * height * width / GB:.1f} GB, "
                f"and {limit / GB:.1f} GB are allowed; --memory and --size change that"
            )
        try:
            tile = tile_for(net, height, width, memory)
            p = probability_maps(net, params, state, preprocessing, pixels, size=args.size, memory=memory)
        except InputError as error:
            raise InputError(f"{file}: {error}; --memory and --size change that") from None
        except ValueError as error:  # other channels than the network's, or levels without a window
            raise InputError(f"{file}: {error}") from None
        if not np.isfinite(p).all():
            raise InputError(f"{file}: the network's probabilities are not finite; this model is of no use")
        classes = most_probable(p, args.threshold)
        write(args.out / name, pixels, p, classes, preprocessing)
        if args.rle:
            looked.runs[name] = encode(classes > 0)
        line = f"{name}: {about(pixels, p, classes, preprocessing, args)}" + (
            f", in tiles of {tile}" if tile else ""
        )
        if truth is not None:
            counts = confusion_matrix(classes, truth, net.classes)
            counted.append(counts.counts)
            line += f"; {score(counts)}"
            if (truth == UNLABELLED).any() and counts.counts.any():
                line += f" on the {np.mean(truth != UNLABELLED):.1%} that are annotated"
        run.say(line)
        looked.add(
            args.out / name, line.removeprefix(f"{name}: "), preprocessing(pixels, 0).mean(axis=0), p, truth
        )
    return counted


def about(pixels: np.ndarray, p: np.ndarray, classes: np.ndarray, preprocessing, args) -> str:
    """In words: what was found, and how the network saw it."""
    names = preprocessing.masks.names
    found = ", ".join(f"{name} {np.mean(classes == k):.1%}" for k, name in enumerate(names))
    if len(p) == 1 and not classes.any():
        found += f" (highest probability {p.max():.3f})"
    size, seen = (f"{w} x {h}" for h, w in (pixels.shape[:2], preprocessing.shape(pixels, args.size)))
    scale = ""
    if is_deep(pixels.dtype):
        scale = ", levels from {:g} to {:g} become 0 to 1".format(*preprocessing.window)
    return f"{found}; {size} pixels, seen as {seen}{scale}"


def write(path: Path, pixels: np.ndarray, p: np.ndarray, classes: np.ndarray, preprocessing) -> None:
    """The three results of one image."""
    pictures.write_image(path.with_name(f"{path.name}_mask.png"), preprocessing.masks.picture(classes))
    maps = np.rint(p * 65535).astype(np.uint16)
    image = pictures.visible(preprocessing(pixels, 0))
    if len(p) == 1:
        pictures.write_image(path.with_name(f"{path.name}_probability.png"), maps[0])
        on_it = pictures.overlay(image, classes, pictures.PREDICTION)
    else:
        pictures.write_image(path.with_name(f"{path.name}_probability.tif"), maps, pages=True)
        on_it = pictures.tinted(image, classes, len(p))
    pictures.write_image(path.with_name(f"{path.name}_overlay.png"), on_it)


def score(counts: ConfusionMatrix) -> str:
    """Dice and IoU in words: of two classes the second one's, of more the means."""
    if not counts.counts.any():
        return "nothing annotated to compare with"
    if len(counts.counts) == 2 and not counts.counts[1].any():
        return f"nothing is there, so no Dice: {falsely(counts)}"
    mean = "mean " if len(counts.counts) > 2 else ""
    return f"{mean}Dice {counts.dice:.3f}, {mean}IoU {counts.iou:.3f}"
