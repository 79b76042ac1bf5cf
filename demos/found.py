"""What was found where the images are, on one screen, before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from textwrap import fill

import numpy as np

from tinyseg.data import Dataset
from tinyseg.errors import listed
from tinyseg.ops import UNLABELLED

WIDTH = 108  # characters


def describe(data, args) -> str:
    """Images, sizes, what became of them, subjects, the share of each class, and who is on which side."""
    parts = {"to train on": data.train, "to choose by": data.validation, "held out": data.held_out}
    parts = {name: part for name, part in parts.items() if part}
    whole, how = list(parts.values()), data.train.preprocessing
    kinds = Counter(kind for part in whole for kind in part.kinds)
    subjects = Counter(subject for part in whole for subject in part.subjects)
    per = sorted(subjects.values())
    spread = f"{per[0]}" if per[0] == per[-1] else f"{per[0]} to {per[-1]}"
    lines = {
        "data": f"{args.data or f'synthetic, seed {args.seed}'}: {sum(map(len, whole))} images",
        "files": listed([f"{count} of {kind}" for kind, count in kinds.most_common()], 8),
        "seen as": f"{how.size} x {how.size} pixels, {'grey' if how.channels == 1 else 'colour'}"
        + (", the centre square resized" if kinds else "")
        + (f"; 16-bit levels divided by {2**how.bits - 1}" if how.bits else ""),
        "subjects": f"{len(subjects)}, of {spread} image{'' if spread == '1' else 's'} each"
        + (", by what stands before a name's last underscore" if kinds else ""),
        "classes": shares(whole, how),
        **{name: side(part) for name, part in parts.items()},
    }
    layout = {
        "width": WIDTH,
        "subsequent_indent": " " * 14,
        "break_long_words": False,
        "break_on_hyphens": False,
    }
    return "\n".join(fill(f"{name:14}{text}", **layout) for name, text in lines.items() if text)


def shares(whole: list[Dataset], how) -> str:
    """Each class's share of the pixels that are annotated."""
    counts = sum(np.bincount(part.masks.astype(np.uint8).ravel(), minlength=256) for part in whole)
    known = counts.sum() - counts[UNLABELLED]
    each = [f"{name} {counts[k] / known:.1%}" for k, name in enumerate(how.names)]
    if whole[0].label_maps:
        return f"{', '.join(each)} of annotated pixels, which are {known / counts.sum():.1%} of all"
    empty = sum(int((~part.masks.any(axis=(1, 2, 3))).sum()) for part in whole)
    return f"{', '.join(each)} of all pixels; in {empty} images there is nothing to find"


def side(part: Dataset) -> str:
    """How many images and subjects are on one side of the split, and which subjects."""
    subjects = list(dict.fromkeys(part.subjects))
    count = f"{len(part)} images of {len(subjects)} subject{'s' if len(subjects) > 1 else ''}"
    return f"{count}: {listed(subjects, 12)}" if part.kinds else count
