"""Frames that are laid into arrays for a graph are the observation that they are otherwise."""

import math

import numpy as np
import pytest
import torch
from small_bundles import small_bundle

from fusion_perception.engines.base import FrameArrays, TorchEngine
from fusion_perception.engines.cuda_graph import _HEAD, _assembled, _named, _views
from fusion_perception.models.bundle import load_bundle
from fusion_perception.sensing.observation import Camera

COUNT = 2


@pytest.fixture
def engine(tmp_path):
    return TorchEngine(load_bundle(small_bundle(tmp_path)), torch.device('cpu'))


def test_frames_in_one_buffer_are_their_observation_whatever_lay_in_it_before(engine):
    """As they travel to a GPU: flags, camera and ranges as float32, then images."""
    random, elsewhere = np.random.default_rng(0), Camera(fx=80.0, cy=30.0)
    scans, pixels = (COUNT, *engine.lidar.shape), (COUNT, 64, 64, 4)
    size = 4 * (COUNT * _HEAD + math.prod(scans)) + math.prod(pixels)
    parts = _views(torch.zeros(size, dtype=torch.uint8), scans, pixels)
    named = {name: part.numpy() for name, part in _named(*parts).items()}
    arrays = FrameArrays(named, engine._view_of(None))
    images = random.integers(0, 256, pixels, np.uint8)
    ranges = random.uniform(1, 60, scans).astype(np.float32)
    for given in (
        (images, ranges, None),
        (images[..., :3], ranges, elsewhere),
        (images[..., :1], None, elsewhere),
        (None, ranges[::-1], None),
    ):
        arrays.write(*given[:2], engine._view_of(given[2]))
        expected = engine.observe(*given)
        for name, part in vars(_assembled(engine.lidar, *parts)).items():
            torch.testing.assert_close(part, getattr(expected, name), msg=name)
