"""The profile accounts for every message and says where the node's time goes."""

import json
import subprocess
import sys

import pytest

from fusion_perception import cli

pytestmark = [pytest.mark.ros, pytest.mark.slow]


def test_every_message_is_accounted_for_and_every_stage_is_timed(tmp_path):
    options = ('--seconds', '1', '--hz', '5', '--executors', 'single', '--threads', '1', '2')
    command = [sys.executable, '-m', 'fusion_perception.cli', 'profile', *options]
    command += ['--out', str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / 'profile.md').read_text().strip() in run.stdout
    runs = json.loads((tmp_path / 'profile.json').read_text())['runs']
    assert [run['threads'] for run in runs] == [1, 2]
    for found in runs:
        assert found['accounted']
        assert 0 < found['predictions'] <= 5 * found['seconds'] + 2
        assert found['predictions_per_s'] == found['predictions'] / found['seconds']
        stages = found['stages']
        assert set(stages) == {
            *('callback (decode, pair, hand over)', 'decode and pair'),
            *('observe and predict', 'publish'),
        }
        assert min(stages[name]['calls'] for name in stages) >= found['predictions'] - 1
        assert found['latency_ms']['p50'] <= found['latency_ms']['max']


def test_a_window_without_a_prediction_is_said(tmp_path):
    options = ('--seconds', '0.4', '--hz', '0.3', '--executors', 'single')
    command = [sys.executable, '-m', 'fusion_perception.cli', 'profile', *options]
    command += ['--out', str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert run.returncode == 2, run.stderr
    assert 'Nothing was predicted in 0.4 s. Give more --seconds.' in run.stderr
    assert 'Traceback' not in run.stderr


def test_a_time_that_no_clock_can_sleep_is_refused(capsys):
    assert cli.main(['profile', '--seconds', '1e300']) == 2
    assert (
        'seconds = 1e+300: input should be less than or equal to 86400' in capsys.readouterr().err
    )
