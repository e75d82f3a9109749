"""The node takes compressed images and point clouds where its parameters say so."""

import array
import io
from itertools import count

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

import torch
from PIL import Image as Picture
from rclpy.qos import qos_profile_sensor_data
from ros_graph import RANGES, Probe, ended, ros, spinning, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, PointCloud2, PointField
from small_bundles import small_bundle

from fusion_perception.doctor import DoctorSettings, doctor
from fusion_perception.models.bundle import load_bundle
from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.messages import camera_info_message, header_message
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.observation import Camera
from fusion_perception.sensing.rep103 import centers_of, to_rep103

pytestmark = pytest.mark.ros
STAMP = 1_700_000_000_000_000_000
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def png_message(stamp_ns):
    png = io.BytesIO()
    Picture.fromarray(PIXELS).save(png, 'PNG')
    message = CompressedImage(header=header_message(stamp_ns, 'camera'), format='png')
    message.data = array.array('B', png.getvalue())
    return message


def cloud_message(stamp_ns, lidar, frame_id='lidar'):
    """Return the points of RANGES as a sensor sends them: REP-103 axes, in no special order."""
    *xyz, a = lidar.xyza(torch.from_numpy(RANGES)).numpy()
    points = np.stack(xyz, axis=-1)[a > 0]
    points = to_rep103(np.random.default_rng(0).permutation(points)).astype(np.float32)
    behind = np.array([[-5, 0, 0]], np.float32)  # What no beam of this LiDAR can have met.
    points = np.concatenate((points, behind))
    fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate('xyz')
    ]
    message = PointCloud2(
        header=header_message(stamp_ns, frame_id),
        height=1,
        width=len(points),
        fields=fields,
        point_step=12,
        row_step=12 * len(points),
        is_dense=True,
    )
    message.data = array.array('B', points.tobytes())
    return message


def test_compressed_images_and_point_clouds_lead_to_the_same_centres(tmp_path):
    path = small_bundle(tmp_path)
    bundle = load_bundle(path)
    runtime = Runtime(bundle, 'cpu')
    expected = runtime.predict(runtime.observe(PIXELS, RANGES)).centers[0]
    arguments = ('-p', f'bundle:={path}', '-p', 'device:=cpu', '-r', 'image:=front/image_raw')
    with ros(*arguments, '-p', 'image_type:=compressed', '-p', 'lidar_type:=points'):
        node, probe = FusionNode(), Probe()
        images = probe.create_publisher(
            CompressedImage, 'front/image_raw/compressed', qos_profile_sensor_data
        )
        clouds = probe.create_publisher(PointCloud2, 'points', qos_profile_sensor_data)
        node.start()
        with ended(node, probe), spinning(node, probe):
            wait_until(
                lambda: images.get_subscription_count() and clouds.get_subscription_count(),
                'the node to subscribe',
            )
            images.publish(png_message(STAMP))
            clouds.publish(cloud_message(STAMP, bundle.lidar, 'front_lidar'))
            (centers,) = wait_until(lambda: probe.centers, 'centres')
            assert centers.header.frame_id == 'front_lidar'
            assert centers.header.stamp.sec * 10**9 + centers.header.stamp.nanosec == STAMP
            np.testing.assert_allclose(centers_of(centers), expected, rtol=0, atol=1e-3)
            said = wait_until(
                lambda: [
                    {v.key: v.value for v in status.values}
                    for status in probe.diagnostics
                    if any(v.key == 'points_outside' for v in status.values)
                ],
                'diagnostics of the cloud',
            )[-1]
            assert (said['points_outside'], said['points_hidden']) == ('1', '0')
            assert said['camera.topic'] == '/front/image_raw/compressed'
            assert said['lidar.topic'] == '/points'


