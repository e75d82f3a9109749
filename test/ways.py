"""A pipeline that is fed by hand."""

import numpy as np
from ros_graph import RANGES, wait_until

from fusion_perception.ros.messages import as_data, header_message, image_message, range_message
from fusion_perception.ros.node_settings import NodeSettings
from fusion_perception.ros.pipeline import Pipeline

MS = 1_000_000
BEGIN = 1_700_000_000_000 * MS
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


class Way:
    """A pipeline whose clock is set by hand, what it published and what it complained of."""

    def __init__(self, runtime, publish=None, frames=None, **values):
        self.results, self.complaints, self.now_ns = [], [], BEGIN
        self.pipeline = Pipeline(
            runtime,
            NodeSettings(**values),
            publish or self.results.append,
            self.complaints.append,
            lambda: self.now_ns,
            frames,
        )

    def image(self, ms=0, pixels=PIXELS, frame_id='camera'):
        header = header_message(BEGIN + ms * MS, frame_id)
        self.pipeline.take('camera', image_message(header, pixels))

    def scan(self, ms=0, frame_id='velodyne', count=None):
        message = range_message(header_message(BEGIN + ms * MS, frame_id), RANGES)
        if count is not None:
            counts = np.full(RANGES.shape, count, np.uint16)
            message.encoding, message.step, message.data = '16UC1', 128, as_data(counts)
        self.pipeline.take('lidar', message)

    def pair(self, ms=0, **scan):
        self.image(ms)
        self.scan(ms, **scan)

    def result(self, number=1):
        """Return the last of so many results."""
        wait_until(lambda: len(self.results) >= number, 'a result')
        return self.results[number - 1]

    def published(self, number=1):
        """Wait until so many results have been noted, and return the monitor."""
        monitor = self.pipeline.monitor
        wait_until(lambda: sum(monitor.output()[2].values()) >= number, 'an output')
        return monitor

    def counts(self, stream):
        """Return what became of a stream's messages, once it adds up."""
        counts = self.pipeline.intake.ledger.counters()[stream]
        fates = {name: n for name, n in counts['dropped'].items() if n}
        fates |= {name: counts[name] for name in ('used', 'pending') if counts[name]}
        assert counts['received'] == sum(fates.values())
        return fates

    def become(self, fates):
        """Wait until this became of the messages of both streams."""
        wait_until(
            lambda: self.counts('camera') == self.counts('lidar') == fates,
            f'{fates}, but for {self.counts("camera")} and {self.counts("lidar")}',
        )
