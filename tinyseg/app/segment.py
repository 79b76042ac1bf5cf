"""Segment images with a trained network: for each, a mask, a probability map, and the mask on the image.

An image goes the way of the training images, its shorter side resized to the training's size, but whole:
nothing is cut off. The answer is brought back to the image's own size. --size N shows it to the network at
another size, --size 0 at its own; what memory cannot hold is cut into overlapping tiles.

Of two classes the probability map is a 16-bit PNG of the second one; of more it is a TIFF, a page for each
class in the order of legend.png.
A true mask, <image>_mask beside an image or of its name in masks/ beside images/, is compared with.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from tinyseg.app.flags import Parser, above_zero, folder, number
from tinyseg.app.report import MOST_BYTES, MOST_IMAGES, Shown, figure, page, paragraph, section, slider, table
from tinyseg.app.run import Log, guarded
from tinyseg.errors import InputError
from tinyseg.io import pictures
from tinyseg.io.folder import images_in, truth_of
from tinyseg.io.models import load
from tinyseg.io.pixels import class_numbers, read_pages
from tinyseg.io.preprocessing import MASK
from tinyseg.io.tiles import GB, free_memory, probability_maps, tile_for
from tinyseg.metrics import ConfusionMatrix, confusion_matrix
from tinyseg.ops import UNLABELLED
from tinyseg.training import most_probable

LOG, PAGE = "segment.txt", "segment.html"
ENDS = ("_mask.png", "_probability.png", "_probability.tif", "_overlay.png")


def parse(argv) -> argparse.Namespace:
    """The flags."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="tinyseg segment", description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL", type=Path, help="model.npz of a training run")
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", type=folder, help="files, also of many pages, or folders"
    )
    parser.add_argument(
        "--out", type=folder, metavar="DIR", default=Path("runs/segmented"),
        help="where the results go (default runs/segmented)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=number(int, 0, "a whole number of at least 0"), metavar="N",
        help="the shorter side in pixels when the network sees it, 0: its own; things must then be as large "
        "as they were in training (default: as in training)",
    )  # fmt: skip
    parser.add_argument(
        "--memory", type=above_zero, metavar="GB", default=free_memory() / GB,
        help="what the network may take; larger images go in tiles (default: half of what is free)",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=number(float, 0, "a number of at least 0"), metavar="P", default=0.5,
        help="of two classes, the probability above which a pixel is the second's (default 0.5)",
    )  # fmt: skip
    return parser.parse_args(argv)


@guarded
def main(argv=None):
    args = parse(argv)
    model = load(args.model)
    files = list(dict.fromkeys(file for place in args.images for file in images_in(place)))
    check_names(files, args.out)
    run = Log(args.out, LOG)
    if (names := model[3].names)[2:]:
        pictures.write_image(args.out / "legend.png", pictures.legend(names, 480))
    counted, done, looked = [], 0, Looked()
    for file in files:
        try:
            counted += segment(run, model, file, args, looked)
            done += 1
        except InputError as error:  # the others are segmented all the same
            run.fail(error)
        except MemoryError:
            run.fail(f"{file}: not enough memory; try a smaller --memory, or another --size")
    if len(counted) > 1:
        run.say(
            f"all {len(counted)} with a true mask together: {score(ConfusionMatrix(np.sum(counted, axis=0)))}"
        )
    run.write(PAGE, looked.page(args, model[3].names))
    run.say(f"{done} of {len(files)} images segmented" + (f"; the results are in {args.out}" if done else ""))
    if run.errors:
        raise SystemExit(2)
    return counted


@dataclass
class Looked:
    """What segment.html shows: a line for each image, and as many images as it holds."""

    lines: list[dict] = field(default_factory=list)
    images: list[Shown] = field(default_factory=list)
    overlays: list[str] = field(default_factory=list)
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
            legend = (args.out / "legend.png").read_bytes()
            shown = [figure("legend.png", legend, ", ".join(names)), *self.overlays]
        sections = [section("The images", paragraph(note), *shown)]
        if self.lines:
            sections.append(section("In words", table("Each image", self.lines)))
        return page(f"Segmented by {args.model.name}", sections)


