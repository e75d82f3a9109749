"""Find the topics of a recording: by their type and names, or as the user names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from fusion_perception.sensing.decode import RANGE_ENCODINGS
from fusion_perception.sensing.findings.finding import Finding
from fusion_perception.sensing.ledger import Stream
from fusion_perception.sensing.recordings.recording import Recording
from fusion_perception.sensing.settings import Settings, closest

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO, POINTS = 'sensor_msgs/msg/CameraInfo', 'sensor_msgs/msg/PointCloud2'
POSES, DETECTIONS = 'geometry_msgs/msg/PoseArray', 'vision_msgs/msg/Detection3DArray'

FLAGS = {
    'camera image': '--image-topic',
    'camera_info': '--camera-info-topic',
    'range image': '--range-topic',
    'ground truth': '--truth-topic',
}


class TopicSettings(Settings):
    """Which topics of a recording to take; what is left out is found by type and name."""

    image_topic: str | None = Field(None, description='Camera: Image or CompressedImage')
    camera_info_topic: str | None = Field(None, description='Intrinsics of the camera')
    range_topic: str | None = Field(
        None, description='LiDAR: Image of ranges (32FC1, 16UC1 or mono16), or PointCloud2'
    )
    truth_topic: str | None = Field(
        None, description='True centres: PoseArray in class order, or Detection3DArray'
    )


@dataclass(frozen=True)
class Topics:
    """The topics that were found; None for what a recording does not have.

    None stands as well for what it can do without where several topics could be meant;
    `undecided` then says, by what it is, which ones.
    """

    image: str | None
    camera_info: str | None
    ranges: str | None
    truth: str | None
    undecided: Mapping[str, Finding] = field(default_factory=dict)

    @property
    def streams(self) -> dict[str, Stream]:
        """Return which stream comes on which topic."""
        found: dict[str | None, Stream] = {self.image: 'camera', self.ranges: 'lidar'}
        return {topic: stream for topic, stream in found.items() if topic is not None}

    @property
    def inputs(self) -> list[str]:
        """Return the topics of both streams and camera_info."""
        return [*self.streams, *([] if self.camera_info is None else [self.camera_info])]


def choose_topics(
    recording: Recording, settings: TopicSettings, needs_truth: bool = True
) -> Topics:
    """Return the topics to take. Several that could be meant are refused where one is needed.

    Raises ValueError for that, when a named topic does not exist or is of another kind, or when
    there is neither a camera nor a LiDAR.
    """
    cameras, lidars = _images(recording)
    clouds = _of_type(recording, POINTS)
    image = _one(recording, settings.image_topic, cameras, _inputs(cameras), 'camera image')
    # As on the robot: of the two that a driver may publish, the range image is nearer the sensor.
    likely = [name for name in _inputs(lidars) if 'depth' not in name]
    # The depth of an RGB-D camera is not what a LiDAR measured, where there is one.
    likely = _preferred(likely, 'range') or _inputs(clouds) or _inputs(lidars)
    ranges = _one(recording, settings.range_topic, [*lidars, *clouds], likely, 'range image')
    if image is None and ranges is None:
        raise ValueError(
            f'{recording.path} holds neither camera images nor range images nor point clouds, '
            f'but {_listed(recording)}. Record a camera and a LiDAR.'
        )
    undecided: dict[str, Finding] = {}
    likely = infos = _of_type(recording, CAMERA_INFO)
    if image is not None and len(infos) > 1:
        # As image_transport has it: the camera_info lies beside the image.
        for parent in _parents(image):
            beside = [name for name in infos if name.rpartition('/')[0] == parent]
            akin = [name for name in beside if _words(name) == _words(image)]
            if beside:
                likely = akin if len(akin) == 1 else beside
                break
    info = _one(recording, settings.camera_info_topic, infos, likely, 'camera_info', undecided)
    truths = _of_type(recording, POSES, DETECTIONS)
    likely = _preferred(_inputs(truths), 'truth')
    doubts = None if needs_truth else undecided
    truth = _one(recording, settings.truth_topic, truths, likely, 'ground truth', doubts)
    return Topics(image, info, ranges, truth, undecided)


def _images(recording: Recording) -> tuple[list[str], list[str]]:
    """Return the topics of camera images and of range images."""
    cameras, lidars = [], []
    for name in _of_type(recording, IMAGE):
        first: object = recording.first(name)
        encoding = getattr(first, 'encoding', '')
        if encoding in RANGE_ENCODINGS:
            lidars.append(name)
        elif encoding:
            cameras.append(name)
    for name in _of_type(recording, COMPRESSED):
        # The same images are not taken twice, and depth is no picture.
        source = name.rpartition('/')[0]
        if source not in (*cameras, *lidars) and not name.endswith('compressedDepth'):
            cameras.append(name)
    return cameras, lidars


def _one(
    recording: Recording,
    named: str | None,
    possible: Sequence[str],
    likely: Sequence[str],
    what: str,
    undecided: dict[str, Finding] | None = None,
) -> str | None:
    """Return the named topic if it is a possible one, else the only likely one.

    Where several are likely, none is, and `undecided` hears which; without it that is refused.
    """
    flag = FLAGS[what]
    if named is not None:
        name = named if named.startswith('/') else f'/{named}'
        if name not in recording.topics:
            known = closest(name, list(recording.topics))
            raise ValueError(f"{recording.path} has no topic '{name}'. {known}")
        if name not in possible:
            could = ', '.join(possible) or 'no topic'
            raise ValueError(
                f'{flag} {name} of {recording.path} is {recording.topics[name].type} and no '
                f'{what}; {could} could be.'
            )
        return name
    if len(likely) <= 1:
        return likely[0] if likely else None
    listed, remedy = ', '.join(likely), f'Name one with {flag}.'
    if undecided is None:
        raise ValueError(
            f'{recording.path} has {len(likely)} topics that could be the {what}: {listed}. '
            f'{remedy}'
        )
    could = f'{len(likely)} topics could be the {what} ({listed})'
    undecided[what] = Finding('WARN', could, 'none of them is used', remedy)
    return None


def _inputs(names: Sequence[str]) -> list[str]:
    """Leave out what a fusion node itself said: a recording of everything holds that too."""
    return [name for name in names if 'fusion_node' not in name]


def _of_type(recording: Recording, *types: str) -> list[str]:
    return [t.name for t in recording.topics.values() if t.type in types and t.count]


def _preferred(names: list[str], word: str) -> list[str]:
    """Return the names with a word in them, if there are any."""
    return [name for name in names if word in name] or names


def _words(name: str) -> set[str]:
    """Return what a topic's own name says of which camera it is: image_left_raw, left."""
    words = name.rpartition('/')[2].split('_')
    return set(words) - {'image', 'camera', 'info', 'raw', 'rect', 'color', 'mono', 'compressed'}


def _parents(name: str) -> tuple[str, str]:
    """Return the namespace of an image topic and, for a compressed one, that of its source."""
    parent = name.rpartition('/')[0]
    return parent, parent.rpartition('/')[0]


def _listed(recording: Recording) -> str:
    return ', '.join(f'{t.name} ({t.type}, {t.count:,})' for t in recording.topics.values())
