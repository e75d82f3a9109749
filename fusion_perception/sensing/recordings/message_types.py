"""Deserialise recorded messages by the definitions in the recording, or else by known ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from fusion_perception.sensing.quoting import reason

Note = Callable[[str], object]

# vision_msgs 4, which rosbags does not know and recordings before Iron do not bring along.
_DETECTIONS = """std_msgs/Header header
vision_msgs/Detection3D[] detections
================================================================================
MSG: vision_msgs/Detection3D
std_msgs/Header header
vision_msgs/ObjectHypothesisWithPose[] results
vision_msgs/BoundingBox3D bbox
string id
================================================================================
MSG: vision_msgs/ObjectHypothesisWithPose
vision_msgs/ObjectHypothesis hypothesis
geometry_msgs/PoseWithCovariance pose
================================================================================
MSG: vision_msgs/ObjectHypothesis
string class_id
float64 score
================================================================================
MSG: vision_msgs/BoundingBox3D
geometry_msgs/Pose center
geometry_msgs/Vector3 size
"""
_IDL_PARTS = '=' * 80 + '\n'


def known_types(distribution: str | None = None) -> Typestore:
    """Return the message types of a ROS 2 distribution ('jazzy'), the latest for another name."""
    stores = {store.value: store for store in Stores}
    store = get_typestore(stores.get(f'ros2_{distribution}', Stores.LATEST))
    store.register(get_types_from_msg(_DETECTIONS, 'vision_msgs/msg/Detection3DArray'))
    return store


class MessageTypes:
    """Deserialises messages; a type whose definition is broken harms no other type.

    What of a recorded definition is not believed goes to `note`.
    """

    def __init__(
        self, distribution: str | None = None, note: Note = lambda sentence: None
    ) -> None:
        self._known = known_types(distribution)
        self._note = note
        self._stores: dict[str, Typestore] = {}

    def learn(self, name: str, definition: MessageDefinition) -> None:
        """Take the definition of a type from a recording, if it can be understood.

        What is known of a type is what its readers ask for: a definition without one of these
        fields, or with another kind of it, is damaged or of another version.
        """
        if name in self._stores or definition.format == MessageDefinitionFormat.NONE:
            return
        store = get_typestore(Stores.EMPTY)
        try:
            if definition.format == MessageDefinitionFormat.MSG:
                store.register(get_types_from_msg(definition.data, name))
            else:
                for part in definition.data.split(_IDL_PARTS):
                    text = part.split('\n', 1)[1] if part.startswith('IDL: ') else part
                    if text.strip():
                        store.register(get_types_from_idl(text))
        except Exception:  # rosbags raises many kinds for what it cannot parse.
            return
        if name not in store.fielddefs:
            return
        if _has_fields_of(store, self._known, name):
            self._stores[name] = store
        else:
            self._note(
                f'The definition of {name} in it lacks fields that are known of this type: it '
                'was read by the known one.'
            )

    def deserialize(self, data: bytes, name: str) -> object:
        """Return the message; raise ValueError for one that is none of its type."""
        store = self._stores.get(name, self._known)
        if name not in store.fielddefs:
            raise ValueError(f'the type {name} is unknown and the recording does not define it')
        try:
            message: object = store.deserialize_cdr(data, name)
        except Exception as fault:  # Of damaged data it raises many kinds.
            raise ValueError(f'{len(data)} bytes are no {name} ({reason(fault)})') from None
        return message


def _has_fields_of(store: Typestore, known: Typestore, name: str) -> bool:
    """Return whether a type has all that is known of it, down to the types of its fields."""
    if name not in known.fielddefs:
        return True
    if name not in store.fielddefs:
        return False
    fields = dict(store.fielddefs[name][1])
    return all(
        fields.get(field) == kind
        and all(_has_fields_of(store, known, inner) for inner in _messages_in(kind))
        for field, kind in known.fielddefs[name][1]
    )


def _messages_in(kind: tuple[Nodetype, object]) -> Iterator[str]:
    """Yield the type of a field that is a message, or holds several."""
    node, detail = kind
    if node == Nodetype.NAME:
        yield cast('str', detail)
    elif node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        inner, _ = cast('tuple[tuple[Nodetype, object], int]', detail)
        yield from _messages_in(inner)
