"""The camera of a recording is the one that its camera_info describes, whenever that comes.

And its images are those that can be read without ROS.
"""

import numpy as np
import pytest
from recordings import at, bent_info, frames
from small_bundles import small_bundle
from training_runs import tiny_recipe

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.learning.bag import run_bag
from fusion_perception.learning.bags.examination import examine_recording
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.learning.dataset import read_folder
from fusion_perception.learning.evidence.of_folder import from_folder
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.to_bag import (
    CAMERA_INFO,
    IMAGE,
    RANGES,
    TRUTH,
    ToBagSettings,
    to_bag,
)
from fusion_perception.learning.training import train
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.recordings.message_types import known_types
from fusion_perception.sensing.rig import Rig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]

COUNT = 20
CAMERA = Rig().camera.model_copy(update={'fx': 1.2 * 73.3})
UNCALIBRATED = CAMERA.model_copy(update={'fx': 0.0})
OF_OTHER_IMAGES = CAMERA.model_copy(update={'cx': 500.0})
OF_THE_BUNDLE = Rig().camera


def record(path, cameras, images=COUNT):
    """Write each scan, then its image, then what camera_info says of it (None: nothing).

    After so many images the camera is silent.
    """
    seen = frames(COUNT, 10)
    with BagWriter(path) as bag:
        for index in range(COUNT):
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            if index < images:
                bag.image(IMAGE, at(index), seen.images[index].numpy())
            if cameras[index] is not None:
                bag.camera_info(CAMERA_INFO, at(index), cameras[index])
            bag.centers(TRUTH, at(index), seen.centers[index].double().numpy())
    return path


def record_bent(path):
    """Record images of a lens that distorts: K of the bundle's camera, P of another."""
    seen = frames(COUNT, 10)
    with BagWriter(path) as bag:
        for index in range(COUNT):
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            bag.image(IMAGE, at(index), seen.images[index].numpy())
            bent_info(bag, at(index), OF_THE_BUNDLE, CAMERA, [-0.3, 0.1, 0, 0, 0])
            bag.centers(TRUTH, at(index), seen.centers[index].double().numpy())
    return path


def assert_predicted_with(cameras, judged, runtime):
    seen = frames(COUNT, 10)
    for index, camera in enumerate(cameras):
        image, ranges = seen.images[index, ..., :3].numpy(), seen.ranges[index].numpy()
        wanted = runtime.predict(runtime.observe(image, ranges, camera)).centers[0].numpy()
        np.testing.assert_allclose(judged.centers[index], wanted, atol=1e-4)


def test_every_pair_has_the_camera_of_a_camera_info_that_comes_after_its_image(tmp_path, runtime):
    done = run_bag(runtime, record(tmp_path / 'bag', [CAMERA] * COUNT), BagSettings(), 8)
    assert_predicted_with([CAMERA] * COUNT, done.judged, runtime)
    assert done.unread == ()


def test_a_data_folder_has_every_scene_and_the_camera_of_such_a_recording(tmp_path):
    bag = record(tmp_path / 'bag', [CAMERA] * COUNT)
    from_bag(FromBagSettings(bag=bag, out=tmp_path / 'out'))
    scenes = read_folder(tmp_path / 'out')
    assert (len(scenes), scenes.rig.camera) == (COUNT, CAMERA)


def test_a_camera_that_is_calibrated_late_is_taken_from_the_beginning(tmp_path, runtime):
    cameras = [UNCALIBRATED, None, UNCALIBRATED, *[CAMERA] * (COUNT - 3)]
    done = run_bag(runtime, record(tmp_path / 'bag', cameras), BagSettings(), 8)
    assert_predicted_with([CAMERA] * COUNT, done.judged, runtime)
    (sentence,) = done.unread
    assert sentence.startswith('2 camera_info messages cannot be used: ')


def test_a_camera_that_is_never_calibrated_is_counted_and_the_bundle_s_is_said(tmp_path, runtime):
    done = run_bag(runtime, record(tmp_path / 'bag', [UNCALIBRATED] * COUNT), BagSettings(), 8)
    assert_predicted_with([OF_THE_BUNDLE] * COUNT, done.judged, runtime)
    first, second = done.unread
    assert first.startswith(f'{COUNT} camera_info messages cannot be used: ')
    assert second == (
        f'{COUNT} pairs have no usable camera_info: the intrinsics of the bundle were used.'
    )


def test_after_a_camera_info_that_cannot_be_used_the_one_before_counts_on(tmp_path, runtime):
    cameras = [CAMERA] * 10 + [UNCALIBRATED] * 5 + [OF_OTHER_IMAGES] * 5
    done = run_bag(runtime, record(tmp_path / 'bag', cameras), BagSettings(), 8)
    assert_predicted_with([CAMERA] * COUNT, done.judged, runtime)
    (sentence,) = done.unread
    # Of several faults the first.
    said = '10 camera_info messages cannot be used: camera_info holds no calibration'
    assert sentence.startswith(said)


