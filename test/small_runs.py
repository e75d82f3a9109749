"""Make what came of a recording, as far as figures over time need it."""

import numpy as np

from fusion_perception.learning.bag import BagRun
from fusion_perception.learning.bags.judging import Judged
from fusion_perception.learning.bags.timeline import Timeline
from fusion_perception.learning.bags.topics import Topics
from fusion_perception.sensing.ledger import CAUSES, STREAMS


def run(seconds, *counted, **received):
    """Return a recording in which so much was counted: (second, what), and what came by second."""
    timeline = Timeline()
    for second, what in counted:
        timeline.count(second, what)
    fates = dict.fromkeys(CAUSES, 0)
    counts = {s: {'received': 0, 'used': 0, 'pending': 0, 'dropped': fates} for s in STREAMS}
    timeline.counters(0.0, counts)
    for stream, number in received.items():
        counts[stream] = {
            'received': number,
            'used': 0,
            'pending': 0,
            'dropped': {
                **fates,
                **dict.fromkeys(('no_partner', 'stale', 'bad_shape'), number // 4),
            },
        }
    timeline.counters(0.5, counts)
    times_s = np.array([second for second, _ in counted])
    centers = np.ones((len(times_s), 1, 3))
    judged = Judged(times_s, times_s, times_s, times_s, centers, None, centers)
    topics = Topics('/image', None, '/range_image', None)
    told = timeline.as_json()
    return BagRun('bag', topics, seconds, judged, counts, 0, told, (), (), (), (), None)
