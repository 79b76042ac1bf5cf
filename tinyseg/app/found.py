"""What was found where the images are, on one screen, before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from textwrap import fill

import numpy as np

from tinyseg.app.data import Data
from tinyseg.app.figures import plural
from tinyseg.data import Dataset
from tinyseg.errors import listed
from tinyseg.io.preprocessing import preprocessing_of
from tinyseg.ops import UNLABELLED


def describe(data: Data, args) -> str:
    """Images, sizes, what became of them, subjects, the share of each class, and who is on which side."""
    parts = {"to train on": data.train, "validation": data.validation, "held out": data.held_out}
    whole, preprocessing = [part for part in parts.values() if part], preprocessing_of(data.train)
    size = f"{preprocessing.size} x {preprocessing.size} pixels"
    count, colour = sum(map(len, whole)), "grey" if preprocessing.channels == 1 else "red, green and blue"
    if args.data:
        layout = "images/ and masks/" if (args.data / "images").is_dir() else "..._mask beside each"
        kinds = Counter(kind for part in whole for kind in part.kinds).most_common()
        depths = [
            f"{bits}-bit levels divided by {white}"
            for bits, white in white_levels(kinds, preprocessing).items()
        ]
        lines = {
            "data": f"{args.data}: {count} images, {layout}",
            "files": listed([f"{number} of {kind}" for kind, number in kinds], 8),
            "seen as": f"{size}, {colour}: of each its centre square, resized; {', '.join(depths)}",
        }
    else:
        lines = {"data": f"synthetic, {count} images of {size}, seed {args.seed}"}
    lines["subjects"] = subjects_line(Counter(subject for part in whole for subject in part.subjects), args)
    lines["classes"] = shares(whole)
    lines |= {
        name: side(part) if part else "nothing: a third subject is missing" for name, part in parts.items()
    }
    form = {"width": 108, "subsequent_indent": " " * 14, "break_long_words": False, "break_on_hyphens": False}
    return "\n".join(fill(f"{name:14}{text}", **form) for name, text in lines.items())


def white_levels(kinds: list, preprocessing) -> dict[int, int]:
    """What levels were divided by, for each depth of file that there is."""
    known = {1: 1, 8: 255, 16: 2 ** (preprocessing.bits or 16) - 1}
    return {bits: white for bits, white in known.items() if any(f", {bits}-bit" in kind for kind, _ in kinds)}


def subjects_line(subjects: Counter, args) -> str:
    """How many subjects there are, and by what rule an image is of one."""
    fewest, most = min(subjects.values()), max(subjects.values())
    if most == 1:
        return f"{len(subjects)}: each image counts as its own subject"
    spread = f"{most}" if fewest == most else f"{fewest} to {most}"
    rule = ", named by what stands before the last underscore" if args.data else ""
    return f"{len(subjects)}, of {spread} images each{rule}"


def shares(whole: list[Dataset]) -> str:
    """Each class's share of the pixels that are annotated."""
    counts = np.sum([np.bincount(part.labels.ravel(), minlength=256) for part in whole], axis=0)
    known, names = counts.sum() - counts[UNLABELLED], whole[0].class_names
    each = ", ".join(f"{name} {counts[k] / known:.1%}" for k, name in enumerate(names))
    if len(names) > 2 or counts[UNLABELLED]:
        return f"{each} of annotated pixels, which are {known / counts.sum():.1%} of all"
    empty = sum(int((~part.labels.any(axis=(1, 2))).sum()) for part in whole)
    return f"{each} of all pixels; nothing is to be found in {plural(empty, 'image')}"


def side(part: Dataset) -> str:
    """How many images and subjects are on one side of the split, and which subjects."""
    subjects = list(dict.fromkeys(part.subjects))
    count = f"{len(part)} images of {len(subjects)} subject{'s' if len(subjects) > 1 else ''}"
    return f"{count}: {listed(subjects, 12)}" if part.kinds else count
