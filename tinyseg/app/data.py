"""What a run trains on and is judged on: images from folders, or synthetic ones, parted by subject."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from tinyseg.data import Dataset, annotate, lung_ct, phantom
from tinyseg.data.dataset import all_pixels
from tinyseg.errors import InputError, listed, plural
from tinyseg.io.folder import Loaded, read_found
from tinyseg.io.pairing import Choices, find_pairs, find_parts
from tinyseg.io.preprocessing import Preprocessing
from tinyseg.io.rle import table
from tinyseg.io.tiles import GB
from tinyseg.ops import UNLABELLED

HELD_OUT = 0.2  # share of the images that judge, and of those that choose
TRIES = 50  # to part the subjects so that there is something to find on every side
TRAIN, VALIDATION, JUDGE = "train on", "choose by", "judge by"


@dataclass(frozen=True)
class Data:
    """The three parts: no subject is in two of them."""

    train: Dataset
    held_out: Dataset  # looked at once, in the end
    validation: Dataset | None = None  # what epoch and threshold are chosen by; None: too few subjects
    truth: Dataset | None = None  # held out, with every pixel's class; None: all that is known is annotated
    loaded: Loaded | None = None  # what was found in the files; None: they are synthetic
    warnings: tuple[str, ...] = ()  # what makes them worth less than they seem

    @property
    def parts(self) -> dict[str, Dataset]:
        """Those that there are, by what they are for."""
        parts = {TRAIN: self.train, VALIDATION: self.validation, JUDGE: self.held_out}
        return {name: part for name, part in parts.items() if part}

    @property
    def subjects(self) -> int:
        """How many there are in all parts."""
        return len({subject for part in self.parts.values() for subject in part.subjects})


def load_data(args) -> Data:
    """Images with labels from one's own folders, or synthetic ones, in three parts of whole subjects.

    A fifth is held out, another fifth is for validation: the best epoch and threshold are chosen by it. With
    two subjects there is no validation, but for lungnet, which needs it. With `args.fold` = (i, n), the
    subjects form n groups: group i is held out, and the next one is for validation. Folders that come in
    parts, `train/` and `val/`, keep them.

    Raises:
        InputError: images that cannot be used, too few subjects, or nothing that could be learnt.
    """
    loaded, data, truth = images(args)
    source = source_of(args)
    if args.network != "lungnet" and not any(one.any() for one in data.labels):
        erased = loaded is not None and loaded.own_counts[:, 1].any()
        way_out = (
            "masks that --size makes all black; a larger --size, or 0"
            if erased
            else "masks that are all black"
        )
        raise InputError(f"{source}: expected something to find, got {len(data)} {way_out}")
    if args.network != "lungnet" and all((one == 1).all() for one in data.labels):
        raise InputError(f"{source}: expected masks of something, got {len(data)} that are filled everywhere")
    side = sides(data, loaded, args, source)
    if loaded:
        data = loaded.ready(side == TRAIN, args.window)
    parts = {name: data.take(side == name) for name in (TRAIN, VALIDATION, JUDGE) if (side == name).any()}
    warnings = (*unseen(parts[TRAIN]), *(doubts(loaded, data, side) if loaded else ()))
    truth = truth and truth.take(side == JUDGE)
    loaded = loaded and replace(loaded, data=data.take([]))  # the parts have the images
    return Data(parts[TRAIN], parts[JUDGE], parts.get(VALIDATION), truth, loaded, warnings)


def is_own(args) -> bool:
    """Whether the images are somebody's own, and not synthetic."""
    return bool(args.data or args.train or args.val or args.test) or not isinstance(args.images, int)


def source_of(args) -> str:
    """Where the images are from, for an error."""
    places = [
        args.data,
        args.train,
        args.val,
        args.test,
        None if isinstance(args.images, int) else args.images,
    ]
    return " and ".join(str(place) for place in places if place) or "synthetic images"


