"""Semantic segmentation from scratch: write the forward pass, and read how its gradient comes about."""

from tinyseg import ops, views
from tinyseg.data import Dataset
from tinyseg.gradcheck import check_gradients, check_layer
from tinyseg.io.models import load, save
from tinyseg.io.preprocessing import Preprocessing
from tinyseg.layers import using
from tinyseg.networks import DilatedFCN, lungnet, modified, original
from tinyseg.ops import DEFINITIONS
from tinyseg.training import begin, evaluate, fit, predict

__all__ = [
    "DEFINITIONS",
    "Dataset",
    "DilatedFCN",
    "Preprocessing",
    "begin",
    "check_gradients",
    "check_layer",
    "evaluate",
    "fit",
    "load",
    "lungnet",
    "modified",
    "ops",
    "original",
    "predict",
    "save",
    "using",
    "views",
]
