"""`fusion doctor` on bundles, data folders and recordings: what it finds and how it ends."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from recordings import CAMERA_INFO, IMAGE, RANGES, SECOND, at, bent_info, frames, record

from fusion_perception.cli import main
from fusion_perception.doctor import DoctorSettings, doctor, report
from fusion_perception.engines.onnx_graph import keep
from fusion_perception.learning.bags.writing import BagWriter
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.to_bag import ToBagSettings, to_bag
from fusion_perception.models import build
from fusion_perception.models.bundle import load_bundle, save_bundle
from fusion_perception.sensing.findings.finding import Finding
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.pairing import PairingSettings
from fusion_perception.sensing.recordings.message_types import known_types
from fusion_perception.sensing.rig import Rig


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('doctor') / 'data'
    simulate(SimulateSettings(out=out, count=8))
    return out


@pytest.fixture(scope='module')
def bag(data):
    out = data.parent / 'bag'
    to_bag(ToBagSettings(data=data, out=out))
    return out


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / 'small.safetensors'
    model = build('early_fusion', {'channels': (2, 4, 4), 'hidden': (8, 8)})
    save_bundle(path, model, 'early_fusion', Rig(), UniformGrid().lidar(), {'seed': 7})
    return path


def examined(**settings):
    return doctor(DoctorSettings(**settings))


def test_a_sound_bundle_is_described_and_predicts(bundle):
    text, code = examined(bundle=str(bundle))
    assert code == 0
    for word in ('early_fusion', 'seed 7', 'cube, sphere, torus', '64x64', 'fusion'):
        assert word in text


def test_an_engine_that_is_not_installed_is_no_fault(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    text, code = examined(bundle=str(bundle))
    assert code == 0, text
    assert "OK     Engine 'onnxruntime' lacks a package" in text


def test_an_engine_that_fails_is_warned_of_with_its_fault_and_a_remedy(bundle):
    graph = keep(load_bundle(bundle), 'frame', b'no graph')
    text, code = examined(bundle=str(bundle))
    assert code == 1
    assert "WARN   Engine 'onnxruntime' failed here: InvalidProtobuf: " in text
    assert f'-> Use engine torch, or remove {graph}: made again at the next start.' in text
    graph.unlink()
    assert examined(bundle=str(bundle))[1] == 0


def test_a_torn_bundle_is_a_finding_with_its_remedy(bundle):
    bundle.write_bytes(bundle.read_bytes()[:-100])
    text, code = examined(bundle=str(bundle))
    assert code == 1
    assert text.startswith('ERROR')
    assert '->' in text


def test_a_sound_data_folder_is_described(data):
    text, code = examined(data=data)
    assert code == 0, text
    assert '8 scenes' in text


def test_a_data_folder_with_a_missing_file_or_an_empty_scan_is_found(data, tmp_path):
    copy = tmp_path / 'data'
    simulate(SimulateSettings(out=copy, count=8, seed=1))
    np.save(copy / 'lidar' / '0003.npy', np.full((64, 64), 50.0, np.float32))
    text, code = examined(data=copy)
    assert code == 1
    (copy / 'rgb' / '0007.png').unlink()
    text, code = examined(data=copy)
    assert code == 1
    assert '7 images' in text


def test_what_is_in_doubt_about_a_data_folder_is_a_warning_and_said_once(data, tmp_path, caplog):
    copy = shutil.copytree(data, tmp_path / 'data')
    np.save(copy / 'lidar' / '0003.npy', np.full((64, 64), np.nan, np.float32))
    labels = (copy / 'positions.csv').read_text().splitlines()
    labels[3] = ','.join(['60', *labels[3].split(',')[1:]])
    (copy / 'positions.csv').write_text('\n'.join(labels))
    text, code = examined(data=copy)
    assert code == 1
    assert f'WARN   {copy}: In positions.csv 1 centre lies beyond max_range = 50 m' in text
    assert '-> Check them, and max_range in sensor.yaml.' in text
    assert f'WARN   {copy}: 1 of 8 range images are NaN everywhere, the first lidar/0003' in text
    assert '2 of 5 to correct.' in text
    assert 'the labels fit' not in text
    assert not caplog.text


def test_that_the_original_data_has_no_description_is_no_fault(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / 'data')
    (copy / 'sensor.yaml').unlink()
    text, code = examined(data=copy)
    assert code == 0, text
    assert f'OK     {copy}: There is no sensor.yaml: the rig of the original data' in text


def test_a_recording_that_pairs_is_described(bag):
    text, code = examined(bag=bag)
    assert code == 0, text
    assert '8 of 8 scans form a pair' in text
    assert '32FC1 64x64' in text


def test_a_recording_whose_stamps_lie_apart_gets_the_offset(bag):
    shifted = PairingSettings(camera_offset_s=0.03)
    text, code = examined(bag=bag, pairing=shifted)
    assert code == 1
    # Once, and not as well by their number.
    assert 'never form a pair' in text and 'forms a pair' not in text
    assert 'camera_offset_s to 0.000' in text


def test_pairs_are_enough_where_every_scan_has_its_image(tmp_path):
    def seldom(events):
        return [e for e in events if e.topic != RANGES or e.index % 2 == 0]

    text, code = examined(bag=record(tmp_path / 'bag', count=20, edit=seldom))
    assert code == 0, text
    assert '10 of 10 scans form a pair' in text


def test_a_recording_whose_camera_clock_is_off_by_whole_periods_gets_the_offset(tmp_path):
    def behind(events):
        return [e.stamped(e.stamp_ns - 3 * SECOND) if e.topic == IMAGE else e for e in events]

    record(tmp_path / 'bag', count=60, edit=behind)
    text, code = examined(bag=tmp_path / 'bag')
    assert code == 1
    assert 'Camera and LiDAR never form a pair: the images arrive 3.000 s later' in text
    assert 'Set pairing.camera_offset_s to 3.000' in text
    text, code = examined(bag=tmp_path / 'bag', pairing=PairingSettings(camera_offset_s=3.0))
    assert code == 0, text
    assert '60 of 60 scans form a pair' in text


def test_sensors_that_were_recorded_one_after_the_other_have_no_offset(tmp_path):
    def apart(events):
        return [e for e in events if (e.topic == IMAGE) == (e.index < 10)]

    record(tmp_path / 'bag', count=20, edit=apart)
    text, code = examined(bag=tmp_path / 'bag')
    assert code == 1
    assert 'ERROR  None of 10 scans forms a pair: no image lies within 0.02 s' in text
    assert 'offset' not in text


def test_few_pairs_are_no_good_news_although_the_last_messages_fit(tmp_path):
    def late_at_first(events):
        late = {IMAGE: SECOND // 25}
        return [
            e.stamped(e.stamp_ns + late.get(e.topic, 0) * (e.index < 550))
            for e in events
            if e.topic in (IMAGE, RANGES)
        ]

    record(tmp_path / 'bag', count=1070, edit=late_at_first)
    text, code = examined(bag=tmp_path / 'bag')
    assert code == 1
    assert 'WARN   Only 520 of 1070 scans form a pair: no image lies within 0.02 s' in text


@pytest.mark.parametrize('matrix', ['k', 'p'])
def test_what_a_recording_tells_of_a_lens_is_said_and_nothing_to_correct(tmp_path, matrix):
    seen, camera = frames(8, 10), Rig().camera
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(8):
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            bag.image(IMAGE, at(index), seen.images[index].numpy())
            bent_info(bag, at(index), camera, camera, [-0.3, 0.1, 0, 0, 0])
    text, code = examined(bag=tmp_path / 'bag', camera_matrix=matrix)
    assert code == 0, text
    lens = (
        'OK     /camera/camera_info: the lens (plumb_bob) moves parts of the 64x64 image by up to '
    )
    assert (lens in text) == (matrix == 'k')


@pytest.mark.parametrize('told', [True, False])
def test_large_images_without_camera_info_are_a_warning(tmp_path, told):
    seen, camera = frames(8, 10), Rig().camera.resized(128, 128)
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(8):
            bag.ranges(RANGES, at(index), seen.ranges[index].numpy())
            large = seen.images[index].numpy().repeat(2, axis=0).repeat(2, axis=1)
            bag.image(IMAGE, at(index), large)
            if told:
                bag.camera_info(CAMERA_INFO, at(index), camera)
    text, code = examined(bag=tmp_path / 'bag')
    assert code == (not told), text
    lacking = 'WARN   There is no camera_info in it: the images have 128x128 pixels'
    assert (lacking in text) != told


def test_a_camera_info_that_was_latched_once_is_enough(tmp_path):
    def once(events):
        return [e for e in events if e.topic != CAMERA_INFO or e.index == 0]

    text, code = examined(bag=record(tmp_path / 'bag', count=30, edit=once))
    assert code == 0, text


@pytest.mark.parametrize('simulated', ['', 'with /clock', 'from zero on'])
def test_stamps_ahead_of_the_recorder_are_of_another_clock_but_in_a_simulation(
    tmp_path, simulated
):
    seen, clock = frames(8, 10), 'rosgraph_msgs/msg/Clock'
    types = known_types().types
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(8):
            stamp_ns = at(index) - (at(-10) if simulated == 'from zero on' else 0)
            noted_ns = stamp_ns - SECOND // 2
            bag.ranges(RANGES, stamp_ns, seen.ranges[index].numpy(), log_ns=noted_ns)
            bag.image(IMAGE, stamp_ns, seen.images[index].numpy(), log_ns=noted_ns)
        if simulated == 'with /clock':
            now = types['builtin_interfaces/msg/Time'](sec=at(0) // SECOND, nanosec=0)
            bag.write('/clock', clock, at(0), types[clock](clock=now))
    text, code = examined(bag=tmp_path / 'bag')
    assert code == (not simulated), text
    assert ('lie 0.500 s ahead of the times noted: the clocks of sensor' in text) != bool(
        simulated
    )


def test_a_clock_that_is_set_midway_is_found_and_the_pairs_that_it_costs(tmp_path):
    def back(events):
        return [
            e.stamped(e.stamp_ns - 5 * SECOND) if e.topic == IMAGE and e.index >= 30 else e
            for e in events
        ]

    text, code = examined(bag=record(tmp_path / 'bag', count=60, edit=back))
    assert code == 1
    assert 'WARN   Stamps jump back by more than pairing.jump_back_s (times: 1)' in text
    assert 'WARN   Only 30 of 60 scans form a pair' in text


@pytest.mark.parametrize('scale', [1, 1000])
def test_how_far_the_lidar_measured_is_said_and_that_no_lidar_sees_so_far(tmp_path, scale):
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(8):
            ranges = np.linspace(2.0, 90.0, 64 * 64, dtype=np.float32).reshape(64, 64)
            bag.ranges(RANGES, at(index), scale * ranges)
            bag.image(IMAGE, at(index), np.tile(np.eye(64)[..., None] * 255, 4).astype(np.uint8))
    text, code = examined(bag=tmp_path / 'bag')
    assert f'32FC1 64x64, {2 * scale:.1f} to {90 * scale:,.1f} m.' in text
    assert code == (scale > 1), text
    assert ('WARN   Half of what the LiDAR measured lies farther than 46,000 m' in text) == code


def test_pauses_of_a_recording_and_scans_without_returns_are_found(tmp_path):
    def paused(events):
        later = 3 * SECOND
        return [
            replace(e, stamp_ns=e.stamp_ns + later, log_ns=e.log_ns + later) if e.index > 9 else e
            for e in events
        ]

    text, code = examined(bag=record(tmp_path / 'bag', count=20, edit=paused))
    assert code == 1
    assert 'WARN   /camera/image_raw is silent for 3.1 s, from 0.9 s on.' in text
    assert 'WARN   /lidar/range_image is silent for 3.1 s, from 0.9 s on.' in text
    with BagWriter(tmp_path / 'empty') as bag:
        for index in range(8):
            ranges = np.full((64, 64), 9.0 if index < 5 else 0.0, np.float32)
            bag.ranges(RANGES, at(index), ranges)
            bag.image(IMAGE, at(index), np.zeros((64, 64, 4), np.uint8))
    text, code = examined(bag=tmp_path / 'empty')
    assert code == 1
    assert 'WARN   3 of 8 scans are empty' in text


@pytest.mark.parametrize(
    'args', [(), ('--live', '--data', 'x'), ('--bag', 'nowhere'), ('--bundle', 'nothing')]
)
def test_bad_usage_ends_with_2(args, capsys):
    assert main(['doctor', *args]) == 2
    assert capsys.readouterr().err


def test_the_remedy_stands_below_its_finding_without_colour_for_a_file():
    findings = [Finding('OK', 'This'), Finding('WARN', 'That', 'a cause', 'Do so.')]
    lines = report(findings, terminal=False).splitlines()
    assert lines == [
        'OK     This.',
        'WARN   That: a cause.',
        '       -> Do so.',
        '1 of 2 to correct.',
    ]
    assert '\x1b[' in report(findings, terminal=True)


def test_rays_that_met_nothing_say_nothing_of_how_far_the_lidar_measured(tmp_path):
    ranges = np.linspace(2.0, 90.0, 64 * 64, dtype=np.float32).reshape(64, 64)
    ranges[1, :2] = 0.0, np.inf
    with BagWriter(tmp_path / 'bag') as bag:
        for index in range(8):
            bag.ranges(RANGES, at(index), ranges)
    text, _ = examined(bag=tmp_path / 'bag')
    assert '32FC1 64x64, 2.0 to 90.0 m.' in text


def test_the_last_pair_of_a_recording_counts_though_it_waits_for_a_closer_image(tmp_path):
    def late(events):
        return [e.stamped(e.stamp_ns + 6_000_000) if e.topic == RANGES else e for e in events]

    text, _ = examined(bag=record(tmp_path / 'bag', count=3, edit=late))
    assert '3 of 3 scans form a pair' in text
