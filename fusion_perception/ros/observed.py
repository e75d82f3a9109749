"""Observe what findings need of a running node: its inputs' topics, publishers, QoS and clock."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from fusion_perception.ros.others import Others, full_name, fusion_nodes, rivals
from fusion_perception.ros.pipeline import Pipeline
from fusion_perception.sensing.blank_images import is_blank
from fusion_perception.sensing.findings.facts import (
    CameraFacts,
    Facts,
    InputFacts,
    Publisher,
    Source,
    heeded,
)
from fusion_perception.sensing.ledger import Stream

# As rclpy words what does not match, by the policy's name in `ros2 topic info -v`. The first that
# fits counts: a lease is worded as one of liveliness.
POLICIES = {
    'reliable': 'RELIABILITY',
    'local': 'DURABILITY',
    'deadline': 'DEADLINE',
    'lease': 'LIVELINESS LEASE DURATION',
    'liveliness': 'LIVELINESS',
}


def type_name(message_type: Any) -> str:
    """Return the name of a message class as the graph has it: 'sensor_msgs/msg/Image'."""
    return f'{message_type.__module__.split(".")[0]}/msg/{message_type.__name__}'


# What a stream may come as.
TYPES: dict[str, Any] = {type_name(kind): kind for kind in (Image, CompressedImage, PointCloud2)}


# That of Kilted, and that of Jazzy.
PROFILES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')


def has_profile() -> bool:
    """Say whether Fast DDS was given a profile in this process."""
    return any(os.environ.get(name) for name in PROFILES)


def clash(offered: QoSProfile, asked: QoSProfile) -> str:
    """Return which QoS policies keep a subscription from hearing a publisher; '' for none."""
    verdict, reason = qos_check_compatible(offered, asked)
    if verdict != QoSCompatibility.ERROR:
        return ''
    faults = [part for part in reason.split(';') if part.startswith('ERROR: ')]
    return ', '.join(_policy(fault.removeprefix('ERROR: ')) for fault in faults)


def publishers(node: Node, topic: str, asked: QoSProfile) -> list[Publisher]:
    """Return who publishes on a topic, and whether a subscription with that QoS hears them."""
    return [
        Publisher(
            full_name(info),
            info.topic_type,
            clash(info.qos_profile, asked),
        )
        for info in node.get_publishers_info_by_topic(topic)
    ]


def sources_of(
    node: Node, listening: Iterable[tuple[str, str, QoSProfile]], name: str
) -> list[Source]:
    """Return the inputs of the node of that full name, by topic, type and QoS, as sources.

    Where nobody publishes on one, what others publish of its type may be meant, or of another
    that the stream could be read from. A topic that is not known ('') has no publishers: the graph
    would refuse to look for it.
    """
    inputs = [
        (topic, kind, publishers(node, topic, qos) if topic else [])
        for topic, kind, qos in listening
    ]
    taken = {topic for topic, _, _ in inputs}
    wanted = {each for _, kind, there in inputs if not there for each in _readable(kind)}
    found = _elsewhere(node, wanted, taken, name) if wanted else {}
    return [
        Source(
            topic, kind, there, {} if there else {each: found[each] for each in _readable(kind)}
        )
        for topic, kind, there in inputs
    ]


def _readable(kind: str) -> Collection[str]:
    """Return the types that may be meant by one, which is among them."""
    return TYPES if kind in TYPES else (kind,)


def _elsewhere(
    node: Node, wanted: Collection[str], taken: Collection[str], name: str
) -> dict[str, Sequence[str]]:
    """Return the topics that others publish on, but for those taken, by each wanted type."""
    found: dict[str, set[str]] = {each: set() for each in wanted}
    # What these publish is no sensor's.
    passed_over = {name, *fusion_nodes(node)}
    for other, namespace in node.get_node_names_and_namespaces():
        if f'{namespace.rstrip("/")}/{other}' in passed_over:
            continue
        with suppress(NodeNameNonExistentError):  # It has left meanwhile.
            # Asked by topic, the graph would remap the names once more.
            published = node.get_publisher_names_and_types_by_node(other, namespace)
            for each, topics in found.items():
                topics.update(topic for topic, kinds in published if each in kinds)
    return {each: sorted(topics - set(taken)) for each, topics in found.items()}


def stream_of(topic: str, kind: str, range_topic: str | None) -> Stream | None:
    """Return which stream comes on a topic of that type, None for another kind of message."""
    if kind not in TYPES:
        return None
    return 'lidar' if topic == range_topic or kind == type_name(PointCloud2) else 'camera'


def image_bytes(sources: Iterable[Source], width: int, height: int) -> int:
    """Return what one camera message takes; 0, unknown, where it may be compressed."""
    raw = all(source.type == type_name(Image) for source in sources)
    return 3 * width * height if raw else 0


def is_simulated(node: Node) -> bool:
    """Say whether a node's time is that of /clock."""
    return bool(node.get_parameter('use_sim_time').value)


