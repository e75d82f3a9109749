"""See images of a camera as those of the training were: of that size, and upright."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fusion_perception.sensing.assembly import CameraMatrices, resize
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.upright import quarters_upright, turned_camera


class View(NamedTuple):
    """A camera as it was given, and as the images that the model gets are.

    These have the size of those of the training. They are turned by so many quarters,
    counter-clockwise, to stand as those did.
    """

    given: Camera | None
    camera: Camera
    matrices: CameraMatrices
    quarters: int = 0

    @classmethod
    def of(cls, given: Camera | None, trained: Camera, device: torch.device) -> View:
        """Return the view of a camera; without one, that of the training's own."""
        camera, quarters = trained, 0
        if given is not None:
            quarters = quarters_upright(given, trained)
            camera = given.resized(*_before(trained.width, trained.height, quarters))
            camera = turned_camera(camera, quarters) if quarters else camera
        return cls(given, camera, CameraMatrices.of(camera, device), quarters)


def as_in_training(
    images: NDArray[np.uint8], size: tuple[int, int], quarters: int
) -> NDArray[np.uint8]:
    """Return images (B, H, W, C) at a size (rows, columns), turned counter-clockwise.

    Those that are so already come back as they are.
    """
    size = _before(*size, quarters)
    if images.shape[1:3] != size:
        # BGR that is read backwards as RGB is turned round when it is small.
        backwards = images.strides[3] < 0
        whole = np.require(images[..., ::-1] if backwards else images, requirements=['C', 'W'])
        images = resize(torch.from_numpy(whole), *size).numpy()
        images = images[..., ::-1] if backwards and images.shape[3] > 1 else images
    return np.rot90(images, quarters, (1, 2)) if quarters else images


def _before(one: int, other: int, quarters: int) -> tuple[int, int]:
    """Return two sides of an image as they are before so many quarter turns."""
    return (other, one) if quarters % 2 else (one, other)
