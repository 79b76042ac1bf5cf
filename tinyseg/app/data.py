"""What a run trains on and is judged on: images from a folder, or synthetic ones, parted by subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyseg.data import Dataset, annotate, lung_ct, phantom
from tinyseg.errors import InputError, listed
from tinyseg.io.folder import load_folder
from tinyseg.ops import UNLABELLED

HELD_OUT = 0.2  # share of the images that judge, and of those that choose


@dataclass(frozen=True)
class Data:
    """The three parts: no subject is in two of them."""

    train: Dataset
    held_out: Dataset  # looked at once, in the end
    validation: Dataset | None = None  # what epoch and threshold are chosen by; None: too few subjects
    truth: Dataset | None = None  # held out, with every pixel's class; None: all that is known is annotated

    @property
    def subjects(self) -> int:
        """How many there are in all parts."""
        parts = filter(None, (self.train, self.validation, self.held_out))
        return len({subject for part in parts for subject in part.subjects})


def load_data(args) -> Data:
    """Images with labels from `--data`, or synthetic ones, in three parts of whole subjects.

    A fifth is held out, another fifth is for validation: the best epoch and threshold are chosen by it. With
    two subjects there is no validation, but for lungnet, which needs it. With `args.fold` = (i, n), the
    subjects form n groups: group i is held out, and the next one is for validation.

    Raises:
        InputError: images that cannot be used, too few subjects, or a part in which nothing is to be found.
    """
    source, fold = args.data or "synthetic images", getattr(args, "fold", None)
    data, truth = images(args)
    subjects = len(set(data.subjects))
    if args.network == "lungnet" and subjects < 3:
        raise InputError(
            f"{source}: expected at least 3 subjects, to train, to choose the best epoch and to judge, "
            f"got {subjects}"
        )
    if args.network != "lungnet" and not data.labels.any():
        raise InputError(f"{source}: expected something to find, got {len(data)} masks that are all black")
    validation = None
    if fold:
        i, n = fold
        if n < 3:
            raise InputError(f"--folds {n}: expected at least 3: one judges, one chooses, the others train")
        groups = data.folds(n, np.random.default_rng(args.seed))
        held_out, validation = groups[i], groups[(i + 1) % n]
        train, _ = data.parted(held_out.subjects + validation.subjects)
        parts = {f"judge by in fold {k + 1}": group for k, group in enumerate(groups)}  # each has its turn
    else:
        three = subjects > 2
        train, held_out = data.split(HELD_OUT, np.random.default_rng(args.seed), stay=2 if three else 1)
        parts = {"judge by": held_out}
        if three:
            share = HELD_OUT * len(data) / len(train)  # of the rest, so that it is the same share of all
            train, validation = train.split(share, np.random.default_rng(args.seed))
            parts["choose by"] = validation
        parts["train on"] = train
    check_parts(parts, data, f"{source}, --seed {args.seed}")
    return Data(train, held_out, validation, truth and truth.parted(held_out.subjects)[1])


def images(args) -> tuple[Dataset, Dataset | None]:
    """(images with labels; the same with every pixel's class, where the labels are sparse and synthetic)."""
    sparse = args.network == "lungnet"
    if args.data:
        return load_folder(args.data, args.size, channels=args.channels, label_maps=sparse), None
    if args.channels != 1:
        raise InputError("--channels 3: expected colour images from --data, got none; CT is grey")
    if sparse:
        truth = lung_ct(args.images, args.size, args.seed)
        return annotate(truth, args.seed), truth
    return phantom(args.images, args.size, args.seed), None


def check_parts(parts: dict[str, Dataset], data: Dataset, source: str) -> None:
    """Refuse a part without annotated pixels, or of two classes without the one that is sought.

    There a black mask would have a Dice of 1, and nothing could be learnt, chosen or judged.
    """
    two = data.classes == 2
    what = "something to find" if two else "annotated pixels"
    there = (data.labels == 1 if two else data.labels != UNLABELLED).any(axis=(1, 2))  # (N, H, W) -> (N,)
    subjects = {subject for subject, any_there in zip(data.subjects, there) if any_there}
    for name, part in parts.items():
        if not subjects.intersection(part.subjects):
            raise InputError(
                f"{source}: expected {what} to {name}, got none in {listed(part.names)}; {len(subjects)} of "
                f"{len(set(data.subjects))} subjects have some, and another --seed parts them otherwise"
            )
