"""What a run trains on and is judged on: images from a folder, or synthetic ones, split by subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyseg.data import Dataset, annotate, lung_ct, phantom
from tinyseg.errors import InputError, listed
from tinyseg.io.folder import load_folder
from tinyseg.ops import UNLABELLED

HELD_OUT = 0.2  # share of the images that the network never trains on


@dataclass(frozen=True)
class Data:
    """The sides of the split."""

    train: Dataset
    held_out: Dataset
    validation: Dataset | None = None  # what the best epoch is chosen by; None: no epoch is chosen
    truth: Dataset | None = None  # held out, with every pixel's class; None: all that is known is annotated


def load_data(args) -> Data:
    """Images with labels from `--data`, or synthetic ones; a fifth, by whole subjects, is held out.

    For lungnet the labels are label maps, and another fifth is there to choose the best epoch by.
    """
    source, sparse, truth = args.data or "synthetic images", args.network == "lungnet", None
    if args.data:
        data = load_folder(args.data, args.size, channels=args.channels, label_maps=sparse)
    elif args.channels != 1:
        raise InputError("--channels 3: expected colour images from --data, got none; CT is grey")
    elif sparse:
        truth = lung_ct(args.images, args.size, args.seed)
        data = annotate(truth, args.seed)
    else:
        data = phantom(args.images, args.size, args.seed)

    def split(data, share=HELD_OUT):
        return data.split(share, np.random.default_rng(args.seed))

    if not sparse:
        if not data.labels.any():
            raise InputError(
                f"{source}: expected something to find, got {len(data)} masks that are all black"
            )
        return Data(*split(data))
    if (subjects := len(set(data.subjects))) < 3:
        raise InputError(
            f"{source}: expected at least 3 subjects, to train, to choose the best epoch and to judge, "
            f"got {subjects}"
        )
    rest, held_out = split(data)
    if len(set(rest.subjects)) < 2:
        raise InputError(
            f"{source}: expected subjects of like numbers of images, got one with so many that none is "
            f"left to choose by; another --seed than {args.seed} splits them otherwise"
        )
    train, validation = split(rest, HELD_OUT / (1 - HELD_OUT))
    for name, part in (("train on", train), ("choose the best epoch by", validation), ("judge by", held_out)):
        if (part.labels == UNLABELLED).all():
            raise InputError(
                f"{source}: expected annotated pixels to {name}, got none in {listed(part.names)}"
            )
    return Data(
        train, held_out, validation, split(truth)[1] if truth else None
    )  # the same images as held out
