"""Semantic segmentation from scratch: write the forward pass, and read how its gradient comes about."""

from tinyseg import ops
from tinyseg.checkpoint import load, save
from tinyseg.gradcheck import check_gradients, check_layer
from tinyseg.networks import DilatedFCN, lungnet, modified, original
from tinyseg.preprocessing import Preprocessing
from tinyseg.training import evaluate, fit, predict

__all__ = [
    "DilatedFCN",
    "Preprocessing",
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
]
