"""An image that shows nothing is told from one that is dark, noisy or of little contrast."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from recordings import CAMERA_INFO, IMAGE, RANGES, TRUTH, at, frames
from small_bundles import small_bundle

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.learning.bag import run_bag
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.blank_images import is_blank, shows_anything
from fusion_perception.sensing.findings.images import ImageTally, of_blank
from fusion_perception.sensing.rig import Rig

pytestmark = pytest.mark.usefixtures('one_thread')

SIZES = [(64, 64), (48, 32), (480, 640), (1080, 1920)]


def covered(size, level, noise, channels=3, seed=0):
    """Return what a camera sends whose lens is covered: one colour and the sensor's noise."""
    made = np.random.default_rng(seed).normal(level, noise, (*size, channels))
    return made.round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('level', 'noise'), [(0, 0), (0, 3), (20, 5), (128, 10), (254, 1)])
def test_one_colour_shows_nothing_however_noisy(size, level, noise):
    assert is_blank(covered(size, level, noise))


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('light', 'noise'), [(1.0, 0), (1.0, 10), (0.1, 2), (0.03, 0)])
def test_one_small_object_is_something_even_in_the_dark(size, light, noise):
    image = covered(size, 10 * light, noise)
    rows, columns = (slice(side // 2, side // 2 + -(-side // 12)) for side in size)
    image[rows, columns, 1] = np.clip(image[rows, columns, 1] + 180 * light, 0, 255)
    assert not is_blank(image)


def test_a_rough_surface_is_something():
    assert not is_blank(covered((64, 64), 128, 60))


def test_alpha_shows_nothing():
    image = covered((64, 64), 30, 1, channels=4)
    image[:32, :, 3] = 0
    assert is_blank(image)


@pytest.mark.parametrize('quality', [20, 60, 95])
def test_what_compression_makes_of_one_colour_shows_nothing(quality):
    written = io.BytesIO()
    Image.fromarray(covered((480, 640), 12, 3)).save(written, 'JPEG', quality=quality)
    assert is_blank(np.asarray(Image.open(written)))


@settings(max_examples=50)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from([1, 3, 4]))
def test_images_of_any_size_are_judged(size, channels):
    assert is_blank(np.full((*size, channels), 77, np.uint8))


def test_each_image_of_a_batch_is_judged_by_itself():
    images = torch.full((3, 3, 64, 64), 0.2)
    images[1, 2, 8:16, 8:16] = 0.9
    assert shows_anything(images).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ('blank', 'images', 'said'), [(0, 9, ''), (2, 9, ''), (3, 9, '3 of 9'), (2, 2, '2 of 2')]
)
def test_blank_images_now_and_then_are_no_finding(blank, images, said):
    tally = ImageTally()
    for number in range(images):
        tally.add(covered((32, 32), 90, 0 if number < blank else 60))
    found = [finding.symptom for finding in tally.findings()]
    assert found == ([f'{said} images show nothing'] if said else [])


def test_no_image_is_no_blank_image():
    assert ImageTally().findings() == []
    assert of_blank(None) == of_blank(False) == []


@pytest.mark.parametrize('name', ['shapes', 'cubes'])
def test_an_image_that_shows_nothing_says_as_much_as_none(name):
    bundle = load_bundle(name)
    runtime = Runtime(bundle, 'cpu', engine='torch')
    seen = frames(2, 10)
    ranges = seen.ranges[1].numpy()
    for image in (covered((64, 64), 20, 4), covered((480, 640), 128, 8)):
        with_image = runtime.predict_frame(image, ranges)
        without = runtime.predict_frame(None, ranges)
        np.testing.assert_allclose(with_image.centers, without.centers, atol=1e-5)
        np.testing.assert_allclose(with_image.covariance, without.covariance, rtol=1e-4)
        assert with_image.mode == ('fusion',)
    assert not np.allclose(
        runtime.predict_frame(seen.images[1].numpy(), ranges).centers, without.centers, atol=1e-3
    )


def test_a_scan_without_a_return_says_as_much_as_none():
    runtime = Runtime(load_bundle('shapes'), 'cpu', engine='torch')
    image = frames(2, 10).images[1].numpy()
    with_scan = runtime.predict_frame(image, np.zeros((64, 64), np.float32))
    without = runtime.predict_frame(image, None)
    np.testing.assert_allclose(with_scan.centers, without.centers, atol=1e-5)
    np.testing.assert_allclose(with_scan.covariance, without.covariance, rtol=1e-4)


def covered_recording(path, blank, count=8):
    """Write a recording in the first images of which the lens is covered."""
    seen = frames(count, 10)
    with BagWriter(path) as bag:
        for index in range(count):
            image = covered((64, 64), 5, 1, 4) if index < blank else seen.images[index].numpy()
            bag.image(IMAGE, at(index), image)
            bag.camera_info(CAMERA_INFO, at(index), Rig().camera)
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            bag.centers(TRUTH, at(index), seen.centers[index].double().numpy())
    return path


@pytest.mark.slow
@pytest.mark.parametrize(('blank', 'said'), [(0, False), (2, False), (3, True)])
def test_doctor_evaluation_and_from_bag_tell_how_many_images_show_nothing(tmp_path, blank, said):
    bag = covered_recording(tmp_path / 'bag', blank)
    runtime = Runtime(load_bundle(small_bundle(tmp_path)), 'cpu', engine='torch')
    notes = run_bag(runtime, bag, BagSettings(), 8).unread
    text, _ = doctor(DoctorSettings(bag=bag))
    written = from_bag(FromBagSettings(bag=bag, out=tmp_path / 'out'))
    for words in ('\n'.join(notes), text, written):
        assert ('3 of 8 images show nothing' in words) == said