def images(args) -> tuple[Loaded | None, Dataset, Dataset | None]:
    """(what files hold; images with labels; the same with every pixel's class, where they are synthetic)."""
    sparse = args.network == "lungnet"
    if is_own(args):
        how = {"two": not sparse, "values": args.mask_values, "window": args.window}
        how |= {"ignore": getattr(args, "ignore", None), "memory": args.memory and args.memory * GB}
        colours = args.colours and read_colours(args.colours)
        loaded = read_found(found_in(args), Preprocessing(args.size, args.channels), **how, colours=colours)
        return loaded, loaded.data, None
    for flag in ("masks", "mask_suffix", "subject", "subjects", "mask_values", "colours", "window"):
        if getattr(args, flag) is not None:
            raise InputError(
                f"--{flag.replace('_', '-')}: expected your own images by --data or --images DIR, got none"
            )
    if args.channels != 1:
        how = f"--channels {args.channels}"
        raise InputError(f"{how}: expected images from --data, got none; synthetic ones are grey")
    if args.size < 1:
        raise InputError("--size 0: expected your own images by --data, got none; synthetic ones need a size")
    try:
        if not sparse:
            return None, phantom(args.images, args.size, args.seed), None
        truth = lung_ct(args.images, args.size, args.seed)
        return None, annotate(truth, args.seed), truth
    except InputError as error:  # it begins with the name of the argument, which is that of the flag
        raise InputError(f"--{error}") from None


def found_in(args):
    """The pairs of images and masks that the flags name."""
    if args.empty_without_mask and args.skip_without_mask:
        raise InputError("--empty-without-mask, --skip-without-mask: expected one of them, got both")
    without = args.empty_without_mask, args.skip_without_mask
    choices = Choices(args.masks, args.mask_suffix, *without, args.subject, args.subjects)
    folders = {name: getattr(args, name) for name in ("train", "val", "test") if getattr(args, name)}
    own = None if isinstance(args.images, int) else args.images
    given = [
        name for name, there in (("--data", args.data), ("--images", own), ("--train", folders)) if there
    ]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: expected the images in one way, got {len(given)}")
    if own and not args.masks:
        raise InputError(f"--images {own}: expected the masks by --masks DIR or --masks FILE.csv, got none")
    if args.masks and not own:
        raise InputError(f"--masks {args.masks}: expected the images by --images DIR, got none")
    if folders and not {"train", "val"} <= folders.keys():
        raise InputError("--train, --val: expected both, got one; --test may be a third")
    found = find_parts(folders, choices) if folders else find_pairs(args.data or own, choices)
    out = os.path.realpath(getattr(args, "out", "runs"))
    for file in {file.parent: file for pair in found.pairs for file in (pair.image, *pair.masks)}.values():
        if os.path.realpath(file.parent) == out:
            raise InputError(
                f"--out {args.out}: expected another folder than that of {file.name}, got its own"
            )
    return found


def read_colours(path) -> dict[int, str]:
    """{colour as a number: name} of a CSV with a line R,G,B,NAME for each class."""
    colours: dict[int, str] = {}
    for number, cells in table(path):
        if number == 1 and [cell[:1].lower() for cell in cells[:3]] == ["r", "g", "b"]:
            continue  # a header
        levels = [int(cell) for cell in cells[:3] if cell.isdecimal() and int(cell) < 256]
        name = cells[-1]
        fits = len(cells) == 4 and len(levels) == 3 and 0 < len(name) <= 100 and name.isprintable()
        if not fits or name in colours.values():
            got = ",".join(cells)[:80]
            raise InputError(f"{path}, line {number}: expected R,G,B,NAME, each name once, got {got}")
        colours[levels[0] << 16 | levels[1] << 8 | levels[2]] = name
    if not 2 <= len(colours) <= UNLABELLED:
        raise InputError(f"{path}: expected 2 to {UNLABELLED - 1} colours, got {len(colours)}")
    return colours


