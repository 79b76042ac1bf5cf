"""Images with their masks, and the one safe way to hold some of them out: by subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyseg.errors import InputError
from tinyseg.preprocessing import Preprocessing


@dataclass(frozen=True)
class Dataset:
    """N images of one size, the mask of each, and whom each was taken from."""

    images: np.ndarray  # (N, channels, H, W) float32 in [0, 1]
    masks: np.ndarray  # (N, 1, H, W): masks, float32, 0 or 1; or label maps, uint8, classes and UNLABELLED
    names: tuple[str, ...]  # what reports and pictures call each image
    subjects: tuple[str, ...]  # images of one subject never part
    preprocessing: Preprocessing = Preprocessing()  # how the images were made ready
    kinds: tuple[str, ...] = ()  # what each file held, in words; none of what was drawn

    def __len__(self) -> int:
        return len(self.names)

    @property
    def label_maps(self) -> bool:
        """Whether `masks` are label maps, of which every pixel may be one of many classes, or unannotated."""
        return self.masks.dtype == np.uint8

    def take(self, indices) -> Dataset:
        """The images at `indices` (integers, in that order) as a dataset of their own."""
        return Dataset(
            self.images[indices],
            self.masks[indices],
            tuple(self.names[i] for i in indices),
            tuple(self.subjects[i] for i in indices),
            self.preprocessing,
            tuple(self.kinds[i] for i in indices) if self.kinds else (),
        )

    def split(self, held_out: float, rng: np.random.Generator) -> tuple[Dataset, Dataset]:
        """(training, held out): whole subjects drawn by `rng` until a share `held_out` of the images is out.

        Neighbouring frames of one patient are near-duplicates, so a split by image would test on
        what it trained on.

        Raises:
            InputError: a share that is not between 0 and 1, or fewer than two subjects.
        """
        if not 0 < held_out < 1:
            raise InputError(f"a split needs a share between 0 and 1 to hold out, got {held_out}")
        subjects = sorted(set(self.subjects))
        if len(subjects) < 2:
            raise InputError(
                f"a split by subject needs at least 2 subjects, got {len(subjects)}: {subjects}; "
                "a subject is what stands before a name's last underscore"
            )
        wanted, out = held_out * len(self), set()
        for subject in rng.permutation(subjects)[:-1]:  # the last one stays, so that training is never empty
            if sum(s in out for s in self.subjects) >= wanted:
                break
            out.add(str(subject))
        kept = [i for i, s in enumerate(self.subjects) if s not in out]
        taken = [i for i, s in enumerate(self.subjects) if s in out]
        return self.take(kept), self.take(taken)
