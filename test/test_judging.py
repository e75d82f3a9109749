"""What is kept of each prediction of a recording, and what becomes of one that fails."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from recordings import CAMERA_INFO, IMAGE, RANGES, TRUTH, at, frames, record
from small_bundles import small_bundle

from fusion_perception.learning.bag import run_bag
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.rig import Rig

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def dazzled(tmp_path):
    """Return what predicts from black images, and gives no finite centres of white ones."""
    bundle = load_bundle(small_bundle(tmp_path, 'rgb'))
    with torch.no_grad():
        for parameter in bundle.model.parameters():
            parameter.fill_(1e20 if parameter.ndim > 1 else 0.0)
        bundle.model.net.layers[0].weight[:, 3] = 0.0  # Alpha is 1 in all of them.
    return Runtime(bundle, 'cpu')


def record_flashes(path, white, count=8, still=False):
    """Write black images, but for some that are white, with the scans of a scene.

    In a `still` one nothing moves, and the truth is the same throughout.
    """
    seen = frames(count, 10)
    with BagWriter(path) as bag:
        for index in range(count):
            image = np.full((64, 64, 4), 255, np.uint8)
            image[..., :3] = 255 if index in white else 0
            bag.image(IMAGE, at(index), image)
            bag.camera_info(CAMERA_INFO, at(index), Rig().camera)
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            truth = seen.centers[0 if still else index]
            bag.centers(TRUTH, at(index), truth.double().numpy())
    return path


@pytest.mark.parametrize('timed', [0, 8], ids=['in batches', 'one by one'])
def test_a_frame_that_cannot_be_predicted_costs_no_other_of_its_batch(tmp_path, dazzled, timed):
    bag = record_flashes(tmp_path / 'bag', white={3})
    done = run_bag(dazzled, bag, BagSettings(), 4, timed=timed)
    assert done.judged.stamps_ns.tolist() == [at(index) for index in range(8) if index != 3]
    for counts in done.streams.values():
        assert (counts['used'], counts['dropped']['inference_error']) == (7, 1)
    (said,) = (note for note in done.unread if 'Inference failed' in note)
    assert 'not finite' in said


def test_where_every_inference_fails_the_bundle_is_to_be_asked_and_not_the_recording(
    tmp_path, dazzled
):
    bag = record_flashes(tmp_path / 'bag', white=range(8))
    said = (
        r'No pair is left on which inference did not fail .*fusion doctor --bundle \S+safetensors$'
    )
    with pytest.raises(ValueError, match=said) as refused:
        run_bag(dazzled, bag, BagSettings(), 4)
    assert 'form a pair' not in str(refused.value)


def test_as_many_pairs_as_asked_for_are_timed_in_milliseconds(tmp_path, runtime):
    done = run_bag(runtime, record(tmp_path / 'bag'), BagSettings(), 4, timed=3)
    assert len(done.latency_ms) == 3
    # No network of torch is quicker.
    assert min(done.latency_ms) > 0.05


def test_of_each_prediction_it_is_kept_when_it_was_and_how_far_apart_its_stamps_lie(
    tmp_path, runtime
):
    def late(events):
        return [
            replace(e, stamp_ns=e.stamp_ns + 4_000_000) if e.topic == IMAGE and e.index == 2 else e
            for e in events
        ]

    done = run_bag(runtime, record(tmp_path / 'bag', 12, edit=late), BagSettings(), 4)
    complete_s = np.arange(12) / 10
    complete_s[2] = 0.3  # Only then no scan is left that might fit this image better.
    np.testing.assert_allclose(done.judged.time_s, complete_s, atol=1e-6)
    np.testing.assert_allclose(done.judged.apart_ms, 4 * (np.arange(12) == 2))
    counts = done.timeline['counts']
    assert counts['modes.fusion'] == counts['lidar.received'] == [10, 2]


def test_the_frame_furthest_off_keeps_its_camera_and_what_was_predicted_of_it(tmp_path, runtime):
    seen, camera = frames(8, 10), Rig().camera.model_copy(update={'fx': 60.0})
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(4):
            bag.camera_info(CAMERA_INFO, at(index), camera)
            bag.image(IMAGE, at(index), seen.images[index].numpy())
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            bag.centers(TRUTH, at(index), seen.centers[index].double().numpy())
    for timed in (0, 4):
        done = run_bag(runtime, tmp_path / 'bag', BagSettings(), 8, timed=timed)
        judged, worst = done.judged, done.worst[0]
        (number,) = (n for n in range(4) if str(judged.stamps_ns[n]) in worst.place)
        assert worst.camera == camera
        np.testing.assert_array_equal(worst.predicted, judged.centers[number])
        np.testing.assert_array_equal(worst.covariance, judged.covariance[number])
        np.testing.assert_array_equal(worst.ranges, seen.ranges[number].numpy())
        np.testing.assert_array_equal(worst.truth, judged.truth[number])
        alone = runtime.predict_frame(worst.image, worst.ranges, camera)
        np.testing.assert_allclose(worst.predicted, alone.centers[0].numpy(), atol=1e-4)


def test_the_ten_frames_furthest_off_are_kept_the_worst_first(tmp_path, runtime):
    done = run_bag(runtime, record(tmp_path / 'bag', 14), BagSettings(), 4)
    away = np.linalg.norm(done.judged.centers - done.judged.truth, axis=-1).mean(axis=1)
    kept = [frame.error_m for frame in done.worst]
    np.testing.assert_allclose(kept, np.sort(away)[:-11:-1], rtol=1e-5)


def test_of_frames_that_are_equally_far_off_the_first_are_kept_in_their_order(tmp_path, dazzled):
    bag = record_flashes(tmp_path / 'bag', white=(), count=12, still=True)
    done = run_bag(dazzled, bag, BagSettings(), 4)
    assert len({frame.error_m for frame in done.worst}) == 1
    kept = [f'stamp {at(index)} ' in frame.place for index, frame in enumerate(done.worst)]
    assert kept == [True] * 10
