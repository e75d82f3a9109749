"""Recordings are evaluated in processes that may die, and that none outlives who started it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from recordings import record

pytestmark = pytest.mark.slow


class Stuck:
    """A recording that whoever reads it waits at, for metadata that nobody writes."""

    def __init__(self, path):
        self.path, self.metadata = path, path / 'metadata.yaml'
        path.mkdir()
        os.mkfifo(self.metadata)

    @contextmanager
    def being_read(self):
        """Wait until somebody reads, and then yield the end to write to."""
        end = os.open(self.metadata, os.O_WRONLY)
        yield end
        os.close(end)

    def reader(self, within_s=30):
        """Return the process that reads; who is let in has it open a moment later."""
        end = time.monotonic() + within_s
        while not (found := self._readers()) and time.monotonic() < end:
            continue
        (reader,) = found
        return reader

    def _readers(self):
        found = set()
        for opened in Path('/proc').glob('[0-9]*/fd/*'):
            try:
                if opened.readlink() == self.metadata:
                    found.add(int(opened.parts[2]))
            except OSError:  # That process has ended, or is another user's.
                continue
        return found - {os.getpid()}


def is_left(end, within_s=30):
    """Wait until nobody reads a pipe any more."""
    poll = select.poll()
    poll.register(end, 0)
    return bool(poll.poll(1000 * within_s))


@pytest.fixture
def start(tmp_path, bundle):
    started = []

    def evaluate(*bags):
        flags = ['--bundle', bundle, '--device', 'cpu', '--jobs', '2', '--out', tmp_path / 'out']
        command = [sys.executable, '-m', 'fusion_perception.cli', 'evaluate', *flags, '--bag']
        process = subprocess.Popen(
            [*map(str, command), *map(str, bags)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield evaluate
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_that_is_killed_costs_its_recording_alone(tmp_path, start):
    stuck = [Stuck(tmp_path / name) for name in 'ab']
    good = record(tmp_path / 'good', 4)
    evaluation = start(*(one.path for one in stuck), good)
    # The order in which they end is not the one in which they are told of.
    for one in reversed(stuck):
        with one.being_read():
            os.kill(one.reader(), signal.SIGKILL)
    said, _ = evaluation.communicate()
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert evaluation.returncode == 2
    assert report['pairs'] == report['scenes'] == 4
    assert list(report['failed']) == [str(one.path) for one in stuck]
    for one in stuck:
        why = f'{one.path} cannot be evaluated: its process was killed (signal 9).'
        assert why in said and report['failed'][str(one.path)].startswith(why)


@pytest.mark.parametrize(
    ('end', 'code', 'said'),
    [
        (signal.SIGINT, 130, '\nStopped.\n'),
        (signal.SIGTERM, 130, '\nStopped by SIGTERM.\n'),
        (signal.SIGKILL, -signal.SIGKILL, ''),
    ],
    ids=['Ctrl-C', 'SIGTERM', 'SIGKILL'],
)
def test_processes_end_with_the_evaluation_and_say_nothing(tmp_path, start, end, code, said):
    stuck = [Stuck(tmp_path / name) for name in 'ab']
    evaluation = start(*(one.path for one in stuck))
    with stuck[0].being_read() as first, stuck[1].being_read() as second:
        # A terminal's Ctrl-C comes to every process.
        send = os.killpg if end == signal.SIGINT else os.kill
        send(evaluation.pid, end)
        assert is_left(first)
        assert is_left(second)
    assert evaluation.communicate() == ('', said)
    assert evaluation.returncode == code


@pytest.mark.parametrize('end', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_an_evaluation_no_unpacked_copy_stays(tmp_path, monkeypatch, start, end):
    copies = tmp_path / 'copies'
    copies.mkdir()
    monkeypatch.setenv('TMPDIR', str(copies))
    evaluation = start(record(tmp_path / 'bag', 400, compression='file'))
    while not list(copies.glob('*/*.mcap')) and evaluation.poll() is None:
        continue
    evaluation.send_signal(end)
    evaluation.communicate()
    assert evaluation.returncode == 130
    assert list(copies.iterdir()) == []
