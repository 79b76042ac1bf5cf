"""Pure functions of arrays, NCHW, each with its derivative beside it: the maths of the library."""

from tinyseg.ops.activation import dropout, log_softmax, relu, softmax
from tinyseg.ops.combine import add, concatenate
from tinyseg.ops.conv import conv2d
from tinyseg.ops.fused import norm_add_relu
from tinyseg.ops.loss import (
    UNLABELLED,
    cross_entropy,
    entropy,
    mean_squared_error,
    median_frequency,
    semi_supervised,
)
from tinyseg.ops.norm import batch_norm, instance_norm

__all__ = [
    "UNLABELLED",
    "add",
    "batch_norm",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "dropout",
    "entropy",
    "instance_norm",
    "log_softmax",
    "mean_squared_error",
    "median_frequency",
    "norm_add_relu",
    "relu",
    "semi_supervised",
    "softmax",
]
