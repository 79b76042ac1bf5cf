"""What was found where the images are, on one screen, before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from textwrap import fill

import numpy as np

from tinyseg.app.data import Data, crop_of, something, source_of
from tinyseg.data import Dataset
from tinyseg.data.dataset import all_pixels
from tinyseg.errors import listed, plural
from tinyseg.io.preprocessing import preprocessing_of
from tinyseg.ops import UNLABELLED


def describe(data: Data, args) -> str:
    """Images, sizes, what became of them, subjects, the share of each class, and who is on which side."""
    parts = {"to train on": data.train, "validation": data.validation, "held out": data.held_out}
    whole, preprocessing = list(data.parts.values()), preprocessing_of(data.train)
    count, loaded = sum(map(len, whole)), data.loaded
    if loaded:
        kinds = Counter(kind for part in whole for kind in part.kinds).most_common()
        lines = {
            "data": f"{source_of(args)}: {plural(count, 'image')}, {loaded.found.layout}",
            "files": listed([f"{number} of {kind}" for kind, number in kinds], 8) + turned(loaded.turned),
            "passed over": listed(loaded.found.passed_over, 8),
            "masks": loaded.masks + merged(loaded.found.pairs),
            "seen as": seen(data, kinds, preprocessing, args),
        }
    else:
        size = f"{preprocessing.size} x {preprocessing.size} pixels"
        lines = {"data": f"synthetic, {count} images of {size}, seed {args.seed}"}
    lines["subjects"] = subjects_line(Counter(subject for part in whole for subject in part.subjects), loaded)
    lines["classes"] = shares(whole, loaded)
    lines |= {
        name: side(part, loaded) if part else "nothing: another subject is missing"
        for name, part in parts.items()
    }
    form = {"width": 108, "subsequent_indent": " " * 14, "break_long_words": False, "break_on_hyphens": False}
    return "\n".join(fill(f"{name:14}{text}", **form) for name, text in lines.items() if text)


def merged(pairs) -> str:
    """How many mask files there are, where some images have several."""
    files = sum(len(pair.masks) for pair in pairs)
    several = any(len(pair.masks) > 1 for pair in pairs)
    return f"; {files} files, those of one image are merged" if several else ""


def turned(count: int) -> str:
    """How many images were set upright."""
    return f"; {count} set upright by their EXIF tag, their masks taken as they are" if count else ""


def seen(data: Data, kinds: list, preprocessing, args) -> str:
    """What becomes of an image before the network sees it."""
    size = "at their own size"
    if preprocessing.size:
        size = f"resized to {preprocessing.size} pixels on the shorter side"
    channels = {1: "grey", 3: "red, green and blue"}
    colour = channels.get(preprocessing.channels, f"{preprocessing.channels} channels")
    levels = {
        "1-bit": "",
        "8-bit grey": "8-bit levels divided by 255",
        "8-bit colour": "8-bit levels divided by 255",
    }
    said = {levels.get(kind.partition(", ")[2], "") for kind, _ in kinds} - {""}
    if window := preprocessing.window:
        said.add(f"deeper levels from {window[0]:g} to {window[1]:g} become 0 to 1, by the training images")
    crop = crop_of(args, data.train)
    training = "" if crop is None else f"; training sees random squares of {crop} x {crop}"
    return f"whole, {size}, {colour}{training}; {', '.join(sorted(said))}"


def subjects_line(subjects: Counter, loaded) -> str:
    """How many subjects there are, by what rule an image is of one, and other ways to read the names."""
    fewest, most = min(subjects.values()), max(subjects.values())
    spread = f"{most}" if fewest == most else f"{fewest} to {most}"
    said = f"{len(subjects)}, of {spread} {'image' if most == 1 else 'images'} each"
    if loaded:
        said += f"; {loaded.found.rule}"
        if loaded.found.hints:
            said += f". If that is not your patients: {'; '.join(loaded.found.hints)}"
    return said


def shares(whole: list[Dataset], loaded) -> str:
    """Each class's share of the pixels that are annotated: of the files' own, and of the resized ones."""
    resized = sum(np.bincount(all_pixels(part.labels), minlength=256) for part in whole)
    counts = loaded.own_counts.sum(axis=0) if loaded else resized
    names = whole[0].class_names
    of_each = []
    for k, name in enumerate(names):
        before, after = (n[k] / max(1, n.sum() - n[UNLABELLED]) for n in (counts, resized))
        moved = f" ({after:.2%} after resizing)" if abs(after - before) > 0.05 * before else ""
        of_each.append(f"{name} {before:.1%}{moved}" if before >= 0.001 else f"{name} {before:.3%}{moved}")
    each, known = ", ".join(of_each), counts.sum() - counts[UNLABELLED]
    if len(names) > 2 or counts[UNLABELLED]:
        return f"{each} of annotated pixels, which are {known / counts.sum():.1%} of all"
    empty = (
        int((loaded.own_counts[:, 1] == 0).sum())
        if loaded
        else sum(int((~something(p)).sum()) for p in whole)
    )
    after = sum(int((~something(part)).sum()) for part in whole)
    lost = f", after resizing in {after}" if after != empty else ""
    return f"{each} of all pixels; nothing is to be found in {plural(empty, 'image')}{lost}"


def side(part: Dataset, loaded) -> str:
    """How many images and subjects a side of the split has, in how many something is, and which subjects."""
    subjects = list(dict.fromkeys(part.subjects))
    count = f"{plural(len(part), 'image')} of {plural(len(subjects), 'subject')}"
    if part.classes == 2:
        after = before = int(something(part).sum())
        if loaded:
            own = dict(zip(loaded.names, loaded.own_counts[:, 1] > 0))
            before = sum(own[name] for name in part.names)
        resized = f" ({after} after resizing)" if after != before else ""
        count += f", {before} with {part.class_names[1]}{resized}"
    return f"{count}: {listed(subjects, 12)}" if part.kinds else count
