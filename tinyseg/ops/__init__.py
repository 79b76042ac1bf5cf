"""The definitions: pure functions of arrays, NCHW. Where a derivative is by hand, it stands right below."""

from tinyseg.ops.activation import dropout, log_softmax, relu, softmax
from tinyseg.ops.combine import add, concatenate
from tinyseg.ops.conv import conv2d, conv2d_scipy
from tinyseg.ops.engine import DEFINITIONS, SCIPY, Engine
from tinyseg.ops.loss import (
    UNLABELLED,
    cross_entropy,
    entropy,
    mean_squared_error,
    median_frequency,
    semi_supervised,
)
from tinyseg.ops.norm import batch_norm, fixed_norm, instance_norm, normalize

__all__ = [
    "DEFINITIONS",
    "SCIPY",
    "UNLABELLED",
    "add",
    "batch_norm",
    "concatenate",
    "conv2d",
    "conv2d_scipy",
    "cross_entropy",
    "dropout",
    "entropy",
    "fixed_norm",
    "instance_norm",
    "log_softmax",
    "mean_squared_error",
    "median_frequency",
    "normalize",
    "relu",
    "semi_supervised",
    "softmax",
    "Engine",
]
