"""Two runs on one machine never share a ROS domain."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip('fcntl', reason='needs file locks, of Linux or macOS')

from fusion_perception.ros.domain import DOMAINS, Domain

RESERVE = """
import sys
from fusion_perception.ros.domain import Domain
domain = Domain()
print(domain.number, flush=True)
sys.stdin.read()
"""


def started():
    return subprocess.Popen(
        [sys.executable, '-c', RESERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_runs_at_the_same_time_have_domains_of_their_own():
    own = Domain()
    runs = [started() for _ in range(5)]
    numbers = [int(run.stdout.readline()) for run in runs]
    assert len({own.number, *numbers}) == 6
    assert set(numbers) <= set(DOMAINS)
    for run in runs:
        run.communicate()
    own.close()


def test_a_domain_is_free_again_when_its_run_ends_however_it_ends():
    run = started()
    number = int(run.stdout.readline())
    with pytest.raises(ValueError, match='hold all of the 1 ROS domains'):
        Domain([number])
    run.kill()
    run.communicate()
    Domain([number]).close()


def test_a_domain_that_is_given_back_is_free():
    domain = Domain()
    with pytest.raises(ValueError, match='Wait for one to end'):
        Domain([domain.number])
    domain.close()
    Domain([domain.number]).close()


def test_no_run_takes_everybody_s_domain_or_one_whose_ports_others_may_have():
    assert min(DOMAINS) > 0 and max(DOMAINS) <= 101


def test_nobody_on_another_machine_hears_who_has_entered_a_domain(monkeypatch):
    for name in ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
        monkeypatch.setenv(name, 'as before')
    domain = Domain()
    domain.enter()
    domain.close()
    assert os.environ['ROS_DOMAIN_ID'] == str(domain.number)
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'


def test_whoever_reserves_a_domain_lets_others_see_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    before = os.umask(0o077)
    try:
        Domain([7]).close()
    finally:
        os.umask(before)
    (lock,) = tmp_path.iterdir()
    assert stat.filemode(lock.stat().st_mode) == '-rw-r--r--'


@pytest.mark.skipif(os.geteuid() != 0, reason='only a superuser may become another user')
def test_a_domain_that_cannot_be_looked_at_is_passed_over(monkeypatch):
    with tempfile.TemporaryDirectory(dir='/tmp') as place:
        monkeypatch.setattr(tempfile, 'tempdir', place)
        Path(place).chmod(0o777)
        hidden = Path(place) / 'fusion_perception_domain_5.lock'
        hidden.touch()
        hidden.chmod(0o600)
        os.seteuid(12345)
        try:
            domain = Domain([5, 6])
        finally:
            os.seteuid(0)
        assert domain.number == 6
        domain.close()
