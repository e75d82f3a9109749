"""Read image encodings that the package does not know, through cv_bridge where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Fallback = Callable[[Any], NDArray[Any]]


def cv_bridge_fallback(desired_encoding: str) -> Fallback | None:
    """Return a converter to an encoding ('passthrough' keeps what came), None without cv_bridge.

    One that cannot load OpenCV, as after an update of NumPy, is none either.

    The converter raises ValueError for what cv_bridge cannot convert.
    """
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()  # Imports cv2.
    except Exception:
        return None

    def convert(message: Any) -> NDArray[Any]:
        try:
            return np.asarray(bridge.imgmsg_to_cv2(message, desired_encoding))
        except Exception as fault:  # It raises what OpenCV and NumPy do as well.
            raise ValueError(str(fault)) from fault

    return convert
