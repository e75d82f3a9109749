"""The fusion node: camera and LiDAR topics in, object centres out. Wiring only."""

from __future__ import annotations

import math
import traceback
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.subscription import Subscription
from std_srvs.srv import SetBool

from fusion_perception.models.bundle import load_bundle
from fusion_perception.ros import messages
from fusion_perception.ros.diagnostics import OK, NodeState, diagnostics_message
from fusion_perception.ros.frames import Frames
from fusion_perception.ros.listening import CameraInfoInput, source_of, subscribe
from fusion_perception.ros.node_settings import LIVE, READ_ONLY, NodeSettings
from fusion_perception.ros.node_state import state_of
from fusion_perception.ros.observed import facts_of
from fusion_perception.ros.others import Others
from fusion_perception.ros.outputs import Outputs, Result
from fusion_perception.ros.parameters import Parameters
from fusion_perception.ros.pipeline import Pipeline
from fusion_perception.ros.process import Startable
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.findings.facts import Facts
from fusion_perception.sensing.ledger import STREAMS, Stream
from fusion_perception.sensing.observation import Mode

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
RCLError = rclpy_implementation.RCLError


class FusionNode(Startable, LifecycleNode):
    """Listens, lets the pipeline predict, publishes what it says.

    `options` are those of rclpy's LifecycleNode: namespace, parameter_overrides, context, ...
    """

    def __init__(self, node_name: str = 'fusion_node', **options: Any) -> None:
        super().__init__(node_name, **options)
        self._pipeline: Pipeline | None = None
        self._inputs: dict[Stream, Subscription] = {}
        self._outputs: Outputs | None = None
        self._frames: Frames | None = None
        self._camera_info: CameraInfoInput | None = None
        self._fault = ''
        self._active, self._enabled = False, True
        self._declared = Parameters(
            self,
            NodeSettings,
            live=LIVE,
            read_only=READ_ONLY,
            in_use=lambda: self._pipeline is not None,
            changed=self._on_changed,
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._others = Others(self, self._diagnostics.topic_name)
        # On the steady clock: it must speak, above all, when simulated time does not come.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._every_second = self.create_timer(1.0, self._on_second, clock=steady)
        self.create_service(SetBool, '~/enable', self._on_enable)
        other = JumpThreshold(min_forward=None, min_backward=None, on_clock_change=True)
        self._other_clock = self.get_clock().create_jump_callback(
            other, post_callback=self._on_other_clock
        )

    def start(self) -> None:
        """Configure and activate without being asked, unless `autostart` is off."""
        if self.get_parameter('autostart').value and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def finish(self) -> None:
        """Stop, say a last time what became of every message, and leave through the lifecycle."""
        self._stop_listening()
        # Once the context is shut down, as by rclpy's own handler of Ctrl-C, nobody hears it.
        with suppress(RCLError):
            if self._is_heard():
                self._every_second.cancel()  # For that is its last word.
                self._diagnose(ended=True)
                self._diagnostics.wait_for_all_acked(Duration(seconds=0.5))
                # It may have been shut down through the service before.
                self.trigger_shutdown()

    def destroy_node(self) -> None:
        """Release everything, whatever the state, and leave the graph."""
        self._deactivate()
        if self._pipeline is not None:
            self._release()
        self._other_clock.unregister()
        super().destroy_node()

    # The lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the bundle; FAILURE, with the reason, when anything is wrong."""
        try:
            settings = self._declared.read()
            torch.set_num_threads(settings.threads)
            bundle = load_bundle(settings.bundle)
            if settings.device != 'cpu' and torch.cuda.is_available():
                self.get_logger().info(
                    f'Preparing {bundle.path} for the GPU. The first time it is compiled, which '
                    'takes most of a minute.'
                )
            runtime = Runtime(bundle, settings.device, settings.precision, settings.engine)
            runtime.warm_up()
            self._frames = Frames.needed_by(self, settings.target_frame, settings.camera_pose)
            pipeline = Pipeline(
                runtime,
                settings,
                self._publish,
                complain=self._complain,
                now_ns=lambda: self.get_clock().now().nanoseconds,
                frames=self._frames,
            )
            self._outputs = Outputs(self, bundle.rig.classes, self._frames)
            self._pipeline = pipeline
        except (ValueError, OSError) as fault:
            self._release()
            self._fault = str(fault)
            self.get_logger().error(f'Cannot configure: {fault}')
            return FAILURE
        except Exception as fault:
            # rclpy would swallow it without a word.
            self._fault = f'{type(fault).__name__}: {fault}'
            self.get_logger().fatal(f'Cannot configure:\n{traceback.format_exc()}')
            return ERROR
        self._fault = ''
        self.keep_loaded()
        self.get_logger().info(
            f'{bundle.manifest.model} from {bundle.path} is ready on {runtime.device} '
            f'({runtime.engine}).'
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen and predict; ERROR, with the reason, where a topic cannot be listened to."""
        self._active = True
        try:
            if self._enabled:
                self._listen()
        except Exception as fault:
            # rclpy would swallow it without a word.
            self._fault = f'it cannot listen: {fault}'
            self.get_logger().fatal(f'Cannot activate:\n{traceback.format_exc()}')
            return ERROR
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; what was under way still comes out."""
        self._deactivate()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the bundle and its memory."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and release everything, whatever the state."""
        self._deactivate()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall back to the unconfigured state."""
        self._deactivate()
        self._release()
        return super().on_error(state)

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        # An impossible transition would end the node on Jazzy; Kilted answers that it failed.
        try:
            done = super()._LifecycleNodeMixin__change_state(transition_id)  # type: ignore[misc]
            return cast('TransitionCallbackReturn', done)
        except RCLError as fault:
            self.get_logger().error(f'No such transition from here: {fault}')
            return ERROR

    def _listen(self) -> None:
        assert self._pipeline is not None
        self._pipeline.open()
        self._camera_info = CameraInfoInput(self, 'camera_info', self._pipeline.calibrate)
        for stream in STREAMS:
            message, topic = self._source(stream, self._pipeline.settings)
            take = partial(self._pipeline.hear, stream)
            self._inputs[stream] = subscribe(self, message, topic, take)

    def _source(self, stream: Stream, settings: NodeSettings) -> tuple[Any, str]:
        """Return the type and the topic on which a stream comes, the latter before remapping."""
        message, topic, suffix = source_of(stream, settings)
        # What image_transport appends follows what `image` is remapped to; the whole may be
        # remapped as well.
        return message, self.resolve_topic_name(topic) + suffix if suffix else topic

    def _topics(self, settings: NodeSettings) -> dict[Stream, str]:
        """Return the full topic on which each stream comes."""
        return {s: self.resolve_topic_name(self._source(s, settings)[1]) for s in STREAMS}

    def _stop_listening(self) -> None:
        for subscription in self._inputs.values():
            self.destroy_subscription(subscription)
        self._inputs = {}
        if self._camera_info is not None:
            self._camera_info.close()
            self._camera_info = None
        if self._pipeline is not None:
            self._pipeline.close()
        if self._outputs is not None:
            self._outputs.clear()

    def _deactivate(self) -> None:
        self._stop_listening()
        self._active = False

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        if self._frames is not None:
            self._frames.close()
        self._outputs = self._pipeline = self._frames = None
        self.free_loaded()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # Requests.

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        try:
            if request.data and self._active and not self._inputs:
                self._listen()
        except RCLError as fault:
            self._stop_listening()
            response.success, response.message = False, f'It cannot listen: {fault}'
            return response
        if not request.data:
            self._stop_listening()
        self._enabled, response.success = request.data, True
        response.message = 'Predicting.' if self._inputs else 'Not predicting.'
        return response

    def _on_changed(self, settings: NodeSettings) -> None:
        if self._pipeline is not None:
            self._pipeline.change(settings)

    def _on_other_clock(self, jump: TimeJump) -> None:
        """Heed that `use_sim_time` was set while messages come."""
        if self._pipeline is not None:
            self._pipeline.change_clock()

    # Output; _publish runs on the thread that predicts.

    def _publish(self, result: Result) -> None:
        assert self._pipeline is not None
        assert self._outputs is not None
        if not self._is_heard():
            return
        period_s = self._pipeline.monitor.output_period_s()
        for fault in self._outputs.publish(result, self._pipeline.settings, period_s):
            self._pipeline.monitor.failed(fault)
            self._complain(fault)
        self._note_mode(result.prediction.mode[0])

    def _complain(self, why: str) -> None:
        self.get_logger().warning(why, throttle_duration_sec=5.0)

    def _is_heard(self) -> bool:
        # Not context.ok(): shutting down holds its lock, and waits for the thread that predicts.
        handle = self.context.handle
        return handle is not None and handle.ok()

    def _note_mode(self, mode: Mode | Literal['none']) -> None:
        if self._pipeline is not None and (words := self._pipeline.monitor.enter(mode)):
            self.get_logger().info(words)

    def _on_second(self) -> None:
        try:
            self._diagnose()
        except RuntimeError:  # As ROS raises it where the host has just shut the context down.
            if self._is_heard():
                raise

    def _diagnose(self, ended: bool = False) -> None:
        header = messages.header_message(self.get_clock().now().nanoseconds, '')
        name, thresholds = self.get_fully_qualified_name(), NodeSettings().diagnostics
        if self._pipeline is None:
            # rclpy tells its state by a service only, which a node does not ask of itself.
            lifecycle = self._state_machine.current_state[1]
            state = NodeState(lifecycle, fault=self._fault, enabled=self._enabled)
        else:
            pipeline, topics = self._pipeline, self._topics(self._pipeline.settings)
            publishers = {stream: self.count_publishers(topics[stream]) for stream in STREAMS}
            facts, active = self._facts(pipeline), self._active
            state = state_of(pipeline, facts, topics, publishers, active, self._enabled)
            # One may be on its way out, of which the monitor does not know yet.
            silent_s = math.inf if state.output_age_s is None else state.output_age_s
            if state.mode == 'none' and self._outputs and self._outputs.clear(silent_s):
                self._note_mode('none')
            thresholds = pipeline.settings.diagnostics
        if ended:
            state = replace(state, lifecycle='finalized', mode='none', ended=True)
        message = diagnostics_message(header, name, state, thresholds)
        self._diagnostics.publish(message)
        if message.status[0].level != OK and (self._inputs or self._fault):
            self.get_logger().warning(message.status[0].message, throttle_duration_sec=10.0)

    def _facts(self, pipeline: Pipeline) -> Facts | None:
        if self._camera_info is None:
            return None
        self._camera_info.look()
        listening = self._camera_info.subscription
        return facts_of(self, pipeline, self._inputs, listening, self._others)
