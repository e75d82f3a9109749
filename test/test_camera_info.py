"""A camera_info tells the camera of its images: whole or cut out, rectified or not."""

from types import SimpleNamespace

import pytest

from fusion_perception.sensing.camera_info import Calibration, camera_from_info
from fusion_perception.sensing.findings.facts import CameraFacts, Source
from fusion_perception.sensing.observation import Camera, Lens


def camera_info(k, roi=(0, 0, 0, 0), binning=0, d=()):
    return SimpleNamespace(
        width=640,
        height=480,
        distortion_model='rational_polynomial',
        d=d,
        k=k,
        p=[*RECTIFIED[:3], -70, *RECTIFIED[3:6], 0, 0, 0, 1, 0],
        roi=SimpleNamespace(x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3]),
        binning_x=binning,
        binning_y=binning,
    )


CALIBRATED = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
RECTIFIED = [450.0, 0, 310, 0, 460, 250, 0, 0, 1]


def test_camera_info_gives_the_intrinsics_and_keeps_the_pose():
    mounted = Camera()
    camera = camera_from_info(camera_info(CALIBRATED), mounted)
    assert (camera.width, camera.fx, camera.fy, camera.cy) == (640, 500, 510, 240)
    assert camera.T_camera_lidar == mounted.T_camera_lidar
    with pytest.raises(ValueError, match='no calibration'):
        camera_from_info(camera_info([0.0] * 9), mounted)


def test_what_a_driver_cuts_out_and_bins_is_the_camera_of_its_images():
    whole = camera_from_info(camera_info(CALIBRATED), Camera())
    cut = camera_from_info(camera_info(CALIBRATED, (100, 40, 400, 200)), Camera())
    assert (cut.width, cut.height, cut.cx, cut.cy, cut.fx) == (400, 200, 220, 200, 500)
    corner = camera_from_info(camera_info(CALIBRATED, (240, 280, 400, 200)), Camera())
    assert (corner.width, corner.height, corner.cx, corner.cy) == (400, 200, 80, -40)
    binned = camera_from_info(camera_info(CALIBRATED, binning=2), Camera())
    assert binned == whole.resized(320, 240)
    by_row = camera_info(CALIBRATED)
    by_row.binning_y = 2
    assert camera_from_info(by_row, Camera()) == whole.resized(640, 240)


def test_the_facts_of_a_camera_are_those_that_camera_info_told_of_it():
    calibration, info = (
        Calibration(Camera(), 'k'),
        Source('/camera_info', 'sensor_msgs/msg/CameraInfo'),
    )
    facts = CameraFacts.of(info, (64, 64), (320, 240), calibration, 0)
    assert (facts.told, facts.images, facts.trained) == (None, (320, 240), (64, 64))
    calibration.take(camera_info(CALIBRATED), 0)
    assert CameraFacts.of(info, (64, 64), None, calibration, 0).told == (640, 480)


@pytest.mark.parametrize(
    ('k', 'size', 'words'),
    [
        ([1.0, 0, 320, 0, 1.0, 240, 0, 0, 1], (640, 480), ['no pinhole camera sees 180 degrees']),
        ([20.0, 0, 320, 0, 510, 240, 0, 0, 1], (640, 480), ['focal lengths of 20 and 510']),
        ([500.0, 0, 320, 0, 20.0, 240, 0, 0, 1], (640, 480), ['focal lengths of 500 and 20']),
        ([500.0, 0, 320, 0, 0.0, 240, 0, 0, 1], (640, 480), ['K is zero']),
        ([500.0, 0, 320, 0, -510.0, 240, 0, 0, 1], (640, 480), ['describes no camera', '-510']),
        ([float('nan'), 0, 320, 0, 510, 240, 0, 0, 1], (640, 480), ['K is not finite']),
        ([-500.0, 0, 320, 0, 510, 240, 0, 0, 1], (640, 480), ['describes no camera', '-500']),
        (CALIBRATED, (0, 480), ['describes no camera (0x480 pixels']),
        ([1e300, 0, 320, 0, 510, 240, 0, 0, 1], (640, 480), ['no pinhole camera sees', '1e+300']),
        # Whoever resized the images left K as it was; cx and cy are placeholders.
        (CALIBRATED, (320, 240), ['principal point at (320, 240), outside of 320x240']),
        ([500.0, 0, 0, 0, 510, 0, 0, 0, 1], (640, 480), ['principal point at (0, 0)']),
    ],
)
def test_what_no_camera_can_be_is_refused_with_a_next_step(k, size, words):
    info = camera_info(k)
    info.width, info.height = size
    with pytest.raises(ValueError) as caught:
        camera_from_info(info, Camera())
    fault, _, remedy = str(caught.value).partition('. ')
    assert all(word in fault for word in words)
    assert remedy.startswith(
        ('Calibrate the camera', 'Look at its driver', 'Let whatever resizes')
    )


