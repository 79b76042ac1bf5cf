"""Evaluation of one whole ultrasound image of 580 x 420 pixels by the paper's network, beside PyTorch."""

from __future__ import annotations

import argparse
import sys

from measuring import in_turns, machine, same_terms

SIZE = (420, 580)  # rows and columns of Kaggle's ultrasound images


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, choices=(1, 2), default=2, help="for both (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    args = parser.parse_args(argv)
    same_terms(args.threads)
    import numpy as np  # only now: it reads its number of threads when it is loaded
    from engines import PyTorch, PyTorchChannelsLast, Work

    from tinyseg import lungnet
    from tinyseg.fast.memory import keep_memory

    keep_memory()  # of the C library, for both
    net, rng = lungnet(), np.random.default_rng(0)
    images = rng.random((1, 1, *SIZE), np.float32)
    work = Work(net, *net.init(rng), images, np.zeros((1, *SIZE), np.uint8))
    calls = {"tinyseg": lambda: net(work.params, work.state, images)[0]}
    expected = calls["tinyseg"]()
    try:
        for engine in (PyTorch(work), PyTorchChannelsLast(work)):
            calls[engine.name] = lambda engine=engine: engine.forward(train=False)
            np.testing.assert_allclose(engine.numpy(calls[engine.name]()), expected, atol=1e-3)
    except ImportError:
        print("pytorch: skipped, torch is not installed", file=sys.stderr)
    times = in_turns(calls, args.rounds)
    print(f"{machine()}, {args.threads} threads")
    for name, seconds in times.items():
        print(f"{name}: {1000 * seconds:.0f} ms, tinyseg / it {times['tinyseg'] / seconds:.2f}")


if __name__ == "__main__":
    main()
