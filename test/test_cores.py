"""A process counts the cores that it may use, not those of the machine."""

import os
from pathlib import Path

import pytest

import fusion_perception
from fusion_perception.cores import usable_cores
from fusion_perception.learning.data.packing_crew import _helpers_for

PACKAGE = Path(fusion_perception.__file__).parent


@pytest.fixture
def one_core():
    """Hold this thread to a single core, as `taskset` does."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_a_process_that_is_held_to_one_core_has_one(one_core):
    assert usable_cores() == 1


def test_who_has_no_further_core_packs_scenes_without_helpers(one_core):
    assert _helpers_for(1_000_000) == 0


def test_nobody_else_asks_how_many_cores_there_are():
    asking = [
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob('*.py')
        if 'cpu_count' in file.read_text(encoding='utf-8')
    ]
    assert asking == ['cores.py']
