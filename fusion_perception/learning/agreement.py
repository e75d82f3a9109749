"""Compare what camera and LiDAR, each by itself, say of frames spread over what is evaluated."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fusion_perception.learning.alignment import HONEST, align
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.findings.agreement import Alignment, median_of
from fusion_perception.sensing.observation import Camera, Observation

# So many frames tell, and do not disturb the others, some of which are timed.
FEWEST = 20


class Comparison:
    """The frames on which a runtime's sensors are to be compared, of as many as may come.

    All of fewer than 40, else 20 to 39, evenly apart. Its memory holds their observations, which
    are of the bundle's image size.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._every = runtime, 1
        self._came, self._seen = 0, list[Observation]()
        self._told: tuple[float, ...] | None = None
        self._camera: Camera | None = None

    def add(
        self,
        image: NDArray[np.uint8] | None,
        ranges: NDArray[np.float32] | None,
        camera: Camera | None = None,
    ) -> None:
        """Take in a frame as of `Runtime.observe`; one without both sensors does not count."""
        if image is None or ranges is None:
            return
        if self._came % self._every == 0:
            self._seen.append(self._runtime.observe(image, ranges, camera))
            self._told, self._camera = None, camera
        self._came += 1
        if len(self._seen) == 2 * FEWEST:
            del self._seen[1::2]
            self._every *= 2

    def disagreements(self) -> tuple[float, ...]:
        """Return how far the sensors put the objects of each frame apart, where they say so."""
        if self._told is None:
            seen = self._seen
            found = self._runtime.disagreements(Observation.of(seen)) if seen else ()
            self._told = tuple(found)
        return self._told

    def alignment(self) -> Alignment | None:
        """Return where the camera seems to be, None where it is where it is taken to be.

        None as well where it moves, and where `align` finds no place.
        """
        apart = median_of(self.disagreements())
        if apart is None or apart <= HONEST:
            return None
        seen = Observation.of(self._seen)
        if not torch.equal(seen.T_camera_lidar, seen.T_camera_lidar[:1].expand(len(seen), 4, 4)):
            return None
        return align(self._runtime, seen, self._camera)