@pytest.mark.parametrize(
    ('roi', 'binning', 'd', 'words'),
    [
        ((0, 0, 0, 0), 481, (), 'images of 1x0 pixels: of 640x480 by a roi of 0x0'),
        ((0, 0, 2**32 - 1, 10), 1, (), 'images of 4294967295x10 pixels'),
        ((2**32 - 1, 0, 32, 32), 1, (), 'a roi of 32x32 at (4294967295, 0)'),
        # Where width is that of what was cut out, K may be too.
        ((241, 0, 400, 200), 1, (), 'a roi of 400x200 at (241, 0)'),
        ((0, 281, 400, 200), 2, (), 'a roi of 400x200 at (0, 281) and a binning of 2x2'),
        ((1, 0, 0, 0), 1, (), 'a roi of 0x0 at (1, 0)'),
        ((0, 0, 0, 0), 1, (0.1, float('nan'), float('inf')), 'distortion (D) are not all finite'),
    ],
)
def test_images_and_lenses_that_cannot_be_are_refused_with_a_next_step(roi, binning, d, words):
    with pytest.raises(ValueError) as caught:
        camera_from_info(camera_info(CALIBRATED, roi, binning, d), Camera())
    fault, _, remedy = str(caught.value).partition('. ')
    assert words in fault
    assert remedy.startswith(('Look at its driver', 'Calibrate the camera'))


@pytest.mark.parametrize('focal', [200.0, 100.0])
def test_a_wide_lens_is_a_camera(focal):
    wide = camera_info([focal, 0, 320, 0, focal, 240, 0, 0, 1])
    assert camera_from_info(wide, Camera()).fx == focal


@pytest.mark.parametrize('binning', [0, 2])
def test_rectified_images_have_the_intrinsics_that_p_begins_with(binning):
    shown = ((100, 40, 400, 200), binning)
    rectified = camera_from_info(camera_info(CALIBRATED, *shown), Camera(), 'p')
    assert rectified == camera_from_info(camera_info(RECTIFIED, *shown), Camera(), 'k')
    uncalibrated = camera_info(CALIBRATED)
    uncalibrated.p = [0.0] * 12
    with pytest.raises(ValueError, match=r'P is zero.*camera_matrix to k'):
        camera_from_info(uncalibrated, Camera(), 'p')


def test_the_lens_is_that_of_images_as_they_leave_the_camera():
    info = camera_info(CALIBRATED, d=(0.1, -0.2))
    lens = Lens(model='rational_polynomial', coefficients=(0.1, -0.2))
    assert camera_from_info(info, Camera(), 'k').lens == lens
    assert camera_from_info(info, Camera(lens=lens), 'p').lens == Lens()
    # Without coefficients, or with zeros alone, the model does not matter.
    assert camera_from_info(camera_info(CALIBRATED, d=(0.0,) * 8), Camera()).lens == Lens()
    with pytest.raises(ValueError, match=r'camera_info: .*coefficients'):
        camera_from_info(camera_info(CALIBRATED, d=(float('nan'),)), Camera())


@pytest.mark.parametrize('count', [2, 3])
def test_cameras_by_turns_are_counted_until_one_alone_is_told_of_for_long(count):
    calibration, now_ns = Calibration(Camera()), 10**18
    focal_lengths = [500.0, 600.0, 700.0][:count]

    def told(focal_length, in_s=0.1):
        nonlocal now_ns
        now_ns += round(in_s * 1e9)
        assert calibration.take(camera_info([focal_length, *CALIBRATED[1:]]), now_ns)
        return calibration.returns(now_ns)

    # A lens that zooms, and back once.
    assert [told(each) for each in (*focal_lengths, *focal_lengths)][:count] == [0] * count
    assert max(told(each) for each in 3 * focal_lengths) >= 3
    # Equal messages need not come: a node hears of changes alone.
    now_ns += 61 * 10**9
    assert calibration.returns(now_ns) == 0
    # An intruder every five seconds.
    assert max(told(each, in_s) for _ in range(8) for each, in_s in ((500, 4.9), (800, 0.1))) >= 3


def test_a_message_that_can_be_used_ends_the_fault_of_the_one_before():
    calibration = Calibration(Camera())
    assert not calibration.take(camera_info([0.0] * 9), 1)
    assert 'K is zero' in calibration.fault and calibration.camera is None
    assert calibration.take(camera_info(CALIBRATED), 2)
    assert calibration.fault == '' and calibration.camera.fx == 500


def test_a_camera_that_is_told_of_all_the_time_does_not_return():
    calibration = Calibration(Camera())
    for now_s in range(9):
        calibration.take(camera_info(CALIBRATED), now_s * 10**9)
    assert calibration.returns(9 * 10**9) == 0


def test_turns_of_a_clock_that_was_set_back_are_not_lately():
    calibration, now_ns = Calibration(Camera()), 10**18
    for focal_length in 4 * [500.0, 600.0]:
        calibration.take(camera_info([focal_length, *CALIBRATED[1:]]), now_ns)
    assert calibration.returns(now_ns) >= 3
    assert calibration.returns(now_ns - 61 * 10**9) == 0
