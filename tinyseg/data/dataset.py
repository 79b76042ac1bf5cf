"""Images with their labels, and the one safe way to hold some of them out: by subject."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinyseg.errors import InputError, listed, plural
from tinyseg.ops import UNLABELLED

DRAWS = 50  # of subjects to hold out; with few of unlike sizes, one draw may miss the share by far


def of_any_size(arrays) -> np.ndarray:
    """Arrays as one: stacked if they have one shape, else in an array (N,) of dtype object.

    Both forms have a length, and are iterated over and indexed alike.
    """
    arrays = [np.asarray(array) for array in arrays]
    if len({array.shape for array in arrays}) <= 1:
        return np.array(arrays)
    held = np.empty(len(arrays), object)
    held[:] = arrays
    return held


def all_pixels(maps: np.ndarray) -> np.ndarray:
    """Every entry of maps of any size in one row, image after image."""
    return np.concatenate([one.ravel() for one in maps]) if maps.dtype == object else maps.ravel()


@dataclass(frozen=True, repr=False)
class Dataset:
    """N images, what each of their pixels is, and whom each was taken from.

    A mask is a label map of two classes: 0 is the background, 1 the structure that is sought. Images of
    different sizes, a list of arrays, are kept as `of_any_size` gives them. To train on them, `fit` takes
    crops of one size (crop.py).

    Raises:
        ValueError: the arrays do not fit; the message says what was expected.
    """

    images: np.ndarray  # (N, channels, H, W) float32, of files in [0, 1]; or (N,) of (channels, h, w)
    labels: np.ndarray  # (N, H, W) uint8: the class of each pixel, or UNLABELLED (255); or (N,) of (h, w)
    names: tuple[str, ...] = ()  # what reports and pictures call each image; by default its number
    subjects: tuple[str, ...] = ()  # images of one subject never part; by default each is another's
    class_names: tuple[str, ...] = ()  # by default as many as the labels have numbers
    preprocessing: Any = None  # how files became these images (io/preprocessing.py); None: there were none
    kinds: tuple[str, ...] = ()  # what each file held, in words
    own_labels: Any = None  # the labels at the files' own size; None: that is the images'

    def __post_init__(self):
        images, labels = (
            given if isinstance(given, np.ndarray) else of_any_size(given)
            for given in (self.images, self.labels)
        )
        ragged = object in (images.dtype, labels.dtype)
        if ragged and not (images.dtype == labels.dtype == object and len(images) == len(labels)):
            raise ValueError(
                f"Dataset: expected labels (h, w) of each image's size, got {_about(labels)} for images "
                f"{_about(images)}"
            )
        for image, label_map in zip(images, labels) if ragged else [(images, labels)]:
            _check(image, label_map, "(channels, h, w)" if ragged else "(N, channels, H, W)")
        class_names = tuple(self.class_names) or _class_names(labels)
        if (highest := _highest(labels)) >= len(class_names):
            raise ValueError(
                f"Dataset: expected labels below {len(class_names)}, a number for each class name, "
                f"got {highest}"
            )
        names = tuple(self.names) or tuple(map(str, range(len(images))))
        subjects = tuple(self.subjects) or names
        for what, texts in (("names", names), ("subjects", subjects), ("class_names", class_names)):
            if odd := [one for one in texts if not isinstance(one, str)]:
                raise ValueError(
                    f"Dataset: expected {what} that are texts, got {odd[0]!r}; str({odd[0]!r}) is one"
                )
        if not len(images) == len(names) == len(subjects):
            raise ValueError(
                f"Dataset: expected a name and a subject for each of {len(images)} images, "
                f"got {len(names)} names and {len(subjects)} subjects"
            )
        values = {
            "images": _of_dtype(images, np.float32),
            "labels": _of_dtype(labels, np.uint8),
            "names": names,
            "subjects": subjects,
            "class_names": class_names,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the one moment at which a frozen dataclass may change

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.images.shape[1:])) or "of different sizes"
        return (
            f"Dataset({plural(len(self), 'image')} {size}, {plural(len(self._sizes()), 'subject')}, "
            f"classes {listed(self.class_names)})"
        )

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def take(self, indices) -> Dataset:
        """The images at `indices` (integers, in that order, or one bool for each) as a dataset."""
        indices = np.asarray(indices)
        indices = np.flatnonzero(indices) if indices.dtype == bool else indices.astype(int)
        of_each = {"images": self.images[indices], "labels": self.labels[indices]}
        of_each["own_labels"] = None if self.own_labels is None else self.own_labels[indices]
        for name in ("names", "subjects", "kinds"):
            values = getattr(self, name)
            of_each[name] = tuple(values[i] for i in indices) if values else ()
        return replace(self, **of_each)

    def split(self, held_out: float, rng: np.random.Generator, *, stay: int = 1) -> tuple[Dataset, Dataset]:
        """(training, held out): of whole subjects, so that about a share `held_out` of the images is out.

        Neighbouring frames of one patient are near-duplicates, so a split by image would test on
        what it trained on. The subjects come in an order drawn by `rng`, and each is held out that brings
        the number of images nearer to the share. Of some draws the nearest counts, the first of equals. If
        every subject is too large, the smallest is held out, of equals one by chance. At least `stay`
        subjects are left.

        Raises:
            InputError: a share that is not between 0 and 1, or not more than `stay` subjects.
        """
        if not 0 < held_out < 1:
            raise InputError(f"a split needs a share between 0 and 1 to hold out, got {held_out}")
        sizes = self._sizes()
        if len(sizes) <= stay:
            raise InputError(
                f"a split by subject needs at least {stay + 1} subjects, got {len(sizes)}: {list(sizes)}; "
                "a subject is what stands before a name's last underscore"
            )
        wanted, draws = held_out * len(self), []
        for _ in range(DRAWS):
            out, missing = set[str](), wanted  # images that are still to be held out
            for subject in map(str, rng.permutation(list(sizes))):
                if len(out) < len(sizes) - stay and abs(missing - sizes[subject]) <= abs(missing):
                    out.add(subject)
                    missing -= sizes[subject]
            draws.append((abs(missing), out))
        _, nearest = min(draws, key=lambda draw: draw[0])
        return self.parted(nearest or {min(map(str, rng.permutation(list(sizes))), key=sizes.__getitem__)})

    def folds(self, n: int, rng: np.random.Generator) -> list[Dataset]:
        """`n` groups of whole subjects with about equal numbers of images; each image is in one of them.

        Cross-validation holds out one after the other, so that every subject is judged once. The largest
        subjects come first, equal ones in an order drawn by `rng`, and each goes to the group that is
        smallest so far. So the largest group is at most 4/3 of the least that any grouping can have
        (R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM J. Appl. Math. 17(2), 1969).

        Raises:
            InputError: fewer than 2 groups, or fewer subjects than groups.
        """
        sizes = self._sizes()
        if n < 2:
            raise InputError(f"--folds: expected at least 2 groups of subjects, got {n}")
        if len(sizes) < n:
            raise InputError(
                f"--folds {n}: expected a subject for each fold, got {len(sizes)}: {listed(sizes)}; "
                f"at most --folds {len(sizes)} can be had"
            )
        groups: list[set[str]] = [set() for _ in range(n)]
        counts = [0] * n
        drawn = [str(subject) for subject in rng.permutation(list(sizes))]
        for subject in sorted(drawn, key=sizes.__getitem__, reverse=True):  # a stable sort
            smallest = counts.index(min(counts))
            groups[smallest].add(subject)
            counts[smallest] += sizes[subject]
        return [self.parted(group)[1] for group in groups]

    def parted(self, subjects) -> tuple[Dataset, Dataset]:
        """(images of all other subjects, images of these `subjects`), each in their order."""
        subjects = set(subjects)
        taken = np.array([subject in subjects for subject in self.subjects], bool)
        return self.take(~taken), self.take(taken)

    def _sizes(self) -> dict[str, int]:
        """How many images each subject has, in the order of their names."""
        return dict(sorted(Counter(self.subjects).items()))


def _check(images: np.ndarray, labels: np.ndarray, form: str) -> None:
    """Refuse images that are not of this form, and labels that are not theirs."""
    if images.ndim != form.count(",") + 1 or images.dtype.kind != "f":
        raise ValueError(
            f"Dataset: expected images {form} of floats, got {_about(images)}; "
            "images / 255 makes floats of 8-bit pixels, images[:, None] adds an axis for one channel"
        )
    if labels.shape != images.shape[:-3] + images.shape[-2:] or labels.dtype.kind not in "bui":
        raise ValueError(
            f"Dataset: expected whole labels {form.replace('channels, ', '')} for images {images.shape}, "
            f"got {_about(labels)}; masks (N, 1, H, W) become labels by masks[:, 0] > 0.5"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() <= 255:
        raise ValueError(
            f"Dataset: expected labels 0 to 254, and {UNLABELLED} for what is not annotated, got "
            f"{labels.min()} to {labels.max()}"
        )


def _about(array: np.ndarray) -> str:
    return "different sizes" if array.dtype == object else f"{array.dtype} {array.shape}"


def _of_dtype(arrays: np.ndarray, dtype) -> np.ndarray:
    """Arrays of any size in this dtype, without a copy where they are."""
    if arrays.dtype != object:
        return arrays.astype(dtype, copy=False)
    converted = np.empty(len(arrays), object)
    converted[:] = [array.astype(dtype, copy=False) for array in arrays]
    return converted


def _highest(labels: np.ndarray) -> int:
    """The highest number of a class; -1 where nothing is annotated."""
    maps = list(labels) if labels.dtype == object else [labels]
    known = [one[one != UNLABELLED] for one in maps]
    return max((int(one.max()) for one in known if one.size), default=-1)


def _class_names(labels) -> tuple[str, ...]:
    classes = _highest(labels) + 1
    return ("background", "structure") if classes <= 2 else tuple(f"class {k}" for k in range(classes))
