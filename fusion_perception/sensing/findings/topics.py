"""Say how a node gets to hear what comes on another topic, or as another type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fusion_perception.sensing.findings.facts import Source
from fusion_perception.sensing.ledger import Stream

IMAGE, COMPRESSED, CLOUD = (
    f'sensor_msgs/msg/{name}' for name in ('Image', 'CompressedImage', 'PointCloud2')
)
# What image_transport appends to the topic of the raw images, and the node to what `image` is.
SUFFIX = '/compressed'


class _Way(NamedTuple):
    """How a stream is read from a type: the name of the input, and the setting for it."""

    name: str
    setting: str


_WAYS: dict[Stream, dict[str, _Way]] = {
    'camera': {
        IMAGE: _Way('image', 'set image_type to raw'),
        COMPRESSED: _Way('image', 'set image_type to compressed'),
    },
    'lidar': {
        IMAGE: _Way('range_image', 'set lidar_type to range_image'),
        CLOUD: _Way('points', 'set lidar_type to points'),
    },
}


def remap(source: Source, name: str) -> str:
    """Return where else the type of a source comes and how it is read there, '' for nowhere."""
    topics = source.elsewhere.get(source.type, ())
    return _comes(source.type, topics, _by(name)) if topics else ''


def offers(stream: Stream, source: Source) -> list[str]:
    """Return the topics that may be meant where nobody publishes on that of a stream.

    With how each is read: of the type that the node listens for, and of the others that it could.
    """
    kinds = sorted(_WAYS[stream], key=lambda kind: kind != source.type)
    return [offer for kind in kinds for offer in _offers(stream, source, kind)]


def _offers(stream: Stream, source: Source, kind: str) -> Iterator[str]:
    way, is_own = _WAYS[stream][kind], kind == source.type
    if kind == IMAGE and stream == 'lidar' and not is_own:
        return  # Every camera would be meant.
    # What comes raw and compressed is offered once, as the type that the node listens for.
    same = set() if is_own else {_twin(topic) for topic in source.elsewhere.get(source.type, ())}
    topics = [topic for topic in source.elsewhere.get(kind, ()) if topic not in same]
    setting = '' if is_own else f'{way.setting}, '
    if kind != COMPRESSED:
        if topics:
            yield _comes(kind, topics, setting + _by(way.name))
        return
    if usual := [topic for topic in topics if topic.endswith(SUFFIX)]:
        yield _comes(kind, usual, f'{setting}{_by(way.name)}; TOPIC is without {SUFFIX}')
    # Those of a depth camera are packed in a way of their own.
    if others := [topic for topic in topics if not topic.endswith((SUFFIX, f'{SUFFIX}Depth'))]:
        heard = source.topic if is_own else source.topic + SUFFIX
        yield _comes(kind, others, f'{setting}remap with `-r {heard}:=TOPIC`')


def as_another(stream: Stream, source: Source, other: str) -> str:
    """Return how a node gets to read another type, which comes on the topic of a source."""
    remapped = f'remap the input to a topic of type {source.type}'
    way = _WAYS[stream].get(other)
    if way is None:
        return f'{remapped[0].upper()}{remapped[1:]}, or convert the messages.'
    rule = f'{way.name}:={source.topic}'
    if other == COMPRESSED:
        base = source.topic.removesuffix(SUFFIX)
        whole = f'{source.topic}{SUFFIX}:={source.topic}'
        rule = f'{way.name}:={base}' if base != source.topic else whole
    return f'{way.setting[0].upper()}{way.setting[1:]}, with `-r {rule}`; or {remapped}.'


def _twin(topic: str) -> str:
    """Return where image_transport sends the same images compressed, or raw."""
    base = topic.removesuffix(SUFFIX)
    return topic + SUFFIX if base == topic else base


def _comes(kind: str, topics: Sequence[str], how: str) -> str:
    return f'{kind} comes on {", ".join(topics)} ({how})'


def _by(name: str) -> str:
    return f'remap with `-r {name}:=TOPIC`; {name}:=TOPIC for the launch files'
