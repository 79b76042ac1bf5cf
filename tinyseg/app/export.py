"""Write a trained network as an ONNX graph, to run it where there is neither tinyseg nor Python.

It maps `image`, (N, channels, H, W) float32, to `output`; how images are made ready for it is in the file's
metadata.
"""

from __future__ import annotations

import argparse

from tinyseg.app.flags import Parser, folder
from tinyseg.app.run import guarded, say
from tinyseg.errors import InputError
from tinyseg.io.models import load
from tinyseg.io.onnx import to_onnx


@guarded
def main(argv=None):
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="tinyseg export", description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL", type=folder, help="model.npz of a training run")
    parser.add_argument("out", metavar="OUT.onnx", type=folder, help="the file to write")
    args = parser.parse_args(argv)
    if args.out.suffix != ".onnx":  # a slip must not write over a model or an image
        raise InputError(f"{args.out}: expected a name that ends in .onnx")
    net, params, state, preprocessing = load(args.model)
    if args.out.exists() and args.out.samefile(args.model):
        raise InputError(f"{args.out}: expected another file than the model itself")
    try:
        to_onnx(net, params, state, args.out, preprocessing=preprocessing)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{args.model}: {error}") from None
    say(f"{args.out} computes what {args.model} computes")
