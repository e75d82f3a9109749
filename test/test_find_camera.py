"""The example that finds out where the camera is."""

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / 'docs' / 'examples' / 'find_camera.py'
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


def test_centres_are_as_close_where_the_camera_was_found_as_where_it_is(capfd):
    runpy.run_path(str(EXAMPLE))['main']('cubes', count=64)
    _, _, *rows = capfd.readouterr().out.splitlines()
    table = {}
    for row in rows:
        _, name, *values, _ = (cell.strip() for cell in row.split('|'))
        table[name] = [float(value) for value in values]
    assert len(table) == 8
    for name, (before, after, off_deg, off_m, untold_m, found_m, told_m) in table.items():
        assert after < before / 2, name
        assert off_deg < 3 and off_m < 1.5, name
        assert found_m < told_m + 0.05 and found_m <= untold_m, name
    assert table['ten degrees sideways'][4] > 1.0
    assert table['on its side'][4] > 1.0
    assert table['upside down, ten degrees sideways'][4] > 1.0
