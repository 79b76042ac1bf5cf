"""Where images come from: drawn (`phantom`, `lung_ct`), or read from a folder; and the 8 symmetries."""

from tinyseg.data.augment import random_symmetry, symmetry
from tinyseg.data.dataset import Dataset
from tinyseg.data.folder import load_folder
from tinyseg.data.lung import annotate, lung_ct
from tinyseg.data.phantom import phantom

__all__ = ["Dataset", "annotate", "load_folder", "lung_ct", "phantom", "random_symmetry", "symmetry"]