def sides(data: Dataset, loaded: Loaded | None, args, source: str) -> np.ndarray:
    """What each image is for, (N,): TRAIN, VALIDATION or JUDGE.

    Of some draws the first counts that leaves something to find on every side. Where none does, training
    comes first, then the judgement.
    """
    own = np.array(loaded.parts if loaded else [""] * len(data), object)
    count, fold = len(set(data.subjects)), getattr(args, "fold", None)
    if fold and fold[1] < 3:
        raise InputError(f"--folds {fold[1]}: expected at least 3: one judges, one chooses, the others train")
    if fold and own[0]:
        raise InputError(f"{source}: expected --folds to part the subjects, got images that come in parts")
    least, what_for = (3, "train, choose the epoch") if args.network == "lungnet" else (2, "train")
    if not own[0] and count < least:
        one = "a file's pages are of one subject: split the file, or add images of other subjects"
        ways = "--subject REGEX or --subjects FILE say who they are; by --subject '(.*)' each file is one"
        raise InputError(
            f"{source}: expected at least {least} subjects, to {what_for} and judge, got "
            f"{count}: {listed(dict.fromkeys(data.subjects))}; "
            + (
                ways
                if loaded and len(loaded.found.pairs) >= least
                else one
                if loaded
                else "--images N is larger"
            )
        )
    there, names = something(data), np.array(data.names, object)
    blank = np.zeros((len(data), 1, 1, 1))  # to part subjects, nobody needs their pixels
    outline = Dataset(blank, blank[:, 0].astype(int), data.names, data.subjects)
    best: tuple[list[bool], np.ndarray, list] | None = None
    for attempt in range(TRIES):
        side, trained, each = drawn(outline, own, fold, [args.seed, attempt] if attempt else args.seed)
        score = [bool(there[part].any()) for part in (*trained, *each)]
        if best is None or score > best[0]:
            best = score, side, trained
        if all(score):
            break
    _, side, trained = best
    for number, part in enumerate(trained, 1):
        if not there[part].any():
            where = f" in fold {number}" if fold else ""
            raise InputError(
                f"{source}: expected {wanted(data)} to train on{where}, got none in {listed(names[part])}; "
                f"{there.sum()} of {len(data)} images have some"
            )
    return side


def drawn(outline: Dataset, own: np.ndarray, fold, seed) -> tuple[np.ndarray, list, list]:
    """One way to part the images: what each is for, (N,); those that train, in each fold; the other groups.

    The groups are (N,) bool.
    """
    names, side = np.array(outline.names, object), np.full(len(outline), TRAIN, object)
    if fold:
        groups = outline.folds(fold[1], np.random.default_rng(seed))
        each = [np.isin(names, group.names) for group in groups]
        side[each[fold[0]]], side[each[(fold[0] + 1) % len(each)]] = JUDGE, VALIDATION
        return side, [~(one | after) for one, after in zip(each, each[1:] + each[:1])], each
    side[np.isin(own, ["val", "test"])] = JUDGE
    if "test" in own:
        side[own == "val"] = VALIDATION
    rest = outline.take(side == TRAIN)
    of_train, subjects = len(rest), len(set(rest.subjects))
    if not own[0]:
        rest, out = rest.split(HELD_OUT, np.random.default_rng(seed), stay=2 if subjects > 2 else 1)
        side[np.isin(names, out.names)] = JUDGE
    if "test" not in own and subjects > (1 if own[0] else 2):
        share = HELD_OUT * of_train / len(rest)  # of the rest, so that it is the same share of all
        _, chosen = rest.split(share, np.random.default_rng(seed))
        side[np.isin(names, chosen.names)] = VALIDATION
    return side, [side == TRAIN], [side == name for name in (JUDGE, VALIDATION) if (side == name).any()]


def something(data: Dataset) -> np.ndarray:
    """Whether there is something to find in each image, (N,): of two classes the second, else annotations."""
    return np.array(
        [(one == 1).any() if data.classes == 2 else (one != UNLABELLED).any() for one in data.labels]
    )


def wanted(data: Dataset) -> str:
    """What `something` is."""
    return "something to find" if data.classes == 2 else "annotated pixels"


