"""The example that lets sensors fail."""

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / 'docs' / 'examples' / 'failing_sensors.py'
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


def test_it_says_how_far_the_bundle_is_off_and_says_it_is(capfd):
    runpy.run_path(str(EXAMPLE))['main']('shapes', count=64)
    _, _, *rows = capfd.readouterr().out.splitlines()
    table = {}
    for row in rows:
        _, name, *values, _ = (cell.strip() for cell in row.split('|'))
        table[name] = [float(value.rstrip('%')) for value in values]
    assert len(table) == 20
    error_m, says_m, _, inside, disagreement = table['both']
    assert error_m < 0.15 and says_m < 0.1 and inside > 90
    # What is not there is not known, and is not said to be.
    assert table['LiDAR: no return'][0] > 3 * error_m
    assert table['LiDAR: no return'][1] > 5 * says_m
    # A camera that looks elsewhere makes it less honest, and is noticed.
    askew = table['camera: turned sideways by 2°']
    assert askew[3] < inside - 20 and askew[4] > 10 * disagreement
    # Of one that is elsewhere nothing is lost once that is told.
    moved, told = (
        table['camera: a metre aside, turned by 5°'],
        table['the same, as camera_pose says'],
    )
    assert moved[3] < 60 and moved[4] > 10 * disagreement
    assert told[3] > 90 and told[0] < error_m + 0.02 and told[4] < 2 * disagreement
    frozen = table['camera: frozen, shows another scene']
    assert frozen[3] < 30 and frozen[4] > 100 * disagreement
