"""Messages carry REP-103 axes, Python floats and class order."""

import sys

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from visualization_msgs.msg import Marker

from fusion_perception.ros import messages
from fusion_perception.ros.bridge import cv_bridge_fallback, decoder_of
from fusion_perception.ros.clouds import cloud_message
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.sensing.camera_info import camera_from_info
from fusion_perception.sensing.cloud import decode_points, to_lidar_axes
from fusion_perception.sensing.decode import BadEncoding, decode_image, decode_range, stamp_ns
from fusion_perception.sensing.observation import Camera, Lens
from fusion_perception.sensing.rep103 import centers_of, to_rep103

HEADER = messages.header_message(12_000_000_034, 'lidar')
CENTERS = np.array([[1.0, 25.0, 2.0], [-3.0, 22.0, 0.5], [0.0, 27.0, -4.0]], np.float32)
ORIGIN = np.zeros(3)
CLASSES = ('cube', 'sphere', 'torus')


def marker(markers, namespace):
    return [m for m in markers.markers if m.ns == namespace]


def test_right_forward_up_becomes_forward_left_up():
    pose = messages.centers_message(HEADER, CENTERS).poses[0]
    assert (pose.position.x, pose.position.y, pose.position.z) == (25.0, -1.0, 2.0)
    assert pose.orientation.w == 1.0


def test_centres_come_back_as_they_were_in_class_order():
    message = messages.centers_message(HEADER, CENTERS)
    assert np.array_equal(centers_of(message), CENTERS)
    assert stamp_ns(message) == 12_000_000_034


def test_each_centre_has_a_ball_and_its_name_above_it():
    markers = messages.markers_message(HEADER, CENTERS, CLASSES, None, 0.5, 'fusion', ORIGIN)
    assert [m.text for m in marker(markers, 'names')] == list(CLASSES)
    assert [m.id for m in marker(markers, 'centers')] == [0, 1, 2]
    assert not marker(markers, 'covariance')
    ball, name = marker(markers, 'centers')[0].pose, marker(markers, 'names')[0].pose
    assert name.position.z > ball.position.z
    assert marker(markers, 'centers')[0].lifetime.nanosec == 500_000_000


def test_balls_and_names_stand_where_the_centres_are():
    markers = messages.markers_message(HEADER, CENTERS, CLASSES, None, 0.5, 'fusion', ORIGIN)
    for namespace in ('centers', 'names'):
        at = [m.pose.position for m in marker(markers, namespace)]
        assert [(p.x, p.y) for p in at] == [(25.0, -1.0), (22.0, 3.0), (27.0, -0.0)]
    assert [m.pose.position.z for m in marker(markers, 'centers')] == [2.0, 0.5, -4.0]


def test_each_class_has_a_colour_of_its_own_in_all_its_markers():
    covariance = np.tile(np.eye(3), (3, 1, 1))
    markers = messages.markers_message(HEADER, CENTERS, CLASSES, covariance, 0.5, 'fusion', ORIGIN)
    for namespace in ('centers', 'names', 'covariance'):
        colors = [(m.color.r, m.color.g, m.color.b) for m in marker(markers, namespace)]
        assert np.allclose(colors, messages.COLORS[:3])


def test_a_ball_is_seen_through_its_ellipsoid():
    covariance = np.tile(np.eye(3), (3, 1, 1))
    markers = messages.markers_message(HEADER, CENTERS, CLASSES, covariance, 0.5, 'fusion', ORIGIN)
    assert {m.color.a for m in marker(markers, 'centers')} == {1.0}
    assert max(m.color.a for m in marker(markers, 'covariance')) <= 0.5


@pytest.mark.parametrize(
    ('lifetime_s', 'expected'),
    [(2.25, (2, 250_000_000)), (0.0, (0, 0)), (1.9999999999, (2, 0))],
)
def test_markers_live_as_long_as_they_are_told_to(lifetime_s, expected):
    markers = messages.markers_message(
        HEADER, CENTERS, CLASSES, None, lifetime_s, 'fusion', ORIGIN
    ).markers
    assert {(m.lifetime.sec, m.lifetime.nanosec) for m in markers} == {expected}


