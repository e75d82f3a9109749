"""How a recording is read is said once, and the doctor is sent to read it in the same way."""

import shlex
from dataclasses import replace

import pytest
from recordings import CAMERA_INFO, IMAGE, RANGES, SECOND, record

from fusion_perception.cli import main
from fusion_perception.learning.bag import run_bag
from fusion_perception.learning.bags.settings import (
    BagSettings,
    RecordingSettings,
    flags_of,
    no_pair,
)
from fusion_perception.learning.from_bag import FromBagSettings, from_bag
from fusion_perception.sensing.pairing import PairingSettings


def command_of(sentence):
    """Return the words of the command that a sentence ends with."""
    return shlex.split(sentence[sentence.index('fusion doctor') :])


def test_usual_settings_need_no_flag():
    said = no_pair('drive', RecordingSettings(), {})
    assert said.endswith('(no messages). Ask why: fusion doctor --bag drive')


def test_the_doctor_reads_as_the_evaluation_did_and_finds_the_same_limit(
    tmp_path, runtime, capsys
):
    topics = {IMAGE: '/front cam/image', RANGES: '/ranges', CAMERA_INFO: '/front cam/camera_info'}

    def behind(events):
        late = SECOND // 50
        return [e.stamped(e.stamp_ns - late) if e.topic == IMAGE else e for e in events]

    bag = record(tmp_path / 'a drive', count=20, edit=behind, topics=topics)
    settings = BagSettings(
        image_topic='/front cam/image',
        pairing=PairingSettings(slop_s=0.012, camera_offset_s=-0.001, allow_single=False),
        invalid_values=(0, 9),
        camera_matrix='p',
    )
    with pytest.raises(ValueError, match='20 of 20 camera messages no_partner') as fault:
        run_bag(runtime, bag, settings, 8)
    command = command_of(str(fault.value))
    assert command[2:4] == ['--bag', str(bag)]
    assert main(command[1:]) == 1
    said = capsys.readouterr().out
    assert 'never form a pair' in said and 'pairing.slop_s allows 0.012 s' in said
    assert 'camera_offset_s to 0.020' in said


def test_every_setting_that_is_not_the_usual_one_has_its_flag():
    settings = BagSettings(
        image_topic='/front cam/image',
        pairing=PairingSettings(slop_s=0.012, allow_single=not PairingSettings().allow_single),
        invalid_values=(0, 9),
        camera_matrix='p',
        same_frames=True,  # Of which the doctor knows nothing.
    )
    single = '--allow-single' if settings.pairing.allow_single else '--no-allow-single'
    assert sorted(flags_of(settings, RecordingSettings())) == sorted(
        (
            "--image-topic '/front cam/image'",
            '--invalid-values 0 9',
            '--camera-matrix p',
            '--slop-s 0.012',
            single,
        )
    )
    assert list(flags_of(RecordingSettings(), RecordingSettings())) == []


def test_a_recording_whose_pairs_one_sensor_alone_lost_to_transforms_asks_nobody():
    lost = {
        'camera': {'received': 5, 'dropped': {'no_transform': 2, 'stale': 0}},
        'lidar': {'received': 5, 'dropped': {'no_transform': 0, 'stale': 4}},
    }
    assert no_pair('drive', RecordingSettings(), lost) == (
        'No pair is left of which it is known where the camera was (2 of 5 camera messages '
        'no_transform, 4 of 5 lidar messages stale).'
    )


def test_what_decodes_a_recording_knows_the_scale_and_the_invalid_values():
    decoder = RecordingSettings(range_scale=0.004, invalid_values=(7,)).decoder()
    assert (decoder.range_scale, decoder.invalid_values) == (0.004, (7,))


def test_a_conversion_without_pairs_sends_to_the_doctor_in_the_same_words(tmp_path):
    def apart(events):
        return [e.stamped(e.stamp_ns + SECOND // 20) if e.topic == IMAGE else e for e in events]

    bag = record(tmp_path / 'bag', edit=apart)
    with pytest.raises(ValueError) as fault:
        from_bag(FromBagSettings(bag=bag, out=tmp_path / 'out', range_scale=0.004))
    assert 'form a pair (8 of 8 camera messages no_partner' in str(fault.value)
    assert command_of(str(fault.value))[2:] == ['--bag', str(bag), '--range-scale', '0.004']


def test_the_doctor_lets_a_sensor_pass_alone_where_the_evaluation_does(tmp_path, capsys):
    def late(events):
        recorded = [
            replace(e, log_ns=e.log_ns + SECOND * 4 // 5) if e.topic == IMAGE else e
            for e in events
        ]
        return sorted(recorded, key=lambda e: e.log_ns)

    bag = record(tmp_path / 'bag', count=60, edit=late)
    # While the scans may pass alone, they do not wait for images that come after 0.8 s.
    for flag, found in (('--allow-single', 'never form'), ('--no-allow-single', '60 of 60 scans')):
        assert main(['doctor', '--bag', str(bag), flag]) == 1
        said = capsys.readouterr().out
        assert found in said and 'dropout_after_s to 0.96' in said
