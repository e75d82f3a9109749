"""Walk through the images, scans and camera_info of a recording, in the order they came in."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.learning.bags.attendance import Attendance
from fusion_perception.learning.bags.topics import Topics
from fusion_perception.sensing.ledger import Stream
from fusion_perception.sensing.recording import Recording

SECOND = 1_000_000_000


class Walk:
    """The messages of a recording, each with its stream and when it came; iterate once.

    The stream is None for a camera_info, the message where it is damaged. `began_ns` is when the
    first one came, `now_s` how long after that the last one did.
    """

    def __init__(self, recording: Recording, topics: Topics) -> None:
        self.began_ns, self.now_s = 0, 0.0
        self._recording, self._topics = recording, topics
        self._attendance = Attendance()

    def __iter__(self) -> Iterator[tuple[Stream | None, object | None, int]]:
        streams = self._topics.streams
        for number, recorded in enumerate(self._recording.messages(self._topics.inputs)):
            if number == 0:
                self.began_ns = recorded.log_ns
            self.now_s = (recorded.log_ns - self.began_ns) / SECOND
            if recorded.topic in streams:  # A camera_info holds on.
                self._attendance.note(recorded.topic, self.now_s)
            message = self._recording.read(recorded)
            yield streams.get(recorded.topic), message, recorded.log_ns

    def notes(self) -> Iterator[str]:
        """Say afterwards where images or scans were silent."""
        return self._attendance.notes(self.now_s)
