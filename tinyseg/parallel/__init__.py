"""Training on several processes at once; see docs/parallel.md."""

from tinyseg.parallel.team import WorkerLost, fit_parallel

__all__ = ["WorkerLost", "fit_parallel"]