def test_what_the_lidar_saw_alone_does_not_lack_a_camera_info(tmp_path, runtime):
    bag = record(tmp_path / 'bag', [None] * COUNT, images=8)
    done = run_bag(runtime, bag, BagSettings(), 8)
    assert len(done.judged) > 8
    said = '8 pairs have no camera_info: the intrinsics of the bundle were used.'
    assert said in done.unread


def test_cameras_by_turns_are_told_of_though_a_single_one_remains_in_the_end(tmp_path, runtime):
    seen, cameras = frames(COUNT, 10), (CAMERA, OF_THE_BUNDLE)
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(COUNT):
            # The last ones come two minutes later.
            stamp_ns = at(index) if index < 15 else at(index + 1200)
            bag.camera_info(CAMERA_INFO, stamp_ns, cameras[min(index, 15) % 2])
            bag.image(IMAGE, stamp_ns, seen.images[index].numpy())
            bag.ranges(RANGES, stamp_ns, seen.ranges[index].numpy())
    unread = run_bag(runtime, tmp_path / 'bag', BagSettings(), 8).unread
    (sentence,) = (note for note in unread if 'camera_info' in note)
    assert sentence.startswith('/camera/camera_info tells of two cameras by turns')
    found = examine_recording(tmp_path / 'bag', BagSettings())
    assert sentence in map(str, found)


def test_images_that_are_wide_are_told_of_as_wide_and_not_as_high(tmp_path):
    wide = OF_THE_BUNDLE.resized(96, 48)
    bundle = small_bundle(tmp_path, rig=Rig(camera=wide))
    with BagWriter(tmp_path / 'bag') as bag:
        bent_info(bag, at(0), wide, wide, [-0.3, 0.1, 0, 0, 0])
        bag.image(IMAGE, at(0), np.full((48, 96, 4), np.arange(4) * 60 + 75, np.uint8))
        bag.ranges(RANGES, at(0), frames(COUNT, 10).ranges[0].numpy())
    runtime = Runtime(load_bundle(bundle), 'cpu')
    unread = run_bag(runtime, tmp_path / 'bag', BagSettings(), 8).unread
    (lens,) = (note for note in unread if '/camera/camera_info' in note)
    assert 'of the 96x48 image' in lens and 'at the 96x48 which the model sees' in lens


@pytest.mark.parametrize('matrix', ['k', 'p'])
def test_rectified_images_have_the_camera_of_p_and_others_a_word_about_their_lens(
    tmp_path, runtime, matrix
):
    record_bent(tmp_path / 'bag')
    rectified = matrix == 'p'
    taken = CAMERA if rectified else OF_THE_BUNDLE
    done = run_bag(runtime, tmp_path / 'bag', BagSettings(camera_matrix=matrix), 8)
    assert_predicted_with([taken] * COUNT, done.judged, runtime)
    out, lens = tmp_path / 'out', 'The lens moves parts of the 64x64 image by up to '
    said = from_bag(FromBagSettings(bag=tmp_path / 'bag', out=out, camera_matrix=matrix))
    kept = read_folder(out).rig.camera
    assert kept.fx == pytest.approx(taken.fx)
    # A data folder knows its lens: to it, it is the right one.
    assert kept.lens.bends != rectified and lens not in said
    assert [s.startswith(lens) for s in done.unread] == ([] if rectified else [True])


def test_a_bundle_that_learned_from_images_of_a_lens_wants_them_so(tmp_path):
    bag = record_bent(tmp_path / 'bag')
    from_bag(FromBagSettings(bag=bag, out=tmp_path / 'data'))
    train(tiny_recipe(tmp_path / 'data', tmp_path / 'run', model='early_fusion', epochs=1))
    runtime = Runtime(load_bundle(tmp_path / 'run'), 'cpu')
    assert run_bag(runtime, bag, BagSettings(), 8).unread == ()
    (sentence,) = run_bag(runtime, bag, BagSettings(camera_matrix='p'), 8).unread
    assert 'no distortion' in sentence and 'leave camera_matrix at k' in sentence
    # So it does of a data folder.
    [warning] = from_folder(runtime, tmp_path / 'data', last=2, batch_size=8).about['warnings']
    assert 'best epoch' in warning and 'distortion' not in warning
    simulate(SimulateSettings(out=tmp_path / 'straight', count=2))
    (warning,) = from_folder(runtime, tmp_path / 'straight', batch_size=8).about['warnings']
    assert 'up to 4.3 pixels from where the lens of the training shows them' in warning
    assert f'no distortion of {tmp_path}/straight/sensor.yaml' in warning
    assert warning.endswith('Judge it on images of its own lens, or train on these.')
    # The next data folder and the next recording know the lens too.
    to_bag(ToBagSettings(data=tmp_path / 'data', out=tmp_path / 'again'))
    assert run_bag(runtime, tmp_path / 'again', BagSettings(), 8).unread == ()


