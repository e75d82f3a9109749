"""A bundle is evaluated on recordings as the robot would run on them."""

from dataclasses import replace

import numpy as np
import pytest
from recordings import at, cloud, detections_message, frames, record
from rosbags.typesys import get_types_from_msg

from fusion_perception.learning.bag import run_bag
from fusion_perception.learning.bags.examination import examine_recording
from fusion_perception.learning.bags.settings import BagSettings, RecordingSettings
from fusion_perception.learning.bags.writing import SECOND, BagWriter
from fusion_perception.learning.to_bag import CAMERA_INFO, IMAGE, RANGES, TRUTH
from fusion_perception.sensing.pairing import PairingSettings
from fusion_perception.sensing.rep103 import to_rep103
from fusion_perception.sensing.rig import Rig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture
def run(tmp_path, runtime):
    """Record and run: run(edit=..., settings...) returns the outcome."""

    def make(edit=None, count=8, batch_size=4, topics=None, **settings):
        bag = record(tmp_path / 'bag', count, edit=edit, topics=topics)
        return run_bag(runtime, bag, BagSettings(**settings), batch_size)

    return make


def without(topic, indices):
    return lambda events: [e for e in events if e.topic != topic or e.index not in indices]


def changed(topic, indices, **changes):
    return lambda events: [
        replace(e, **changes) if e.topic == topic and e.index in indices else e for e in events
    ]


# What comes out is what the runtime says.


def test_predictions_are_those_of_the_frames_one_by_one(run, runtime):
    judged = run(batch_size=3).judged
    seen = frames(8, 10)
    for index in range(8):
        image, ranges = seen.images[index, ..., :3].numpy(), seen.ranges[index].numpy()
        alone = runtime.predict(runtime.observe(image, ranges)).centers[0].numpy()
        np.testing.assert_allclose(judged.centers[index], alone, atol=1e-4)
    np.testing.assert_allclose(judged.truth, seen.centers.numpy(), atol=1e-5)
    assert judged.stamps_ns.tolist() == [at(index) for index in range(8)]


def test_batches_predict_as_single_frames_do(tmp_path, runtime):
    bag = record(tmp_path / 'bag', 20)
    runs = [
        run_bag(runtime, bag, BagSettings(), size, timed=0, workers=workers).judged
        for size, workers in ((1, 1), (16, 1), (3, 2))
    ]
    for batched in runs[1:]:
        assert batched.stamps_ns.tolist() == runs[0].stamps_ns.tolist()
        np.testing.assert_allclose(batched.centers, runs[0].centers, atol=1e-4)
        np.testing.assert_allclose(batched.covariance, runs[0].covariance, atol=1e-4)


def test_the_camera_is_the_one_that_camera_info_describes(tmp_path, runtime):
    bag = tmp_path / 'bag'
    seen, camera = frames(8, 10), Rig().camera.model_copy(update={'fx': 60.0})
    with BagWriter(bag) as writer:
        for index in range(4):
            writer.camera_info('/cam/camera_info', at(index), camera)
            writer.image('/cam/image', at(index), seen.images[index].numpy())
            writer.ranges('/range', at(index), seen.ranges[index].numpy())
    done = run_bag(runtime, bag, BagSettings(), 8)
    judged, frame = done.judged, (seen.images[3, ..., :3].numpy(), seen.ranges[3].numpy())
    right = runtime.predict(runtime.observe(*frame, camera)).centers[0].numpy()
    wrong = runtime.predict(runtime.observe(*frame)).centers[0].numpy()
    np.testing.assert_allclose(judged.centers[3], right, atol=1e-4)
    assert abs(right - wrong).max() > 1e-3
    apart = runtime.disagreement(*frame, camera)
    assert done.disagreements[3] == pytest.approx(apart, rel=1e-4)
    assert runtime.disagreement(*frame) != pytest.approx(apart, rel=1e-3)


# Pairs, losses, time.


def test_only_stamps_within_the_slop_pair(tmp_path, runtime):
    late = changed(IMAGE, {2}, stamp_ns=at(2) + 30_000_000)
    bag = record(tmp_path / 'bag', edit=late)
    for slop_s, pairs in ((0.02, 7), (0.04, 8)):
        settings = BagSettings(pairing=PairingSettings(slop_s=slop_s))
        assert len(run_bag(runtime, bag, settings, 8).judged) == pairs


