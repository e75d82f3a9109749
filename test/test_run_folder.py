"""The folder of a training: what is written of its epochs, and what it refuses."""

import errno
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import tiny_recipe

from fusion_perception.learning.run.checkpoint import Checkpoint
from fusion_perception.learning.run.folder import RunFolder, best_of, curves_of, summary
from fusion_perception.models.bundle import load_bundle
from fusion_perception.sensing.settings import load_yaml_mapping


def row(stage, epoch, train_loss, valid_loss, seconds=1.5):
    return {
        'stage': stage,
        'epoch': epoch,
        'train_loss': train_loss,
        'valid_loss': valid_loss,
        'seconds': seconds,
    }


ROWS = [
    row('rgb', 1, 4.0, 3.0),
    row('rgb', 2, 2.0, 1.0),
    row('lidar', 1, 9.0, 6.0),
    row('rgb', 3, 0.5, 1.0),
]


def test_of_equally_good_epochs_the_first_is_the_best():
    assert best_of(ROWS) == ROWS[1]
    assert best_of([]) is None


def test_each_stage_has_its_own_curves_and_best_epoch_and_all_took_their_time():
    checkpoint = Checkpoint({'model': 'late_fusion'}, {}, rows=ROWS)
    assert curves_of(checkpoint) == {
        'rgb': ([4.0, 2.0, 0.5], [3.0, 1.0, 1.0]),
        'lidar': ([9.0], [6.0]),
    }
    told = summary(checkpoint)
    assert told['best'] == {'rgb': ROWS[1], 'lidar': ROWS[2]}
    assert told['seconds'] == 6.0
    assert 'started_from' not in told


def test_a_checkpoint_comes_back_whole(tmp_path):
    groups = [{'a.weight': torch.rand(2, 3), 'b/c': torch.arange(3) + n} for n in range(4)]
    kept = Checkpoint({'model': 'rgb'}, {'scenes': 7}, {'model': 'lidar'}, ROWS, *groups)
    kept.write(tmp_path / 'checkpoint.safetensors')
    back = Checkpoint.read(tmp_path / 'checkpoint.safetensors')
    assert (back.settings, back.data, back.rows) == (kept.settings, kept.data, ROWS)
    assert back.started_from == {'model': 'lidar'}
    for group, given in zip((back.model, back.moments, back.best, back.mean), groups, strict=True):
        assert group.keys() == given.keys()
        assert all(torch.equal(group[name], given[name]) for name in given)


def test_a_checkpoint_that_is_given_for_a_bundle_is_named_as_one(tmp_path):
    path = tmp_path / 'checkpoint.safetensors'
    Checkpoint({'model': 'rgb'}, {}, model={'a': torch.rand(2)}).write(path)
    with pytest.raises(ValueError, match=r'checkpoint of a training.* bundle\.safetensors beside'):
        load_bundle(path)


def test_a_bundle_alone_is_no_checkpoint(tmp_path, bundle):
    with pytest.raises(ValueError, match=r'is torn or no checkpoint .*Start the run anew'):
        Checkpoint.read(bundle)


@pytest.mark.parametrize(
    ('schedule', 'stages', 'epochs', 'fault'),
    [
        ('constant', 1, 3, ''),
        ('constant', 1, 1, '2 epochs are finished, more than the 1 asked for'),
        ('one_cycle', 1, 3, 'epochs was 2 and is now 3'),
        ('constant', 2, 3, 'epochs was 2 and is now 3'),
        ('one_cycle', 2, 2, ''),
    ],
)
def test_a_schedule_and_later_stages_are_laid_out_for_the_number_of_epochs(
    tmp_path, schedule, stages, epochs, fault
):
    begun, asked = (
        tiny_recipe('scenes', tmp_path, schedule=schedule, epochs=each) for each in (2, epochs)
    )
    checkpoint = Checkpoint(begun.model_dump(mode='json'), {}, rows=ROWS[:2])
    if fault:
        with pytest.raises(ValueError, match=rf'cannot be resumed: {fault}\.'):
            checkpoint.refuse_another(tmp_path, asked, {}, stages)
    else:
        checkpoint.refuse_another(tmp_path, asked, {}, stages)


def test_a_file_is_no_folder_for_a_run(tmp_path):
    (tmp_path / 'run').write_text('mine')
    with pytest.raises(ValueError, match=r'run is a file\. Choose a folder for the run'):
        RunFolder(tmp_path / 'run', resume=False, writes=True)


def test_the_other_processes_of_a_training_write_nothing_and_keep_nobody_out(tmp_path):
    run = RunFolder(tmp_path / 'run', resume=False, writes=True)
    with run.held():
        other = RunFolder(tmp_path / 'run', resume=False, writes=False)
        with other.held():
            other.begin(tiny_recipe(Path('scenes'), tmp_path / 'run'))
            other.save_epoch(Checkpoint({'model': 'rgb'}, {}, rows=ROWS))
            other.close(Checkpoint({'model': 'rgb'}, {}, rows=ROWS))
    assert [*(tmp_path / 'run').iterdir()] == []


@pytest.mark.parametrize('name', ['bundle.safetensors', 'checkpoint.safetensors'])
def test_what_is_left_of_a_run_is_not_overwritten(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match='already holds a run'):
        RunFolder(tmp_path, resume=False, writes=True)


def test_the_recipe_that_is_kept_finds_its_data_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'run').mkdir()
    run = RunFolder(tmp_path / 'run', resume=False, writes=True)
    run.begin(tiny_recipe(Path('scenes'), tmp_path / 'run'))
    assert load_yaml_mapping(tmp_path / 'run' / 'config.yaml')['data'] == str(tmp_path / 'scenes')


@pytest.mark.slow
def test_events_of_an_epoch_that_is_trained_again_hide_those_it_left_before(tmp_path):
    for resume, again in ((False, ROWS[1]), (True, row('rgb', 2, 2.5, 1.25))):
        run = RunFolder(tmp_path, resume, writes=True)
        checkpoint = Checkpoint({'model': 'rgb'}, {}, rows=[ROWS[0], again])
        run.save_epoch(checkpoint)
        run.close(checkpoint)
    events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload()
    assert [(e.step, e.value) for e in events.Scalars('rgb/valid_loss')] == [(2, 1.25)]


@pytest.mark.parametrize(
    ('fault', 'said'),
    [
        (OSError(errno.ENOSPC, 'No space left', 'x.json'), r'x\.json: No space left\. Correct'),
        (OSError('x cannot be written. Make room there.'), r'x cannot be written\. Make room'),
    ],
)
def test_a_run_that_found_no_room_is_told_how_to_go_on_where_it_can(tmp_path, fault, said):
    run = RunFolder(tmp_path / 'my run', resume=False, writes=True)
    with pytest.raises(OSError) as told, run.held():
        raise fault
    assert told.value is fault
    with pytest.raises(OSError, match=said) as told, run.held():
        run.checkpoint.touch()
        raise fault
    assert f"`fusion train --out '{tmp_path}/my run' --resume`" in str(told.value)