def test_the_worst_lens_of_a_recording_counts_and_a_camera_of_another_shape_is_named(
    tmp_path, runtime
):
    seen, coefficients = frames(COUNT, 10), [[0.0], [-0.3, 0.1], [-0.05]]
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(COUNT):
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            wide = OF_THE_BUNDLE.resized(96, 64) if index == 4 else OF_THE_BUNDLE
            bent_info(bag, at(index), wide, wide, coefficients[index * 3 // COUNT])
            bag.image(IMAGE, at(index), seen.images[index].numpy())
            bag.centers(TRUTH, at(index), seen.centers[index].double().numpy())
    shape, lens = run_bag(runtime, tmp_path / 'bag', BagSettings(), 8).unread
    assert shape.startswith('/camera/camera_info is not of these images: it tells of 96x64 pixels')
    assert lens.startswith('The lens moves parts of the 64x64 image by up to 4.3 pixels')


@pytest.mark.parametrize('first', [0, 1])
def test_a_lens_of_no_known_model_counts_as_the_worst(tmp_path, runtime, first):
    seen, coefficients = frames(COUNT, 10), [[-0.3, 0.1], [0.1] * 15]
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(4):
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            bent = coefficients[(index // 2 + first) % 2]
            bent_info(bag, at(index), OF_THE_BUNDLE, OF_THE_BUNDLE, bent)
            bag.image(IMAGE, at(index), seen.images[index].numpy())
            bag.centers(TRUTH, at(index), seen.centers[index].double().numpy())
    (lens,) = run_bag(runtime, tmp_path / 'bag', BagSettings(), 8).unread
    assert "no known model ('plumb_bob' with 15 coefficients)" in lens


def test_images_of_another_shape_are_named_though_others_fit_their_camera_info(tmp_path, runtime):
    seen = frames(COUNT, 10)
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(4):
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            bag.camera_info(CAMERA_INFO, at(index), OF_THE_BUNDLE)
            rows = 48 if index == 3 else 64
            bag.image(IMAGE, at(index), seen.images[index, :rows].numpy())
            bag.centers(TRUTH, at(index), seen.centers[index].double().numpy())
    (shape,) = run_bag(runtime, tmp_path / 'bag', BagSettings(), 8).unread
    assert 'it tells of 64x64 pixels, and they have 64x48' in shape


@pytest.mark.parametrize(
    ('camera', 'lacking'), [(None, 'no camera_info'), (UNCALIBRATED, 'no usable camera_info')]
)
def test_a_data_folder_with_the_original_camera_is_said_to_have_it(tmp_path, camera, lacking):
    bag = record(tmp_path / 'bag', [camera] * COUNT)
    said = from_bag(FromBagSettings(bag=bag, out=tmp_path / 'out'))
    assert f'{lacking}: the intrinsics of the original camera were used.' in said
    assert read_folder(tmp_path / 'out').rig.camera == OF_THE_BUNDLE


@pytest.mark.parametrize(
    ('topic', 'encoding', 'known'), [(IMAGE, 'yuv422', 'rgb8'), (RANGES, '64FC1', '32FC1')]
)
def test_what_only_cv_bridge_reads_is_refused_without_advice_that_would_not_help(
    tmp_path, runtime, topic, encoding, known
):
    seen, types = frames(COUNT, 10), known_types()
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(4):
            if index == 0 or topic == RANGES:
                bag.image(IMAGE, at(index), seen.images[index].numpy())
            if index == 0 or topic == IMAGE:
                bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            if index == 0:
                continue
            image = types.types['sensor_msgs/msg/Image'](
                header=bag._header(at(index), 'sensor'),
                height=64,
                width=64,
                encoding=encoding,
                is_bigendian=0,
                step=512,
                data=np.zeros(64 * 512, np.uint8),
            )
            bag.write(topic, 'sensor_msgs/msg/Image', at(index), image)
    unread = run_bag(runtime, tmp_path / 'bag', BagSettings(), 8).unread
    (said,) = (sentence for sentence in unread if encoding in sentence)
    assert said.startswith('3 ') and 'without cv_bridge' in said and known in said
    assert 'install' not in said
    text, _ = doctor(DoctorSettings(bag=tmp_path / 'bag'))
    assert 'without cv_bridge' in text and 'install' not in text