def test_the_mode_stands_above_the_lidar_with_the_stamp_of_the_centres():
    at = np.array([1.0, 2.0, 3.0])
    markers = messages.markers_message(HEADER, CENTERS, CLASSES, None, 0.5, 'lidar_only', at)
    (mode,) = marker(markers, 'mode')
    assert (mode.text, mode.type) == ('lidar_only', Marker.TEXT_VIEW_FACING)
    assert (mode.pose.position.x, mode.pose.position.y) == (2.0, -1.0)
    assert mode.pose.position.z > 3.0
    assert stamp_ns(mode) == stamp_ns(markers.markers[0])


def test_the_ellipsoid_points_where_the_covariance_points():
    # 2 m along the package's forward axis is 2 m along x of REP-103.
    covariance = np.tile(np.diag([0.01, 4.0, 0.04]), (3, 1, 1))
    markers = messages.markers_message(HEADER, CENTERS, CLASSES, covariance, 0.5, 'fusion', ORIGIN)
    ellipsoid = marker(markers, 'covariance')[0]
    assert ellipsoid.type == Marker.SPHERE
    scale = np.array([ellipsoid.scale.x, ellipsoid.scale.y, ellipsoid.scale.z])
    q = ellipsoid.pose.orientation
    longest = rotation(q.w, q.x, q.y, q.z)[:, scale.argmax()]
    assert abs(longest[0]) == pytest.approx(1.0)
    assert scale.max() / scale.min() == pytest.approx(20.0)


def test_nine_of_ten_places_that_a_covariance_makes_likely_lie_in_its_ellipsoid():
    random = np.random.default_rng(0)
    roots = random.normal(size=(3, 3, 3))
    covariance = roots @ roots.swapaxes(1, 2)
    markers = messages.markers_message(HEADER, CENTERS, CLASSES, covariance, 0.5, 'fusion', ORIGIN)
    for m, center, root in zip(marker(markers, 'covariance'), CENTERS, roots, strict=True):
        places = to_rep103(center + random.normal(size=(20_000, 3)) @ root.T)
        p, q, scale = m.pose.position, m.pose.orientation, m.scale
        along = (places - [p.x, p.y, p.z]) @ rotation(q.w, q.x, q.y, q.z)
        inside = np.linalg.norm(2 * along / [scale.x, scale.y, scale.z], axis=1) < 1
        assert inside.mean() == pytest.approx(0.9, abs=0.01)


def test_a_centre_that_is_sure_of_a_direction_has_an_ellipsoid_all_the_same():
    flat = np.tile(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), (3, 1, 1))
    markers = messages.markers_message(HEADER, CENTERS, CLASSES, flat, 0.5, 'fusion', ORIGIN)
    for m in marker(markers, 'covariance'):
        assert min(m.scale.x, m.scale.y, m.scale.z) > 0


@pytest.mark.parametrize('seed', range(5))
def test_an_ellipsoid_rebuilds_its_covariance(seed):
    root = np.random.default_rng(seed).normal(size=(3, 3))
    q, deviations = messages.ellipsoid(root @ root.T)
    turn = rotation(q.w, q.x, q.y, q.z)
    assert np.allclose(turn @ np.diag(deviations**2) @ turn.T, root @ root.T)


def rotation(w, x, y, z):
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_images_are_decoded_to_what_was_encoded():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    ranges = np.linspace(1, 49, 35, dtype=np.float32).reshape(5, 7)
    image = messages.image_message(HEADER, pixels)
    assert np.array_equal(decode_image(image), pixels[..., :3])
    assert np.array_equal(decode_range(messages.range_message(HEADER, ranges)), ranges)


def test_a_cloud_is_read_back_as_its_points():
    xyza = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    xyza[3] = 1
    xyza[3, 2, :3] = 0
    cloud = cloud_message(HEADER, xyza)
    points = to_lidar_axes(decode_points(cloud)).reshape(3, 5, 7)
    assert (cloud.height, cloud.width, cloud.is_dense) == (5, 7, False)
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z', 'a']
    seen = xyza[3] == 1
    assert np.array_equal(points[:, seen], xyza[:3, seen])
    assert np.isnan(points[:, ~seen]).all()
    a = np.frombuffer(cloud.data, np.float32).reshape(5, 7, 4)[..., 3]
    assert np.array_equal(a, xyza[3])


