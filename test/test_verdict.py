"""The level and the sentence that a node gives itself on /diagnostics."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from dataclasses import replace

from fusion_perception.ros.diagnostics import (
    ERROR,
    OK,
    STALE,
    WARN,
    NodeState,
    StreamState,
    Thresholds,
    diagnostics_message,
    group,
    streams_of,
    verdict,
)
from fusion_perception.ros.messages import header_message
from fusion_perception.sensing.findings.finding import Finding

STREAM = StreamState('/image', 1, 0.05, 20.0, 0.05, received=9, used=7)
FINE = NodeState(
    'active',
    listening_s=60.0,
    mode='fusion',
    output_age_s=0.1,
    output_period_s=0.1,
    streams={'camera': STREAM, 'lidar': replace(STREAM, topic='/range_image')},
    latency_ms={'p50': 20.0, 'p95': 40.0},
    able=['camera_only', 'fusion', 'lidar_only'],
)
UNHEARD = {name: replace(stream, received=0) for name, stream in FINE.streams.items()}
FINDING = Finding('WARN', '/image comes late', 'its clock is off', 'Set the clock.')


def level(**changes):
    return verdict(replace(FINE, **changes), Thresholds())[0]


def sentence(**changes):
    return verdict(replace(FINE, **changes), Thresholds())[1]


def test_a_node_that_fuses_is_well():
    assert verdict(FINE, Thresholds()) == (OK, 'Predicting, fusion.')


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'lifecycle': 'unconfigured'}, OK),
        ({'lifecycle': 'inactive'}, OK),
        ({'lifecycle': 'unconfigured', 'fault': 'No bundle.'}, ERROR),
        ({'lifecycle': 'finalized'}, WARN),
        ({'lifecycle': 'finalized', 'ended': True}, OK),
    ],
)
def test_a_node_that_is_not_active_is_well_unless_it_failed_or_is_no_more(changes, expected):
    # Nothing comes out of it, and nobody need know that.
    assert level(output_age_s=9.0, **changes) == expected


def test_a_node_that_was_disabled_is_well_and_says_so():
    assert level(enabled=False, output_age_s=60.0) == OK
    assert 'enable' in sentence(enabled=False, output_age_s=60.0)


def test_a_node_without_output_is_in_error_when_it_hears_something():
    assert level(output_age_s=2.1) == level(output_age_s=None) == ERROR


def test_a_node_without_output_that_never_heard_anything_is_stale():
    assert level(output_age_s=None, streams=UNHEARD) == STALE


def test_a_node_that_has_just_begun_to_listen_is_given_the_time_to_hear_something():
    assert level(output_age_s=None, streams=UNHEARD, listening_s=1.9) == OK
    assert level(output_age_s=None, streams=UNHEARD, listening_s=2.1) == STALE


def test_without_a_finding_the_last_fault_is_why_nothing_comes_out():
    assert sentence(output_age_s=3.0, last_fault='Inference failed.').endswith('Inference failed.')
    with_both = sentence(output_age_s=3.0, last_fault='Inference failed.', findings=[FINDING])
    assert str(FINDING) in with_both and 'Inference failed.' not in with_both


def test_a_fault_from_before_the_last_output_is_not_why_the_next_is_missing():
    fault = {'last_fault': 'Inference failed.', 'last_fault_age_s': 100.0}
    assert sentence(output_age_s=3.0, **fault) == sentence(output_age_s=3.0)
    assert sentence(output_age_s=None, **fault).endswith('Inference failed.')


def test_output_that_is_overdue_is_warned_of_before_it_is_an_error():
    # Of 0.5 s to a dropout and 2 s to an error.
    assert level(mode='none', output_age_s=0.7) == WARN
    assert sentence(mode='none', output_age_s=0.7) == 'No output for 0.7 s.'


@pytest.mark.parametrize(('mode', 'silent'), [('camera_only', 'LiDAR'), ('lidar_only', 'camera')])
def test_a_model_that_can_fuse_is_not_well_with_one_sensor(mode, silent):
    gone = {name: replace(stream, age_s=9.0) for name, stream in FINE.streams.items()}
    assert level(mode=mode, streams=gone) == WARN
    assert sentence(mode=mode, streams=gone) == f'The {silent} is silent; going on as {mode}.'


def test_a_model_of_one_sensor_is_well_with_it():
    assert verdict(replace(FINE, mode='camera_only', able=['camera_only']), Thresholds()) == (
        OK,
        'Predicting, camera_only.',
    )


def test_latency_is_warned_of_from_its_own_threshold_on():
    assert level(latency_ms={'p95': 99.0}) == OK
    assert level(latency_ms={'p95': 101.0}) == WARN
    late = replace(FINE, latency_ms={'p95': 101.0})
    assert verdict(late, Thresholds(warn_latency_ms=200.0))[0] == OK


def test_losses_are_warned_of_from_their_own_threshold_on():
    assert level(lost_share=0.5) == OK
    assert level(lost_share=0.51) == WARN
    assert sentence(lost_share=0.51).startswith('51% of the messages')
    assert verdict(replace(FINE, lost_share=0.51), Thresholds(warn_lost=0.6))[0] == OK


def test_a_finding_is_warned_of_although_the_node_predicts():
    assert verdict(replace(FINE, findings=[FINDING]), Thresholds()) == (WARN, str(FINDING))


def test_a_status_tells_everything_by_its_name():
    dropped = {'stale': 1, 'duplicate': 0}
    camera = StreamState('/image', 2, 0.05, 20.0, received=9, used=5, pending=3, dropped=dropped)
    state = replace(
        FINE,
        streams={'camera': camera},
        modes={'fusion': 4, 'camera_only': 1},
        inference_ms={'p50': 3.0},
        apart_ms={'max': 7.5},
        target_frame='map',
        last_fault='Once.',
        last_fault_age_s=7.0,
        findings=[FINDING],
        about={'device': 'cpu'},
    )
    message = diagnostics_message(header_message(1, ''), '/fusion_node', state, Thresholds())
    (status,) = message.status
    told = {pair.key: pair.value for pair in status.values}
    assert (status.level, status.name, status.message) == (WARN, '/fusion_node', str(FINDING))
    assert status.hardware_id == '/fusion_node'
    assert streams_of(status.values) == {
        'camera': {'received': 9, 'used': 5, 'pending': 3, 'dropped': dropped}
    }
    assert group(status.values, 'latency_ms') == {'p50': 20.0, 'p95': 40.0}
    expected = {
        'lifecycle': 'active',
        'enabled': 'true',
        'mode': 'fusion',
        'pairs': '5',
        'modes.fusion': '4',
        'camera.topic': '/image',
        'camera.publishers': '2',
        'camera.rate_hz': '20.00',
        'camera.age_s': '0.050',
        'output.age_s': '0.100',
        'inference_ms.p50': '3.000',
        'apart_ms.max': '7.500',
        'target_frame': 'map',
        'device': 'cpu',
        'able': 'camera_only fusion lidar_only',
        'last_fault': 'Once.',
        'last_fault.age_s': '7.000',
        'finding.1': str(FINDING),
    }
    assert expected.items() <= told.items()


def test_what_never_came_has_no_age():
    streams = {'camera': StreamState('/image', 0, None, 0.0)}
    state = replace(FINE, streams=streams, output_age_s=None)
    message = diagnostics_message(header_message(1, ''), '/fusion_node', state, Thresholds())
    told = {pair.key: pair.value for pair in message.status[0].values}
    assert told['camera.age_s'] == told['output.age_s'] == 'nan'
