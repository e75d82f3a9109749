"""Walk through the images, scans and camera_info of a recording, in the order they came in."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.learning.bags.attendance import SECOND, Attendance
from fusion_perception.learning.bags.topics import Topics
from fusion_perception.sensing.ledger import Stream
from fusion_perception.sensing.recordings.recording import Recording


class Walk:
    """The messages of a recording, each with its stream and when it came; iterate once.

    The stream is None for a camera_info, the message where it is damaged. `began_ns` is the
    earliest time so far, and `now_s` how long after that the latest is: times may go back.
    """

    def __init__(self, recording: Recording, topics: Topics) -> None:
        self.began_ns, self.now_s = 0, 0.0
        self._latest_ns = 0
        self._recording, self._topics = recording, topics
        self._attendance = Attendance()

    def __iter__(self) -> Iterator[tuple[Stream | None, object | None, int]]:
        streams = self._topics.streams
        for number, recorded in enumerate(self._recording.messages(self._topics.inputs)):
            log_ns = recorded.log_ns
            if number == 0:
                self.began_ns = self._latest_ns = log_ns
            self.began_ns = min(self.began_ns, log_ns)
            self._latest_ns = max(self._latest_ns, log_ns)
            self.now_s = (self._latest_ns - self.began_ns) / SECOND
            if recorded.topic in streams:  # A camera_info holds on.
                self._attendance.note(recorded.topic, log_ns)
            yield streams.get(recorded.topic), self._recording.read(recorded), log_ns

    def notes(self) -> Iterator[str]:
        """Say afterwards where images or scans were silent."""
        return self._attendance.notes(self.began_ns, self._latest_ns)
