"""Where images come from: drawn on the spot (`phantom`), or read from a folder; and the 8 symmetries."""

from tinyseg.data.augment import random_symmetry, symmetry
from tinyseg.data.dataset import Dataset
from tinyseg.data.folder import load_folder
from tinyseg.data.phantom import phantom

__all__ = ["Dataset", "load_folder", "phantom", "random_symmetry", "symmetry"]
