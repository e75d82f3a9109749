"""Whichever thread counts a message, whoever looks meanwhile sees a sum that holds."""

from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from interleaving import before_each_line

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

    def look():
        # On another thread, which waits where it has to.
        looks.append(pool.submit(ledger.counters))
        wait(looks, timeout=0.02)

    with ThreadPoolExecutor(1) as pool, before_each_line(getattr(Ledger, step), look):
        getattr(ledger, step)(*STEPS[step])
    assert looks
    for seen in looks:
        counts = seen.result()['camera']
        told = counts['used'] + counts['pending'] + sum(counts['dropped'].values())
        assert counts['received'] == told