def facts_of(
    node: Node,
    pipeline: Pipeline,
    subscriptions: Mapping[Stream, Subscription],
    camera_info: Subscription,
    others: Others,
) -> Facts:
    """Return the facts of an active node, as of the last seconds. Call it once per second."""
    now_ns, name = node.get_clock().now().nanoseconds, node.get_fully_qualified_name()
    output = node.resolve_topic_name('~/centers')
    listening = [
        (heard.topic_name, type_name(heard.msg_type), heard.qos_profile)
        for heard in (*subscriptions.values(), camera_info)
    ]
    *streams, info = sources_of(node, listening, name)
    sources = dict(zip(subscriptions, streams, strict=True))
    simulated = is_simulated(node)
    pipeline.clock.look(now_ns)
    heeds = heeded(pipeline.runtime.bundle.model.modes)
    return Facts(
        inputs=[found for found in _inputs(pipeline, sources) if found.stream in heeds],
        name=name,
        namesakes=others.namesakes(),
        output=output,
        rivals=rivals(node, output, name),
        lifecycle='active',
        simulated=simulated,
        waits_for_clock=simulated and pipeline.clock.stands_still,
        clock_falters=simulated and pipeline.clock.falters,
        clock_publishers=node.count_publishers('/clock'),
        pairs=pipeline.monitor.lately_fused(),
        pairing=pipeline.settings.pairing,
        max_age_s=pipeline.settings.max_age_s,
        scan=pipeline.scan(),
        disagreement=pipeline.monitor.disagreement(),
        disagreement_max=pipeline.settings.disagreement_max,
        points_outside_max=pipeline.settings.points_outside_max,
        camera=_camera(pipeline, info, now_ns) if 'camera' in heeds else None,
    )


def _camera(pipeline: Pipeline, info: Source, now_ns: int) -> CameraFacts:
    trained = pipeline.runtime.bundle.rig.camera
    size, image = (trained.width, trained.height), pipeline.image
    images = None if image is None else image.shape[1::-1]
    facts = CameraFacts.of(info, size, images, pipeline.calibration, now_ns)
    return replace(facts, blank=None if image is None else is_blank(image))


def _inputs(pipeline: Pipeline, sources: Mapping[Stream, Source]) -> Sequence[InputFacts]:
    monitor = pipeline.monitor
    lately = monitor.lately(pipeline.intake.ledger.counters())
    rows, columns = pipeline.runtime.bundle.lidar.shape
    camera = pipeline.calibration.camera
    size = {
        'camera': 0
        if camera is None
        else image_bytes([sources['camera']], camera.width, camera.height),
        'lidar': 4 * rows * columns,
    }
    return [
        InputFacts(
            stream=stream,
            sources=[sources[stream]],
            received=lately[stream]['received'],
            dropped=lately[stream]['dropped'],
            fault=monitor.faults.get(stream, ''),
            lost_fault=monitor.lost_by.get(stream, ''),
            silent_s=monitor.age_s(stream),
            period_s=monitor.period_s(stream),
            arrivals=monitor.arrivals(stream),
            message_bytes=monitor.message_bytes(stream) or size[stream],
            frame_id=pipeline.frame_ids[stream],
            turns=pipeline.senders[stream].turns,
            has_profile=has_profile(),
        )
        for stream in sources
    ]


def _policy(fault: str) -> str:
    words = fault.lower()
    name = next((policy for word, policy in POLICIES.items() if word in words), 'QoS')
    return f'{name}: {words}'
