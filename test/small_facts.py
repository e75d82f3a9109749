"""Describe a node and its inputs as they would be observed, fine but for what is said."""

from fusion_perception.sensing.findings.diagnosis import diagnose
from fusion_perception.sensing.findings.facts import (
    Facts,
    InputFacts,
    Publisher,
    ScanFacts,
    Source,
)
from fusion_perception.sensing.offsets import Arrival

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
TOPICS = {'camera': '/image', 'lidar': '/range_image'}
SECOND = 1_000_000_000
DRIVER = Publisher('/driver', IMAGE)


def arrivals(period_s=0.1, begin_s=100.0, delay_s=0.004, shift_s=0.0, count=20, jitter_s=()):
    """Measure every period; stamps are `shift_s` before the time of measurement."""
    jitter = [*jitter_s, *[0.0] * count]
    times = [begin_s + period_s * i for i in range(count)]
    return [
        Arrival(round((t - shift_s + jitter[i]) * SECOND), round((t + delay_s) * SECOND))
        for i, t in enumerate(times)
    ]


def stream(name, publishers=(DRIVER,), **facts):
    """Describe a stream that is fine but for what is said."""
    facts = {'received': 20, 'silent_s': 0.01, 'arrivals': arrivals(), **facts}
    return InputFacts(name, [Source(TOPICS[name], IMAGE, publishers)], **facts)


def nothing(name, *publishers, **facts):
    return stream(name, publishers, received=0, silent_s=None, arrivals=(), **facts)


def only(facts):
    findings = diagnose(facts)
    assert len(findings) == 1, [str(finding) for finding in findings]
    assert findings[0].remedy
    return findings[0]


def node(camera=None, lidar=None, **facts):
    inputs = [camera or stream('camera'), lidar or stream('lidar')]
    return Facts(inputs, **{'lifecycle': 'active', 'pairs': 20, 'scan': ScanFacts(0.4), **facts})
