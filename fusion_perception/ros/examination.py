"""Examine a running graph from outside: the fusion node, its inputs, who hears its outputs."""

from __future__ import annotations

import array
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from fusion_perception.ros.bridge import decoder_of
from fusion_perception.ros.clock_watch import STILL_S
from fusion_perception.ros.joining import join
from fusion_perception.ros.listening import source_of
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.ros.node_status import (
    as_the_node_hears,
    camera_facts,
    growth,
    scan_facts,
    values_of,
)
from fusion_perception.ros.observed import (
    TYPES,
    clash,
    has_profile,
    image_bytes,
    sources_of,
    stream_of,
    type_name,
)
from fusion_perception.ros.others import full_name, fusion_nodes, rivals
from fusion_perception.ros.pace import Pace
from fusion_perception.ros.parameters import leaves, nested
from fusion_perception.sensing.findings.facts import Facts, Source, heeded
from fusion_perception.sensing.findings.finding import Finding
from fusion_perception.sensing.findings.watch import Watch
from fusion_perception.sensing.ledger import STREAMS, Stream

# Asks for nothing, so that it hears every publisher; deep, to see each message.
HEARS_ALL = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
# The answer of a node that has not discovered us yet gets lost: it is asked again.
ANSWER_S, AGAIN_S = 4.5, 0.5
CAMERA_INFO = type_name(CameraInfo)


class Input(NamedTuple):
    """A topic that a node listens to, or would, and with which QoS."""

    stream: Stream
    topic: str
    type: str
    qos: QoSProfile


class Endpoint(NamedTuple):
    """A topic on which a node publishes or listens."""

    topic: str
    type: str
    qos: QoSProfile


@dataclass(frozen=True)
class Examined:
    """What was found of one node: facts of its inputs, and findings about itself and outputs.

    `status` is its last word on /diagnostics, None when it said none.
    """

    node: str
    facts: Facts
    watch: Watch
    findings: list[Finding]
    status: DiagnosticStatus | None

    @property
    def values(self) -> dict[str, str]:
        """Return the values of its status."""
        return values_of(self.status)


@contextmanager
def examiner() -> Iterator[Examiner]:
    """Join the graph of this environment's ROS_DOMAIN_ID, and leave it again."""
    context = Context()
    # Ctrl-C belongs to the command.
    join(context=context)
    node = Examiner(context)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