def blank_sides(data: Data) -> list[str]:
    """A sentence for each side on which there is nothing to find. The judgement warns of them in the end."""
    return [
        f"nothing is there in the {plural(len(part), 'image')} to {name}, so no Dice can say how well it is "
        "found there; images of more subjects mend that"
        for name, part in data.parts.items()
        if not something(part).any()
    ]


def unseen(train: Dataset) -> list[str]:
    """A warning of classes that nobody shows the network."""
    seen = np.bincount(all_pixels(train.labels), minlength=UNLABELLED + 1)
    lacking = [name for k, name in enumerate(train.class_names) if not seen[k]]
    if not lacking:
        return []
    return [
        f"no training image shows {listed(lacking)}, so it cannot be learnt: another --seed trains on others"
    ]


def doubts(loaded: Loaded, data: Dataset, side: np.ndarray) -> list[str]:
    """Warnings of what the files themselves leave in doubt."""
    found, preprocessing = [], data.preprocessing
    for k, name in list(enumerate(data.class_names))[1:]:
        before, after = loaded.own_counts[:, k] > 0, np.array([(one == k).any() for one in data.labels])
        if lost := int((before & ~after).sum()):
            found.append(
                f"resizing to --size {preprocessing.size} erases all of {name} in {lost} of the "
                f"{plural(int(before.sum()), 'image')} that have it: a larger --size keeps more, --size 0 all"
            )
    counts = loaded.own_counts.sum(axis=0)
    if data.classes == 2 and counts[1] > counts[0]:
        found.append(
            f"{data.class_names[1]} fills {counts[1] / (counts[0] + counts[1]):.0%} of the pixels: if it is "
            "the background that is bright in the masks, --mask-values HIGH,LOW (such as 255,0) turns them"
        )
    levels = [one for one, name in zip(loaded.levels, side) if one and name == TRAIN]
    bright, (low, high) = max((one.bright for one in levels), default=0), preprocessing.window or (0, 0)
    if levels and 4 * (bright - low) < high - low:
        found.append(
            f"the images are dark: levels up to {high:g} are told apart, and in each training image all but "
            f"a thousandth of the pixels are below {bright:g}: --window {low:g},{bright:g} or "
            "--window 0%,99.9% makes them brighter"
        )
    ends = [
        name
        for name, image, one in zip(data.names, data.images, loaded.levels)
        if one and one.low < one.high and ((image <= 0) | (image >= 1)).mean() > 0.95
    ]
    if ends:
        found.append(
            f"in {plural(len(ends), 'image')} nearly all pixels end black or white ({listed(ends)}), for the "
            f"window is {low:g} to {high:g}: --window LOW,HIGH is another"
        )
    if loaded.unsure:
        found.append(
            f"{plural(loaded.unsure, 'image')} set upright by the EXIF tag, and no mask: a mask that was "
            "drawn on what is stored does not fit, though its size does; data.png shows it"
        )
    trained, others = (set(np.array(data.subjects, object)[part]) for part in (side == TRAIN, side != TRAIN))
    if doubt := loaded.found.doubt:
        found.append(f"some subjects may be one patient, whose images are on both sides then: {doubt}")
    if both := sorted(trained & others):
        found.append(
            f"{plural(len(both), 'subject')} in train/ and in val/ or test/ as well ({listed(both)}): images "
            "of one patient are alike, so the figures promise too much"
        )
    return found


def crop_of(args, train: Dataset) -> int | None:
    """The side of the squares that training sees; None: whole images.

    Raises:
        InputError: whole images of different sizes cannot make a minibatch.
    """
    alike, shortest = train.images.dtype != object, min(min(image.shape[1:]) for image in train.images)
    if args.crop == 0 and not alike:
        raise InputError(
            "--crop 0: expected images of one size, got different ones; --crop N takes squares of them"
        )
    side = min(shortest, args.size or 64 if args.crop is None else args.crop or shortest)
    whole = args.crop == 0 or not is_own(args) or alike and train.images.shape[2:] == (side, side)
    return None if whole else side
