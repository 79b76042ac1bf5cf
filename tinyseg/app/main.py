"""Semantic segmentation from scratch in NumPy.

  tinyseg train                              train a network on synthetic images, or with --data on yours
  tinyseg segment MODEL IMAGE ...            segment images with it
  tinyseg export MODEL OUT.onnx              write it as an ONNX graph

`tinyseg train --help`, and so on, list the flags.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version

from tinyseg.app import export, segment, train
from tinyseg.app.flags import Parser

COMMANDS = {"train": train.main, "segment": segment.main, "export": export.main}


def installed() -> str:
    """The version of the package."""
    try:
        return version("tinyseg")
    except PackageNotFoundError:
        return "(not installed)"


def main(argv=None) -> None:
    command, *rest = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if command in COMMANDS:
        COMMANDS[command](rest)
        return
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="tinyseg", description=__doc__, formatter_class=raw, usage="tinyseg COMMAND ...")
    parser.add_argument("--version", action="version", version=f"tinyseg {installed()}")
    parser.add_argument("command", choices=tuple(COMMANDS), metavar="COMMAND", help=", ".join(COMMANDS))
    parser.parse_args([command])


if __name__ == "__main__":
    main()