def test_clocks_too_far_apart_for_any_pair_are_left_to_the_doctor(tmp_path, run):
    def late(events):
        return [
            event.stamped(event.stamp_ns + 50_000_000) if event.topic == IMAGE else event
            for event in events
        ]

    with pytest.raises(ValueError, match='8 of 8 camera messages no_partner') as fault:
        run(edit=late)
    assert str(fault.value).endswith(f'fusion doctor --bag {tmp_path / "bag"}')


def test_every_message_is_accounted_for(run):
    done = run(edit=without(IMAGE, {2, 3}))
    for counts in done.streams.values():
        assert counts['pending'] == 0
        assert counts['received'] == counts['used'] + sum(counts['dropped'].values())
    assert done.streams['lidar']['dropped']['no_partner'] == 2
    assert done.seconds == pytest.approx(0.7)
    assert done.timeline['counts']['lidar.received'] == [8]
    assert done.timeline['counts']['modes.fusion'] == [6]


def test_a_camera_that_ends_early_leaves_the_lidar_alone(run):
    done = run(edit=without(IMAGE, range(10, 40)), count=40)
    modes = np.bincount(done.judged.modes, minlength=3).tolist()
    assert modes[0] == 10 and modes[1] == 0 and modes[2] >= 20
    assert any(f'{IMAGE} ends 3.0 s before' in sentence for sentence in done.unread)


def test_a_lidar_that_begins_late_leaves_the_camera_alone_before_it(run):
    done = run(edit=without(RANGES, range(30)), count=40)
    modes = np.bincount(done.judged.modes, minlength=3).tolist()
    assert modes[0] >= 9 and modes[1] >= 20 and modes[2] == 0


@pytest.mark.parametrize('stamp_ns', [0, -SECOND])
def test_zero_and_negative_stamps_are_counted_and_said(run, stamp_ns):
    done = run(edit=changed(RANGES, {1, 2}, stamp_ns=stamp_ns))
    assert len(done.judged) == 6
    assert '2 lidar messages were dropped: their stamp is zero or negative.' in done.unread


def test_stamps_that_jump_back_begin_anew(run):
    def twice(events):
        later = 10 * SECOND
        return events + [replace(e, log_ns=e.log_ns + later) for e in events]

    done = run(edit=twice)
    assert done.clock_jumps >= 1
    assert len(done.judged) == 16
    assert done.judged.scored.all()
    np.testing.assert_array_equal(done.judged.centers[:8], done.judged.centers[8:])


def test_how_often_stamps_jumped_back_is_said(run):
    def thrice(events):
        return [replace(e, log_ns=e.log_ns + n * 10 * SECOND) for n in range(3) for e in events]

    done = run(edit=thrice)
    assert any('The stamps jumped back 2 times' in sentence for sentence in done.unread)


def test_the_progress_counts_each_message_up_to_all_that_are_read(tmp_path, runtime):
    told = []
    bag = record(tmp_path / 'bag', 3)
    run_bag(runtime, bag, BagSettings(), 8, lambda *numbers: told.append(numbers))
    # Images, scans and camera_info; the truth was read before.
    assert told == [(number, 9) for number in range(1, 10)]


# The truth.


def test_truth_counts_within_its_slop_only(run):
    # It is 5 ms.
    late_ms = {2: 4, 3: 6}

    def late(events):
        for index, by_ms in late_ms.items():
            events = changed(TRUTH, {index}, stamp_ns=at(index) + 1_000_000 * by_ms)(events)
        return events

    done = run(edit=late)
    assert done.judged.scored.tolist() == [index != 3 for index in range(8)]
    assert any('1 of 8 predictions have no ground truth' in s for s in done.unread)


def test_truth_beyond_ten_times_what_the_bundle_s_lidar_sees_does_not_count(tmp_path, runtime):
    seen, bag = frames(8, 10), tmp_path / 'bag'
    with BagWriter(bag) as writer:
        for index, away in enumerate((20.0, 501.0)):
            writer.image(IMAGE, at(index), seen.images[index].numpy())
            writer.ranges(RANGES, at(index), seen.ranges[index].numpy())
            writer.centers(TRUTH, at(index), np.full((3, 3), (0.0, away, 0.0)))
    assert run_bag(runtime, bag, BagSettings(), 8).judged.scored.tolist() == [True, False]


