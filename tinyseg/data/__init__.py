"""Images with labels: two synthetic kinds (`phantom`, `lung_ct`), crops, the 8 symmetries of the square."""

from tinyseg.data.augment import random_symmetry, symmetry
from tinyseg.data.crop import random_crop
from tinyseg.data.dataset import Dataset
from tinyseg.data.lung import annotate, lung_ct
from tinyseg.data.phantom import phantom

__all__ = ["Dataset", "annotate", "lung_ct", "phantom", "random_crop", "random_symmetry", "symmetry"]
