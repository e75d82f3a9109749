"""Find that images show nothing: the lens is covered, it is dark, or the camera looks away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.blank_images import is_blank
from fusion_perception.sensing.findings.finding import Finding, is_often

_REMEDY = (
    'Look whether the lens is covered, at the light and the exposure, and whether the camera sees '
    'the objects.'
)


def of_blank(blank: bool | None) -> list[Finding]:
    """Return that the last image shows nothing; nothing where that is not known."""
    if not blank:
        return []
    cause = 'its last image is of one colour, but for noise; what is predicted leaves it out'
    return [Finding('WARN', 'The camera shows nothing', cause, _REMEDY)]


class ImageTally:
    """How many of many images show nothing."""

    def __init__(self) -> None:
        self._images = self._blank = 0

    def add(self, image: NDArray[np.uint8]) -> None:
        """Take in an image (H, W, C)."""
        self._images += 1
        self._blank += is_blank(image)

    def findings(self) -> list[Finding]:
        """Return that images show nothing, where that is more than now and then."""
        # Now and then it is a shutter, or an exposure that settles.
        if not (is_often(self._blank, self._images) or 0 < self._blank == self._images):
            return []
        symptom = f'{self._blank:,} of {self._images:,} images show nothing'
        return [Finding('WARN', symptom, 'they are of one colour, but for noise', _REMEDY)]
