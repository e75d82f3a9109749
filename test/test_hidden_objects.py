"""The example that says what hidden objects cost, on a few scenes."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[1] / 'docs' / 'examples' / 'hidden_objects.py'


def test_it_says_what_hidden_objects_cost_and_what_could_be_known(capfd):
    numbers = ('--count', '64', '--places', '1500', '--seed', '1')
    subprocess.run([sys.executable, EXAMPLE, '--bundle', 'shapes', *numbers], check=True)
    printed = capfd.readouterr().out
    rows = [line.split('|')[1:-1] for line in printed.splitlines() if line.startswith('| ')][2:]
    assert sum(int(objects) for _, objects, _, _ in rows) == 3 * 64
    assert sum(int(share.strip(' %')) for *_, share in rows) in range(98, 103)
    assert float(rows[-1][2]) < 0.05
    assert 'at best' in printed
