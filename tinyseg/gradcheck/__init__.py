"""Is a gradient right? Any function or layer, against what its own values say."""

from tinyseg.gradcheck.check import check_gradients, check_layer
from tinyseg.gradcheck.report import GradientError, Report, Row

__all__ = ["GradientError", "Report", "Row", "check_gradients", "check_layer"]