def test_of_two_truths_with_one_stamp_the_first_counts_and_it_is_said(run):
    def doubled(events):
        wrong = next(e for e in events if e.topic == TRUTH and e.index == 7)
        return [*events, replace(wrong, stamp_ns=at(2), log_ns=at(8))]

    done = run(edit=doubled)
    np.testing.assert_allclose(done.judged.truth[2], frames(8, 10).centers[2].numpy(), atol=1e-5)
    assert any('1 message repeats a stamp' in sentence for sentence in done.unread)


def test_a_truth_that_ends_early_is_said(run):
    done = run(edit=without(TRUTH, range(10, 30)), count=30)
    assert done.judged.scored.sum() == 10
    assert any('20 of 30 predictions have no ground truth' in s for s in done.unread)


def test_truth_in_another_frame_is_refused_unless_both_are_one(tmp_path, runtime):
    seen, bag = frames(8, 10), tmp_path / 'bag'
    with BagWriter(bag) as writer:
        for index in range(3):
            writer.image(IMAGE, at(index), seen.images[index].numpy())
            writer.ranges(RANGES, at(index), seen.ranges[index].numpy())
            writer.centers(TRUTH, at(index), seen.centers[index].double().numpy(), 'map')
    with pytest.raises(ValueError, match=r"frame 'map' .*'lidar'.*--same-frames"):
        run_bag(runtime, bag, BagSettings(), 8)
    said = [str(finding) for finding in examine_recording(bag, RecordingSettings())]
    assert any("is in the frame 'map', the scans are in 'lidar'" in each for each in said)
    assert run_bag(runtime, bag, BagSettings(same_frames=True), 8).judged.scored.all()


@pytest.mark.parametrize('names', [('torus', 'cube', 'sphere'), ('2', '0', '1'), ('', '', '')])
def test_detections_are_a_truth_by_their_names(tmp_path, runtime, names):
    seen, bag = frames(8, 10), tmp_path / 'bag'
    centers = seen.centers[0].double().numpy()
    order = [2, 0, 1] if names[0] else [0, 1, 2]
    with BagWriter(bag) as writer:
        writer.image(IMAGE, at(0), seen.images[0].numpy())
        writer.ranges(RANGES, at(0), seen.ranges[0].numpy())
        detections = detections_message(at(0), names, centers[order])
        writer.write('/truth', 'vision_msgs/msg/Detection3DArray', at(0), detections)
    judged = run_bag(runtime, bag, BagSettings(), 8).judged
    np.testing.assert_allclose(judged.truth[0], centers, atol=1e-5)


# Topics.


def test_topics_are_found_under_other_names(run):
    names = {IMAGE: '/front/image', CAMERA_INFO: '/front/info', RANGES: '/os', TRUTH: '/mocap'}
    topics = run(topics=names).topics
    assert (topics.image, topics.ranges, topics.truth) == ('/front/image', '/os', '/mocap')
    assert topics.camera_info == '/front/info'


def test_several_topics_that_could_be_meant_are_asked_for_by_name(tmp_path, runtime):
    seen, bag = frames(8, 10), tmp_path / 'bag'
    with BagWriter(bag) as writer:
        for side in ('left', 'right'):
            writer.image(f'/{side}/image', at(0), seen.images[0].numpy())
            writer.camera_info(f'/{side}/camera_info', at(0), Rig().camera)
        writer.ranges('/lidar/range_image', at(0), seen.ranges[0].numpy())
        writer.ranges('/lidar/signal_image', at(0), seen.ranges[0].numpy())
        writer.centers('/fusion_node/centers', at(0), seen.centers[0].double().numpy())
    with pytest.raises(ValueError, match=r'/left/image, /right/image. Name one with --image-top'):
        run_bag(runtime, bag, BagSettings(), 8)
    done = run_bag(runtime, bag, BagSettings(image_topic='right/image'), 8)
    assert done.topics.camera_info == '/right/camera_info'
    assert done.topics.ranges == '/lidar/range_image'
    assert done.topics.truth is None
    assert not done.judged.scored.any()


