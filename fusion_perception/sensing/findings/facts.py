"""What can be observed of a node and its inputs, for findings to be drawn from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusion_perception.sensing.beams import Placement
from fusion_perception.sensing.camera_info import Calibration
from fusion_perception.sensing.cloud import POINTS_OUTSIDE_MAX
from fusion_perception.sensing.findings.agreement import DISAGREEMENT_MAX
from fusion_perception.sensing.ledger import STREAMS, Stream
from fusion_perception.sensing.lens import Distortion
from fusion_perception.sensing.offsets import Arrival
from fusion_perception.sensing.pairing import PairingSettings, has_stopped

SILENT_S = 1.0
# A node that was killed, as before a respawn, stays in the graph until its lease is over: 20 s
# with Fast DDS.
GHOST_S = 25.0
# No delay explains a stamp that lies further from the clock than this, and none is measured after
# its arrival, except by the steps in which a simulated clock advances.
FAR_FROM_CLOCK_S, AHEAD_OF_CLOCK_S = 5.0, 0.1
# One that takes over from another, as of a pair of which one stands by, does so more seldom.
_MANY_TURNS = 6


def heeded(modes: Collection[str]) -> tuple[Stream, ...]:
    """Return the streams that a model needs which serves these modes."""
    alone: dict[Stream, str] = {'camera': 'camera_only', 'lidar': 'lidar_only'}
    return tuple(s for s in STREAMS if {'fusion', alone[s]} & set(modes))


def is_silent(age_s: float, period_s: float) -> bool:
    """Say whether a stream is silent whose last message is so old, and which comes so often."""
    return has_stopped(age_s, period_s, SILENT_S)


@dataclass(frozen=True)
class Publisher:
    """Who publishes on a topic: node, message type, and which QoS policy keeps it unheard.

    `clash` is that policy in words, '' where the QoS fits; `type` is as 'sensor_msgs/msg/Image'.
    """

    node: str
    type: str
    clash: str = ''


@dataclass(frozen=True)
class Source:
    """A topic on which a stream may come, the type it is read as, and who publishes there.

    `elsewhere` are the topics that may be meant, by type, where nobody publishes on this one.
    """

    topic: str
    type: str
    publishers: Sequence[Publisher] = ()
    elsewhere: Mapping[str, Sequence[str]] = field(default_factory=dict)


def several(sources: Iterable[Source]) -> str:
    """Say which nodes publish on these topics, '' unless there are several of them."""
    nodes = sorted({p.node for s in sources for p in s.publishers if p.type == s.type})
    return f'{" and ".join(nodes)} publish there' if len(nodes) > 1 else ''


@dataclass(frozen=True)
class InputFacts:
    """One stream as it was lately: what became of its messages, and when the last ones came.

    `sources` are alternatives. `fault` is why the last refused message was refused, `lost_fault`
    why the last pair was lost after it was let go, `silent_s` the time since the last message,
    `message_bytes` what one takes (0: unknown), `announced` how many there were by what came
    beside them (camera_info; 0: unknown). `period_s` is the usual time between two of the last
    messages, by the clock of `silent_s`, `frame_id` that of the last one, `turns`
    counts those of the last ones that are known to follow one of another publisher. `has_profile`
    says whether Fast DDS has a profile on this side.
    """

    stream: Stream
    sources: Sequence[Source]
    received: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    fault: str = ''
    lost_fault: str = ''
    silent_s: float | None = None
    period_s: float = 0.0
    arrivals: Sequence[Arrival] = ()
    message_bytes: int = 0
    announced: int = 0
    frame_id: str = ''
    turns: int = 0
    has_profile: bool = False

    @property
    def topics(self) -> str:
        """Return the topics in words."""
        return ' and '.join(source.topic for source in self.sources)

    @property
    def fitting(self) -> list[Publisher]:
        """Return who publishes there what can be heard."""
        return [p for s in self.sources for p in s.publishers if p.type == s.type and not p.clash]

    @property
    def by_turns(self) -> str:
        """Say which nodes send there by turns, '' unless several do, and not just one alone."""
        return several(self.sources) if self.turns >= _MANY_TURNS else ''

    @property
    def silent(self) -> bool:
        """Say whether nothing came of it lately, or ever."""
        return self.silent_s is None or is_silent(self.silent_s, self.period_s)

    @property
    def usable(self) -> list[Arrival]:
        """Return what came with a stamp of its own: nothing of a sensor that froze."""
        first = {arrival.stamp_ns: arrival for arrival in reversed(self.arrivals)}
        fresh = [arrival for arrival in self.arrivals if first[arrival.stamp_ns] is arrival]
        stamped = [arrival for arrival in fresh if arrival.stamp_ns > 0]
        return [] if len(stamped) == 1 < len(self.arrivals) else stamped


@dataclass(frozen=True)
class CameraFacts:
    """What is taken for the camera's geometry; sizes are (W, H) pixels, None where unknown.

    `info` is where camera_info comes from, `images` the size of the last image, `told` the one
    that camera_info tells of, `trained` the bundle's, `fault` why camera_info cannot be used,
    `distortion` how its lens differs from that of the bundle's, `returns` how often lately it
    told anew of a camera that it had left, and `blank` whether its last image shows nothing.
    """

    info: Source
    trained: tuple[int, int]
    images: tuple[int, int] | None = None
    told: tuple[int, int] | None = None
    fault: str = ''
    distortion: Distortion | None = None
    returns: int = 0
    blank: bool | None = None

    @classmethod
    def of(
        cls,
        info: Source,
        trained: tuple[int, int],
        images: tuple[int, int] | None,
        calibration: Calibration,
        now_ns: int,
    ) -> CameraFacts:
        """Return the facts of a camera whose camera_info was taken in until now."""
        told = calibration.camera
        size = None if told is None else (told.width, told.height)
        fault, returns = calibration.fault, calibration.returns(now_ns)
        return cls(info, trained, images, size, fault, calibration.distortion, returns)


@dataclass(frozen=True)
class ScanFacts:
    """What the last scan held, or many of them together.

    `returns` is the share of rays that met something closer than the maximum range. Of a cloud
    `points` counts what was measured (None: it was a range image), `outside` what of that lies
    beside every beam, and `hidden` what lies behind a closer point of the same beam.
    """

    returns: float
    points: int | None = None
    outside: int = 0
    hidden: int = 0

    @classmethod
    def of(
        cls, ranges: NDArray[np.float32], max_range: float, placement: Placement | None = None
    ) -> ScanFacts:
        """Return the facts of ranges (R, C) in metres, and of the cloud that they came of."""
        returns = float(((ranges > 0) & (ranges < max_range)).mean())
        if placement is None:
            return cls(returns)
        return cls(returns, placement.points, placement.outside, placement.hidden)


@dataclass(frozen=True)
class Facts:
    """What is known about a node and its inputs.

    `lifecycle` is '' where there is no node (a recording); `pairs` counts those of both sensors
    lately. `waits_for_clock` says that its time does not go on, `clock_falters` that it may have
    stopped just now, `simulated` that it is that of /clock. `scan` is None before the first;
    `points_outside_max` is the share of a cloud's points that may lie beside every beam;
    `disagreement` is how far camera and LiDAR put the objects apart (`FusionModel.disagreement`),
    None where that was not compared, and `disagreement_max` how far they may. `namesakes` counts
    other nodes of the same full `name`; `rivals`, of other names, publish on the topic of the
    centres, `output`.
    """

    inputs: Sequence[InputFacts]
    name: str = ''
    namesakes: int = 0
    output: str = ''
    rivals: Sequence[str] = ()
    lifecycle: str = ''
    fault: str = ''
    enabled: bool = True
    simulated: bool = False
    waits_for_clock: bool = False
    clock_falters: bool = False
    clock_publishers: int = 0
    pairs: int = 0
    pairing: PairingSettings = field(default_factory=PairingSettings)
    max_age_s: float = 0.0
    scan: ScanFacts | None = None
    points_outside_max: float = POINTS_OUTSIDE_MAX
    camera: CameraFacts | None = None
    disagreement: float | None = None
    disagreement_max: float = DISAGREEMENT_MAX

    @property
    def time_is_in_doubt(self) -> bool:
        """Say whether a time that does not go on may be all that is wrong with the inputs."""
        return self.waits_for_clock or self.clock_falters

    @property
    def ahead_s(self) -> float:
        """Return how far ahead of the clock only another clock puts a stamp, seconds."""
        return FAR_FROM_CLOCK_S if self.simulated else AHEAD_OF_CLOCK_S

    @property
    def pairs_are_few(self) -> bool:
        """Say whether less than half of the messages of the rarer sensor found a partner."""
        received = [stream.received for stream in self.inputs]
        return len(received) == len(STREAMS) and 2 * self.pairs < min(received)