class Examiner(Node):
    """Asks and listens; each of its methods spins until it knows."""

    def __init__(self, context: Context) -> None:
        super().__init__(f'fusion_doctor_{os.getpid()}', context=context)
        self._spinner = SingleThreadedExecutor(context=context)
        self._spinner.add_node(self)
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._heard: dict[Stream, Pace] = {stream: Pace() for stream in STREAMS}
        self._infos = 0
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def fusion_nodes(self, patience_s: float, wanted: str | None) -> list[str]:
        """Return the full names of the fusion nodes, after waiting for any, or the wanted one."""

        def found() -> bool:
            return wanted in fusion_nodes(self) if wanted else bool(fusion_nodes(self))

        self._spin(patience_s, found)
        self._spin(0.5)  # Others may still be on their way.
        return fusion_nodes(self)

    def others(self) -> list[str]:
        """Return the full names of all other nodes."""
        names = {
            f'{space.rstrip("/")}/{name}' for name, space in self.get_node_names_and_namespaces()
        }
        return sorted(names - {self.get_fully_qualified_name()})

    def examine(self, name: str, seconds: float) -> Examined:
        """Ask a node for its state and settings, and listen to its inputs for so long."""
        state = self._ask(GetState, f'{name}/get_state', GetState.Request())
        settings, use_sim_time = self._settings(name)
        if use_sim_time:
            self.set_parameters([Parameter('use_sim_time', value=True)])
            # The first word of /clock, which may come once a second.
            self._spin(1.5, lambda: self.get_clock().now().nanoseconds != 0)
        for topic in {*self._published(name, DiagnosticArray)} - {'/diagnostics'}:  # Remapped.
            self.create_subscription(DiagnosticArray, topic, self._on_diagnostics, 10)
        self._spin(2.5, lambda: name in self._statuses)
        before = values_of(self._statuses.get(name))
        watch = _watch_of(settings, before)
        inputs = self._inputs(name, before, settings)
        self._listen(name, inputs, watch)
        began_ns = self.get_clock().now().nanoseconds
        self._spin(seconds)
        stands_still = self.get_clock().now().nanoseconds in (
            {0, began_ns} if seconds >= STILL_S else {0}
        )
        watch.finish()
        status = self._statuses.get(name)
        values = values_of(status)
        sources, info = self._sources(name, inputs, values.get('camera_info.topic', ''))
        now = time.monotonic()
        silent_s = {stream: pace.age_s(now) for stream, pace in self._heard.items()}
        period_s = {stream: pace.period_s() for stream, pace in self._heard.items()}
        camera = camera_facts(values, info)
        size = camera.told if camera is not None and camera.told is not None else (0, 0)
        camera_bytes = image_bytes(sources['camera'], *size)
        streams = watch.inputs(
            sources,
            silent_s,
            period_s,
            {'camera': camera_bytes},
            {'camera': self._infos},
            has_profile(),
        )
        lifecycle = '' if state is None else state.current_state.label
        output = next(iter(self._published(name, PoseArray)), '')
        facts = Facts(
            inputs=[
                as_the_node_hears(stream, before, values)
                for stream in streams
                if stream.stream in heeded(values.get('able', 'fusion').split())
            ],
            name=name,
            # Each node has one publisher of diagnostics.
            namesakes=max(0, len(self._published(name, DiagnosticArray)) - 1),
            output=output,
            rivals=rivals(self, output, name),
            lifecycle=lifecycle,
            fault=values.get('fault', ''),
            enabled=values.get('enabled', 'true') == 'true',
            simulated=use_sim_time,
            waits_for_clock=use_sim_time and stands_still,
            clock_publishers=self.count_publishers('/clock'),
            # Both are sent the same messages, but not the same ones get lost on the way.
            pairs=max(watch.pairs, growth('modes.fusion', before, values)),
            pairing=settings.pairing,
            max_age_s=settings.max_age_s,
            # Clouds become range images in the node alone.
            scan=watch.scan or scan_facts(values),
            disagreement=float(told) if (told := values.get('disagreement')) else None,
            disagreement_max=settings.disagreement_max,
            points_outside_max=settings.points_outside_max,
            camera=camera,
        )
        findings = [] if state is not None else [_no_answer(name)]
        return Examined(name, facts, watch, findings + self._unheard(name), status)

    def _settings(self, name: str) -> tuple[NodeSettings, bool]:
        """Return what a node was set to, the defaults where that is not valid, and its clock."""
        names = ['use_sim_time', *(leaf.name for leaf in leaves(NodeSettings))]
        request = GetParameters.Request(names=names)
        answer = self._ask(GetParameters, f'{name}/get_parameters', request)
        if answer is None or len(answer.values) != len(names):
            return NodeSettings(), False
        values = map(parameter_value_to_python, answer.values)
        told = {key: v for key, v in zip(names, values, strict=True) if v is not None}
        use_sim_time = bool(told.pop('use_sim_time', False))
        lists = {key: list(v) for key, v in told.items() if isinstance(v, array.array)}
        try:
            return NodeSettings.read(nested({**told, **lists}), name), use_sim_time
        except ValueError:
            return NodeSettings(), use_sim_time  # The node refuses them as well, and says why.

    def _inputs(self, name: str, values: Mapping[str, str], settings: NodeSettings) -> list[Input]:
        found: list[Input] = []
        for topic, kind, qos in self._topics(name, 'subscriptions'):
            stream = stream_of(topic, kind, values.get('lidar.topic'))
            # Namesakes listen to the same; what is heard twice would pass for sent twice.
            if stream is not None and (topic, kind) not in {(i.topic, i.type) for i in found}:
                found.append(Input(stream, topic, kind, qos))
        if not found:  # It does not listen now; these are what it will listen to.
            found = [
                Input(stream, will_be, type_name(source_of(stream, settings)[0]), HEARS_ALL)
                for stream in STREAMS
                if (will_be := values.get(f'{stream}.topic')) is not None
            ]
        return found

    def _sources(
        self, name: str, inputs: list[Input], info_topic: str
    ) -> tuple[dict[Stream, list[Source]], Source]:
        """Return who publishes on the inputs, by stream, and on camera_info."""
        listening = [(topic, kind, qos) for _, topic, kind, qos in inputs]
        *found, info = sources_of(self, [*listening, (info_topic, CAMERA_INFO, HEARS_ALL)], name)
        sources: dict[Stream, list[Source]] = {stream: [] for stream in STREAMS}
        for heard, source in zip(inputs, found, strict=True):
            sources[heard.stream].append(source)
        return sources, info

    def _topics(self, name: str, role: Literal['publishers', 'subscriptions']) -> list[Endpoint]:
        # Asked by node, the graph answers with a namesake that was killed and still lingers.
        ask = getattr(self, f'get_{role}_info_by_topic')
        return [
            Endpoint(topic, info.topic_type, info.qos_profile)
            for topic, _ in self.get_topic_names_and_types()
            for info in ask(topic)
            if full_name(info) == name
        ]

    def _published(self, name: str, message: type) -> list[str]:
        """Return where nodes of this name publish that message, a topic for each publisher."""
        kind = type_name(message)
        return [found.topic for found in self._topics(name, 'publishers') if found.type == kind]

    def _listen(self, name: str, inputs: list[Input], watch: Watch) -> None:
        for stream, topic, kind, _ in inputs:

            def on_message(message: Any, stream: Stream = stream) -> None:
                self._heard[stream].note(time.monotonic())
                watch.take(stream, message, self.get_clock().now().nanoseconds)

            self.create_subscription(TYPES[kind], topic, on_message, HEARS_ALL)
        # Where a publisher latches, the node has two subscriptions to one topic.
        infos = {t for t, kind, _ in self._topics(name, 'subscriptions') if kind == CAMERA_INFO}
        for topic in infos:
            self.create_subscription(CameraInfo, topic, self._on_camera_info, HEARS_ALL)

    def _unheard(self, name: str) -> list[Finding]:
        """Return who listens to the node's outputs with a QoS that does not match."""
        findings = []
        for topic, _, offered in self._topics(name, 'publishers'):
            for listener in self.get_subscriptions_info_by_topic(topic):
                why = clash(offered, listener.qos_profile)
                if why:
                    findings.append(
                        Finding(
                            'WARN',
                            f'{full_name(listener)} hears nothing on {topic}',
                            f'its QoS does not match ({why})',
                            'Let its subscription ask for no more than the node offers '
                            f'(`ros2 topic info -v {topic}`).',
                        )
                    )
        return findings

    def _ask(self, kind: Any, service: str, request: Any) -> Any:
        # Without waiting for the client to be ready: where the discovery lost one end of the
        # service it never is, and gets its answer all the same.
        client: Client = self.create_client(kind, service)
        answers: list[Any] = []
        end = time.monotonic() + ANSWER_S
        try:
            while not answers and (left := end - time.monotonic()) > 0:
                asked = client.call_async(request)
                asked.add_done_callback(lambda future: answers.append(future.result()))
                self._spin(min(left, AGAIN_S), lambda: bool(answers))
            return answers[0] if answers else None
        finally:
            self.destroy_client(client)

    def _spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        end = time.monotonic() + seconds
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._spinner.spin_once(timeout_sec=min(left, 0.1))
        return True

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._statuses.update({status.name: status for status in message.status})

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._infos += 1


def _watch_of(settings: NodeSettings, values: Mapping[str, str]) -> Watch:
    """Return what reads messages as a node of these settings and diagnostics does."""
    rows, _, columns = values.get('lidar_shape', '').partition('x')
    return Watch(
        settings.pairing,
        decoder_of(settings),
        (int(rows), int(columns)) if columns else None,
        float(values.get('max_range', 'inf')),
    )


def _no_answer(name: str) -> Finding:
    return Finding(
        'ERROR',
        f'{name} does not answer',
        f'its service get_state was silent for {ANSWER_S:.1f} s',
        'It hangs or was killed: look at its log and start it again.',
    )
