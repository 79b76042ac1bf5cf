"""What one looks at: pictures, drawings, and how objects look in a notebook."""

import tinyseg.views.notebook  # noqa: F401  gives some classes their look in a notebook
from tinyseg.views.look import (
    Page,
    Picture,
    feature_maps,
    influence,
    overlay,
    panel,
    receptive_field,
    threshold_slider,
)
from tinyseg.views.svg import Drawing, fields, kernels, network, tape

__all__ = [
    "Drawing",
    "Page",
    "Picture",
    "feature_maps",
    "fields",
    "influence",
    "kernels",
    "network",
    "overlay",
    "panel",
    "receptive_field",
    "tape",
    "threshold_slider",
]