def check_names(files: list[Path], out: Path) -> None:
    """Refuse to write over what is not an earlier segmentation's, or two images' results into one file."""
    stems = {}
    for file in files:
        if file.parent.resolve() == out.resolve():
            raise InputError(f"{out}: expected another folder than that of the images, got {file.name}'s own")
        if file.stem in stems:
            raise InputError(f"{file}: expected images of different names, got {stems[file.stem]} as well")
        stems[file.stem] = file
    for stem, file in stems.items():
        stack = re.sub(r"_page\d+$", "", stem)  # results of a stack's pages have such names
        if stack != stem and stack in stems:
            raise InputError(f"{file}: expected images of different names, got {stems[stack]} and its pages")
        for of_stack, end in product(("", "_page1"), ENDS):
            if (result := out / f"{stem}{of_stack}{end}").exists() and not (out / PAGE).exists():
                raise InputError(
                    f"{result}: expected to write a result here, got a file that is not from here"
                )
    for name in (PAGE, LOG, "legend.png"):
        if (out / name).exists() and not all((out / own).exists() for own in (PAGE, LOG)):
            raise InputError(
                f"{out / name}: expected to write a result here, got a file that is not from here"
            )


def segment(run: Log, model: tuple, file: Path, args, looked: Looked) -> list[np.ndarray]:
    """Segment each page of a file and write what came out; the confusion counts of those with a true mask."""
    net, params, state, preprocessing = model
    pages, memory, counted = read_pages(file), args.memory * GB, []
    preprocessing = preprocessing.for_file(pages)
    try:
        known = truths(file, pages, preprocessing)
    except InputError as error:  # what cannot be judged is segmented all the same
        run.fail(error)
        known = [None] * len(pages)
    for i, (pixels, truth) in enumerate(zip(pages, known), 1):
        name = file.stem + (f"_page{i}" if len(pages) > 1 else "")
        try:
            tile = tile_for(net, *preprocessing.shape(pixels, args.size), memory)
        except InputError as error:
            raise InputError(f"{file}: {error}; --memory and --size change that") from None
        p = probability_maps(net, params, state, preprocessing, pixels, size=args.size, memory=memory)
        if not np.isfinite(p).all():
            raise InputError(f"{file}: the network's probabilities are not finite; this model is of no use")
        classes = most_probable(p, args.threshold)
        write(args.out / name, pixels, p, classes, preprocessing)
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
    found = ", ".join(f"{name} {np.mean(classes == k):.1%}" for k, name in enumerate(preprocessing.names))
    if len(p) == 1 and not classes.any():
        found += f" (highest probability {p.max():.3f})"
    size, seen = (f"{w} x {h}" for h, w in (pixels.shape[:2], preprocessing.shape(pixels, args.size)))
    scale = f", 16-bit levels divided by {2**preprocessing.bits - 1}" if pixels.dtype == np.uint16 else ""
    return f"{found}; {size} pixels, seen as {seen}{scale}"


def truths(file: Path, pages: list[np.ndarray], preprocessing) -> list[np.ndarray | None]:
    """For each page the classes that are true by the mask beside the file; None where there is no mask."""
    beside = truth_of(file)
    if beside is None:
        return [None] * len(pages)
    masks = read_pages(beside, indices=preprocessing.values != MASK)
    if len(masks) != len(pages):
        raise InputError(f"{beside}: expected pages like those of {file}, {len(pages)}, got {len(masks)}")
    for mask, pixels in zip(masks, pages):
        if mask.shape[:2] != pixels.shape[:2]:
            wanted, got = ("{1} x {0}".format(*a.shape) for a in (pixels, mask))
            raise InputError(f"{beside}: expected the size of {file}, {wanted}, got {got}")
    return [class_numbers(mask, preprocessing.values, beside) for mask in masks]


def write(path: Path, pixels: np.ndarray, p: np.ndarray, classes: np.ndarray, preprocessing) -> None:
    """The three results of one image."""
    values = np.array(preprocessing.values, np.uint8 if max(preprocessing.values) < 256 else np.uint16)
    pictures.write_image(path.with_name(f"{path.name}_mask.png"), values[classes])
    maps = np.rint(p * 65535).astype(np.uint16)
    image = preprocessing(pixels, 0).mean(axis=0)  # (channels, H, W) -> (H, W)
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
    mean = "mean " if len(counts.counts) > 2 else ""
    return f"{mean}Dice {counts.dice:.3f}, {mean}IoU {counts.iou:.3f}"