def test_camera_info_gives_the_camera_back():
    camera = Camera(width=640, height=480, fx=600.0, fy=610.0, cx=320.5, cy=239.0)
    info = messages.camera_info_message(HEADER, camera)
    assert camera_from_info(info, Camera()) == camera
    # Without distortion its images are rectified already.
    assert camera_from_info(info, Camera(), 'p') == camera


def test_camera_info_gives_the_lens_back():
    lens = Lens(model='equidistant', coefficients=(0.1, -0.2, 0.3, -0.4))
    camera = Camera(lens=lens)
    assert camera_from_info(messages.camera_info_message(HEADER, camera), Camera()) == camera


def test_a_cloud_in_which_every_ray_met_something_is_dense():
    xyza = np.ones((4, 5, 7), np.float32)
    assert cloud_message(HEADER, xyza).is_dense


@pytest.mark.parametrize(
    ('method', 'fault', 'said'),
    [
        ('__init__(self)', 'ImportError', r'cv_bridge cannot be loaded: numpy\.core is gone'),
        ('__init__(self)', 'AttributeError', r'cv_bridge cannot be loaded: numpy\.core is gone'),
        ('imgmsg_to_cv2(self, message, encoding)', 'RuntimeError', r'numpy\.core is gone'),
    ],
)
def test_a_cv_bridge_that_fails_says_so_of_the_images_it_should_read(
    tmp_path, monkeypatch, method, fault, said
):
    broken = f'class CvBridge:\n    def {method}: raise {fault}("numpy.core is gone")\n'
    (tmp_path / 'cv_bridge.py').write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'cv_bridge', raising=False)
    strange = messages.image_message(
        messages.header_message(1, 'camera'), np.zeros((2, 2, 3), 'u1')
    )
    strange.encoding = 'bayer_rggb8'
    with pytest.raises(BadEncoding, match=said):
        decode_image(strange, cv_bridge_fallback('rgb8'))
    monkeypatch.delitem(sys.modules, 'cv_bridge')


def test_cv_bridge_is_asked_for_colours_of_images_and_for_ranges_as_they_came(
    tmp_path, monkeypatch
):
    asked = """
import numpy as np
class CvBridge:
    def imgmsg_to_cv2(self, message, encoding):
        images = {'rgb8': np.full((2, 2, 3), 7, 'u1'), 'passthrough': np.ones((2, 2), 'f4')}
        return images[encoding]
"""
    (tmp_path / 'cv_bridge.py').write_text(asked)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'cv_bridge', raising=False)
    strange = messages.range_message(HEADER, np.zeros((2, 2), np.float32))
    strange.encoding = 'unheard_of'
    decoder = decoder_of(NodeSettings())
    assert (decoder.image(strange) == 7).all()
    assert (decoder.ranges(strange) == 1).all()
    monkeypatch.delitem(sys.modules, 'cv_bridge')


def test_of_a_pose_with_a_covariance_the_orientation_is_unknown():
    covariance = np.diag([1.0, 2.0, 3.0]) + 0.5
    full = messages.pose_covariance(covariance).reshape(6, 6)
    assert np.array_equal(full[:3, :3], covariance)
    assert np.array_equal(full[3:, 3:], np.pi**2 * np.eye(3))
    assert not full[:3, 3:].any() and not full[3:, :3].any()


def test_detections_hold_class_covariance_and_place():
    pytest.importorskip('vision_msgs', reason='needs vision_msgs, of a ROS installation')
    covariance = np.tile(np.diag([1.0, 2.0, 3.0]), (3, 1, 1))
    found = messages.detections_message(HEADER, CENTERS, CLASSES, covariance).detections
    labels = messages.label_info_message(HEADER, CLASSES).class_map
    names = {str(label.class_id): label.class_name for label in labels}
    assert [names[d.results[0].hypothesis.class_id] for d in found] == list(CLASSES)
    assert [d.id for d in found] == list(CLASSES)
    pose = found[0].results[0].pose
    assert (pose.pose.position.x, pose.pose.position.y) == (25.0, -1.0)
    assert [pose.covariance[i] for i in (0, 7, 14)] == [2.0, 1.0, 3.0]
    assert [pose.covariance[i] for i in (21, 28, 35)] == pytest.approx([np.pi**2] * 3)
