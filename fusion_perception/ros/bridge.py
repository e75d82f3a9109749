"""Read image encodings that the package does not know, through cv_bridge where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.sensing.decode import Decoder, Fallback


def decoder_of(settings: NodeSettings) -> Decoder:
    """Return what decodes the images of a node with these settings."""
    return Decoder(
        settings.range_scale,
        settings.invalid_values,
        image_fallback=cv_bridge_fallback('rgb8'),
        range_fallback=cv_bridge_fallback('passthrough'),
    )


def cv_bridge_fallback(desired_encoding: str) -> Fallback | None:
    """Return a converter to an encoding ('passthrough' keeps what came), None without cv_bridge.

    The converter raises ValueError for what cv_bridge cannot convert: for everything where it
    cannot load OpenCV, as after an update of NumPy.
    """
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    try:
        bridge = CvBridge()  # Imports cv2.
    except Exception as fault:
        return _refusing(f'cv_bridge cannot be loaded: {fault}')

    def convert(message: Any) -> NDArray[Any]:
        try:
            return np.asarray(bridge.imgmsg_to_cv2(message, desired_encoding))
        except Exception as fault:  # It raises what OpenCV and NumPy do as well.
            raise ValueError(str(fault)) from fault

    return convert


def _refusing(why: str) -> Fallback:
    def refuse(message: Any) -> NDArray[Any]:
        raise ValueError(why)

    return refuse
