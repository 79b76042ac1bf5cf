"""Segment images with a trained network: for each, a mask, a probability map, and the mask on the image.

An image goes the way of the training images, its shorter side resized to the training's size, but whole:
nothing is cut off. The answer is brought back to the image's own size. --size N shows it to the network at
another size, --size 0 at its own; what memory cannot hold is cut into overlapping tiles.

Of two classes the probability map is a 16-bit PNG of the second one; of more it is a TIFF, a page a class.
A true mask, <image>_mask beside an image or of its name in masks/ beside images/, is compared with.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flags import Parser, above_zero, folder, number
from run import Run, guarded, progress

from tinyseg import load, pictures
from tinyseg.data.folder import images_in, truth_of
from tinyseg.data.pixels import class_numbers, read_pages
from tinyseg.errors import InputError
from tinyseg.inference import free_memory, most_probable, probability_maps
from tinyseg.metrics import ConfusionMatrix, confusion_matrix

GB = 1e9


@dataclass(frozen=True)
class Job:
    """What is to be done, the same for every image."""

    model: tuple  # net, params, state, preprocessing
    size: int | None
    memory: float  # bytes
    out: Path


def parse(argv) -> argparse.Namespace:
    """The flags."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, formatter_class=raw, allow_abbrev=False)
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
        help="the shorter side in pixels when the network sees it, 0: its own (default: as in training)",
    )  # fmt: skip
    parser.add_argument(
        "--memory", type=above_zero, metavar="GB", default=free_memory() / GB,
        help="what the network may take; larger images go in tiles (default: half of what is free)",
    )  # fmt: skip
    return parser.parse_args(argv)


@guarded
def main(argv=None):
    args = parse(argv)
    model = load(args.model)
    files = list(dict.fromkeys(file for place in args.images for file in images_in(place)))
    check_names(files, args.out)
    run = Run(args.out, results=("log.txt",))
    if (names := model[3].names)[2:]:
        pictures.write_image(args.out / "legend.png", pictures.legend(names, 480))
    job = Job(model, args.size, args.memory * GB, args.out)
    bar, counted, failed = progress(len(files), "image"), [], 0
    run.print = bar.write
    try:
        for file in files:
            try:
                counted += segment(run, job, file)
            except (InputError, MemoryError) as error:  # the others are segmented all the same
                run.say(f"error: {error or f'{file}: not enough memory; try a smaller --memory or --size'}")
                failed += 1
            bar.update()
    finally:
        bar.close()
        run.print = print
    if len(counted) > 1:
        run.say(f"all {len(counted)} with a true mask together: {score(sum_of(counted))}")
    run.say(f"{len(files) - failed} of {len(files)} images segmented; the results are in {args.out}")
    if failed:
        raise SystemExit(2)
    return counted


def check_names(files: list[Path], out: Path) -> None:
    """Refuse to write over an image, or two images' results into one file."""
    seen = {}
    for file in files:
        if file.parent.resolve() == out.resolve():
            raise InputError(f"{out}: expected another folder than that of the images, got {file.name}'s own")
        if file.stem in seen:
            raise InputError(f"{file}: expected images of different names, got {seen[file.stem]} as well")
        seen[file.stem] = file


def segment(run: Run, job: Job, file: Path) -> list[ConfusionMatrix]:
    """Segment each page of a file and write what came out; the counts of those whose truth is known."""
    net, params, state, how = job.model
    pages, counted = read_pages(file), []
    truth_file = truth_of(file)
    truths = read_pages(truth_file) if truth_file else [None] * len(pages)
    if len(truths) != len(pages):
        raise InputError(f"{truth_file}: expected {len(pages)} pages like {file}, got {len(truths)}")
    for page, (pixels, truth) in enumerate(zip(pages, truths), 1):
        name = file.stem + (f"_page{page}" if len(pages) > 1 else "")
        try:
            p = probability_maps(net, params, state, how, pixels, size=job.size, memory=job.memory)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        classes = most_probable(p)
        write(job.out / name, pixels, p, classes, how)
        share = ", ".join(
            f"{title} {np.mean(classes == k):.1%}" for k, title in enumerate(how.names) if k or len(p) > 1
        )
        line = f"{name}: {pixels.shape[1]} x {pixels.shape[0]} pixels, {share}"
        if truth is not None:
            if truth.shape[:2] != pixels.shape[:2]:
                raise InputError(f"{truth_file}: expected the size of {file}, got another")
            counted.append(
                confusion_matrix(classes, class_numbers(truth, how.values, truth_file), net.classes)
            )
            line += f"; {score(counted[-1])}"
        run.say(line)
    return counted


def write(path: Path, pixels: np.ndarray, p: np.ndarray, classes: np.ndarray, how) -> None:
    """The three results of one image."""
    values = np.array(how.values, np.uint8 if max(how.values) < 256 else np.uint16)
    pictures.write_image(path.with_name(f"{path.name}_mask.png"), values[classes])
    maps = np.rint(p * 65535).astype(np.uint16)
    image = how(pixels, 0).mean(axis=0)  # (channels, H, W) -> (H, W)
    if len(p) == 1:
        pictures.write_image(path.with_name(f"{path.name}_probability.png"), maps[0])
        on_it = pictures.overlay(image, classes, pictures.PREDICTION)
    else:
        pictures.write_image(path.with_name(f"{path.name}_probability.tif"), maps)
        on_it = pictures.tinted(image, classes, len(p))
    pictures.write_image(path.with_name(f"{path.name}_overlay.png"), on_it)


def score(counts: ConfusionMatrix) -> str:
    """Dice and IoU in words: of two classes the second one's, of more the means."""
    two = len(counts.counts) == 2
    what, mean = (counts.classes[1], "") if two else (counts, "mean ")
    return f"{mean}Dice {what.dice:.3f}, {mean}IoU {what.iou:.3f}"


def sum_of(counted: list[ConfusionMatrix]) -> ConfusionMatrix:
    """All pixels pooled."""
    return ConfusionMatrix(sum(c.counts for c in counted))


if __name__ == "__main__":
    main()