def test_the_newest_camera_info_counts_and_one_without_calibration_changes_nothing(tmp_path):
    path = small_bundle(tmp_path)
    with ros('-p', f'bundle:={path}', '-p', 'device:=cpu'):
        node, probe = FusionNode(), Probe()
        infos = probe.create_publisher(CameraInfo, 'camera_info', qos_profile_sensor_data)
        node.start()
        with ended(node, probe), spinning(node, probe):
            wait_until(infos.get_subscription_count, 'the node to subscribe')

            def told(focal, number):
                camera = Camera(width=64, height=64, fx=focal, fy=70.0, cx=32.0, cy=32.0)
                infos.publish(camera_info_message(header_message(STAMP + number, ''), camera))
                seen = node._pipeline.calibration.camera
                return seen is not None and seen.fx == focal

            number = count()
            for focal in (70.0, 80.0, 70.0):
                wait_until(lambda focal=focal: told(focal, next(number)), 'the camera')
            infos.publish(CameraInfo(width=64, height=64))
            probe.publish(STAMP)
            wait_until(lambda: probe.centers, 'centres')
            assert node._pipeline.calibration.camera.fx == 70.0


def test_a_cloud_in_other_axes_is_named_by_node_and_doctor_until_none_can_be_read(tmp_path):
    path = small_bundle(tmp_path)
    lidar = load_bundle(path).lidar
    with ros('-p', f'bundle:={path}', '-p', 'device:=cpu', '-p', 'lidar_type:=points'):
        node, probe = FusionNode(), Probe()
        clouds = probe.create_publisher(PointCloud2, 'points', qos_profile_sensor_data)
        node.start()
        with ended(node, probe), spinning(node, probe):
            wait_until(clouds.get_subscription_count, 'the node to subscribe')
            readable = True

            def publish():
                stamp_ns = probe.get_clock().now().nanoseconds
                probe.publish(stamp_ns, lidar=False)
                message = cloud_message(stamp_ns, lidar)
                # x forward, y left, z up taken for x right, y down, z forward.
                order = 'zxy' if readable else 'uvw'
                for field, name in zip(message.fields, order, strict=True):
                    field.name = name
                clouds.publish(message)

            def last():
                return probe.diagnostics[-1].message if probe.diagnostics else ''

            probe.create_timer(0.05, publish)
            wait_until(lambda: 'points lie beside every beam' in last(), 'what is wrong')
            text, code = doctor(DoctorSettings(live=True, seconds=1.0))
            assert code == 1 and '401 of 401 points lie beside every beam' in text, text
            assert probe.set('points_outside_max', 1.0).successful
            wait_until(lambda: 'beside every beam' not in last(), 'the end of the warning')
            assert probe.set('points_outside_max', 0.02).successful
            readable = False
            wait_until(lambda: "no field 'x'" in last(), 'what is wrong now')
            assert 'beside every beam' not in last()


@pytest.mark.parametrize(
    ('remapping', 'topic'),
    [
        (('-r', 'image:=front'), '/front/compressed'),
        (('-r', 'image/compressed:=front/jpeg'), '/front/jpeg'),
    ],
    ids=['image', 'image/compressed'],
)
def test_the_topic_of_compressed_images_is_told_as_it_was_remapped(tmp_path, remapping, topic):
    kind = ('-p', 'image_type:=compressed')
    with ros('-p', f'bundle:={small_bundle(tmp_path)}', *kind, *remapping):
        node, probe = FusionNode(), Probe()
        images = probe.create_publisher(CompressedImage, topic, qos_profile_sensor_data)
        node.start()
        with ended(node, probe), spinning(node, probe):
            wait_until(images.get_subscription_count, 'the node to subscribe')
            # Inactive, it tells what it will listen to.
            expected = {'camera.topic': topic, 'camera.publishers': '1'}.items()
            for state in ('active', 'inactive'):
                assert state == 'active' or probe.change_state('deactivate')

                def told(state=state):
                    said = {v.key: v.value for s in probe.diagnostics[-1:] for v in s.values}
                    return said.items() >= {*expected, ('lifecycle', state)}

                wait_until(told, f'the topic of the {state} node')


def test_inputs_whose_names_are_swapped_are_each_remapped_once(tmp_path):
    swapped = ('-r', 'image:=range_image', '-r', 'range_image:=image')
    with ros('-p', f'bundle:={small_bundle(tmp_path)}', *swapped):
        node = FusionNode()
        node.start()
        with ended(node):
            topics = [subscription.topic_name for subscription in node._inputs.values()]
            assert topics == ['/range_image', '/image']
