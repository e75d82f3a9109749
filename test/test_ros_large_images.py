"""Large camera images arrive complete with sensor-data QoS, given the Fast DDS profile."""

import contextlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

pytestmark = pytest.mark.ros
PROFILE = Path(__file__).parents[1] / 'config' / 'fastdds_large_images.xml'
END = Path(__file__).with_name('large_image_end.py')
# Jazzy knows the older name only, and Kilted warns of it.
NAMES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')


@contextlib.contextmanager
def end(*arguments):
    environment = {**os.environ, **dict.fromkeys(NAMES, str(PROFILE))}
    command = [sys.executable, str(END), *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_profile_is_well_formed_and_leaves_room_for_a_full_hd_image():
    text = PROFILE.read_text()
    root = ElementTree.fromstring(text)
    sizes = {element.tag.rpartition('}')[2]: element.text for element in root.iter()}
    assert int(sizes['segment_size']) >= 4 * 1920 * 1080 * 3
    assert int(sizes['maxMessageSize']) >= 1920 * 1080 * 3


def test_vga_images_at_30_hz_arrive():
    with end('talk', 640, 480, 30) as talking, end('hear', 60, 60) as hearing:
        heard, _ = hearing.communicate(timeout=90)
        assert talking.wait(30) == 0
    # Without the profile next to none of them comes.
    assert int(heard.split()[0]) >= 57, heard