def test_what_a_fusion_node_said_is_no_input(tmp_path, runtime):
    seen, bag = frames(8, 10), tmp_path / 'bag'
    with BagWriter(bag) as writer:
        for index in range(3):
            writer.image('/fusion_node/image_annotated', at(index), seen.images[7].numpy())
            writer.image(IMAGE, at(index), seen.images[index].numpy())
            writer.ranges(RANGES, at(index), seen.ranges[index].numpy())
            writer.centers('/fusion_node/centers', at(index), seen.centers[index].double().numpy())
    done = run_bag(runtime, bag, BagSettings(), 8)
    assert (done.topics.image, done.topics.truth) == (IMAGE, None)
    named = run_bag(runtime, bag, BagSettings(truth_topic='/fusion_node/centers'), 8)
    assert named.judged.scored.all()


@pytest.mark.parametrize(
    ('settings', 'complaint'),
    [
        ({'image_topic': '/camera/image'}, "Did you mean '/camera/image_raw'"),
        ({'image_topic': RANGES}, 'no camera image; /camera/image_raw could be'),
        ({'truth_topic': IMAGE}, 'no ground truth; /ground_truth/centers could be'),
    ],
)
def test_a_named_topic_that_does_not_fit_is_refused(run, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        run(**settings)


def test_types_that_nobody_knows_are_passed_over(tmp_path, runtime):
    seen, bag = frames(8, 10), tmp_path / 'bag'
    with BagWriter(bag) as writer:
        odd = get_types_from_msg('int32 x', 'strange_msgs/msg/Odd')
        writer._types.register(odd)
        writer.write(
            '/odd', 'strange_msgs/msg/Odd', at(0), writer._make('strange_msgs/msg/Odd')(x=1)
        )
        writer.image(IMAGE, at(0), seen.images[0].numpy())
        writer.ranges(RANGES, at(0), seen.ranges[0].numpy())
    assert len(run_bag(runtime, bag, BagSettings(), 8).judged) == 1


def test_a_lidar_of_another_shape_gives_no_numbers(tmp_path, runtime):
    seen, bag = frames(8, 10), tmp_path / 'bag'
    with BagWriter(bag) as writer:
        writer.image(IMAGE, at(0), seen.images[0].numpy())
        writer.ranges(RANGES, at(0), np.ascontiguousarray(seen.ranges[0, :32].numpy()))
    with pytest.raises(ValueError, match=r'can be evaluated.*bad_shape.*\(32, 64\)'):
        run_bag(runtime, bag, BagSettings(), 8)


def test_the_worst_frames_come_worst_first_with_what_was_seen(run):
    done = run(count=12)
    errors = [frame.error_m for frame in done.worst]
    judged = done.judged
    away = np.linalg.norm(judged.centers - judged.truth, axis=-1).mean(axis=-1)
    assert len(errors) == 10
    np.testing.assert_allclose(errors, np.sort(away)[::-1][:10], rtol=1e-5)
    assert done.worst[0].image.shape == (64, 64, 3)


def test_a_point_cloud_does_for_a_range_image(tmp_path, runtime):
    seen, bag = frames(8, 10), tmp_path / 'bag'
    lidar = runtime.bundle.lidar
    ranges = seen.ranges[0]
    points = (ranges[..., None] * lidar.directions)[ranges < 49.9]
    with BagWriter(bag) as writer:
        writer.image(IMAGE, at(0), seen.images[0].numpy())
        writer.write(
            '/points',
            'sensor_msgs/msg/PointCloud2',
            at(0),
            cloud(at(0), to_rep103(points.numpy())),
        )
        writer.centers(TRUTH, at(0), seen.centers[0].double().numpy())
    done = run_bag(runtime, bag, BagSettings(), 8)
    assert done.topics.ranges == '/points'
    image = seen.images[0, ..., :3].numpy()
    right = runtime.predict(runtime.observe(image, ranges.numpy())).centers[0].numpy()
    np.testing.assert_allclose(done.judged.centers[0], right, atol=0.05)
