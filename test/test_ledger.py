"""Whichever thread counts a message, whoever looks meanwhile sees a sum that holds."""

import sys
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from fusion_perception.sensing.ledger import Ledger

STEPS = {
    'receive': ('camera',),
    'use': ('camera',),
    'drop': ('camera', 'stale'),
    'reclassify': ('camera', 'superseded'),
}


@pytest.mark.parametrize('step', STEPS)
def test_nobody_sees_a_message_that_is_counted_by_half(step):
    ledger, looks = Ledger(), []
    for before in ('receive', 'receive', 'use'):
        getattr(ledger, before)('camera')
    code = getattr(Ledger, step).__code__

    def trace(frame, event, _):
        # Before each line of it another thread looks, and waits where it has to.
        if frame.f_code is code and event == 'line':
            looks.append(pool.submit(ledger.counters))
            wait(looks, timeout=0.02)
        return trace

    with ThreadPoolExecutor(1) as pool:
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            getattr(ledger, step)(*STEPS[step])
        finally:
            sys.settrace(before)
    assert looks
    for look in looks:
        counts = look.result()['camera']
        told = counts['used'] + counts['pending'] + sum(counts['dropped'].values())
        assert counts['received'] == told
