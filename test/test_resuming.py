"""A training that stops, for whatever reason, goes on as if nothing had been."""

import json
import signal

import pytest
import torch
from odd_files import no_file_larger_than
from training_runs import assert_same_run, rows_of

from fusion_perception.cli import main
from fusion_perception.flags import read_settings
from fusion_perception.learning.run.checkpoint import Checkpoint
from fusion_perception.learning.run.folder import RunFolder
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.training import TrainSettings, train
from fusion_perception.models.base import FusionModel
from fusion_perception.models.bundle import load_bundle
from fusion_perception.models.dense_fusion import DenseFusion
from fusion_perception.sensing.settings import load_yaml_mapping

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.mark.parametrize(
    'recipe',
    [{}, {'optimiser': 'adamw', 'weight_decay': 0.1, 'ema': 0.9, 'clip_norm': 1.0}],
    ids=['adam', 'adamw with a running mean'],
)
def test_two_epochs_and_two_more_equal_four(settings, recipe):
    train(settings('whole', epochs=4, **recipe))
    train(settings('halves', epochs=2, **recipe))
    train(settings('halves', epochs=4, resume=True, **recipe))
    assert_same_run(settings('whole').out, settings('halves').out)


FLAGSHIP = {
    'optimiser': 'adamw',
    'schedule': 'one_cycle',
    'clip_norm': 5.0,
    'ema': 0.99,
    'drop_camera': 0.2,
    'drop_lidar': 0.2,
    'precision': 'bfloat16',
    'architecture': {'lidar_widths': [4, 4], 'camera_widths': [4, 4]},
}


@pytest.mark.parametrize(
    ('model', 'recipe', 'step'),
    [
        ('late_fusion', {}, 2),
        ('late_fusion', {}, 8),
        ('late_fusion', {}, 22),
        ('dense_fusion', FLAGSHIP, 6),
    ],
)
def test_ctrl_c_leaves_a_usable_bundle_and_the_run_goes_on_as_if_nothing_was(
    settings, monkeypatch, model, recipe, step
):
    train(settings('whole', model=model, **recipe))
    steps = 0
    learner = DenseFusion if model == 'dense_fusion' else FusionModel
    loss = learner.training_loss

    def interrupted_loss(self, *args):
        nonlocal steps
        steps += torch.is_grad_enabled()
        if steps == step:
            signal.raise_signal(signal.SIGINT)
        return loss(self, *args)

    halves = settings('halves', model=model, **recipe)
    with monkeypatch.context() as patch:
        patch.setattr(learner, 'training_loss', interrupted_loss)
        with pytest.raises(KeyboardInterrupt, match='--resume'):
            train(halves)
    load_bundle(halves.out / 'bundle.safetensors')
    train(settings('halves', model=model, resume=True, **recipe))
    assert_same_run(settings('whole').out, halves.out)


@pytest.mark.parametrize(
    ('model', 'recipe', 'said'),
    [
        ('lidar', {}, r'weights as they were when it stopped\. Go on'),
        ('dense_fusion', FLAGSHIP, r'when it stopped, its covariances not calibrated yet\. Go on'),
    ],
)
def test_ctrl_c_before_any_epoch_is_done_leaves_the_weights_as_they_were_and_says_so(
    settings, monkeypatch, model, recipe, said
):
    before = settings('before', model=model, **recipe, epochs=1)
    train(before)
    run = settings('run', model=model, **recipe, start_from=str(before.out))
    learner = DenseFusion if model == 'dense_fusion' else FusionModel

    def interrupted_loss(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(learner, 'training_loss', interrupted_loss)
    with pytest.raises(KeyboardInterrupt, match=said):
        train(run)
    given, left = (dict(load_bundle(each.out).model.named_parameters()) for each in (before, run))
    assert all(torch.equal(given[name], left[name]) for name in given)


@pytest.mark.parametrize('count', [1, 2])
def test_ctrl_c_while_a_bundle_is_saved_leaves_what_the_farewell_says(
    settings, monkeypatch, count
):
    save, saved = RunFolder.save_bundle, []

    def interrupted_save(self, *args):
        saved.append(args)
        if len(saved) == count:
            signal.raise_signal(signal.SIGINT)
        save(self, *args)

    run = settings('run', model='lidar', epochs=5)
    monkeypatch.setattr(RunFolder, 'save_bundle', interrupted_save)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(run)
    told = load_bundle(run.out / 'bundle.safetensors').manifest.training['metrics']
    assert f'holds lidar after epoch {told["epoch"]}.' in str(stopped.value)
    assert told['epoch'] == len(rows_of(run.out)) < 5


def test_a_run_that_was_given_more_epochs_goes_on_from_its_own_folder(settings):
    train(settings('run', epochs=1))
    longer = settings('run', epochs=3, resume=True)
    train(longer)
    recipe = load_yaml_mapping(longer.out / 'config.yaml')
    assert TrainSettings.read({**recipe, 'out': longer.out, 'resume': True}) == longer


def test_a_run_that_started_from_a_bundle_is_repeated_and_goes_on_from_any_folder(
    settings, tmp_path, monkeypatch
):
    train(settings('base', epochs=1))
    monkeypatch.chdir(tmp_path)
    run = settings('run', epochs=1, start_from='base')
    train(run)
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    recipe = load_yaml_mapping(run.out / 'config.yaml')
    train(TrainSettings.read({**recipe, 'out': tmp_path / 'again'}))
    assert_same_run(run.out, tmp_path / 'again')
    train(TrainSettings.read({**recipe, 'out': run.out, 'epochs': 2, 'resume': True}))
    monkeypatch.chdir(tmp_path)
    train(settings('run', epochs=3, start_from='base', resume=True))
    assert len(rows_of(run.out)) == 3
    # Paths mean nothing on another machine.
    assert str(tmp_path) not in str(load_bundle(run.out).manifest)


def test_a_run_that_was_killed_before_it_told_of_its_last_epoch_tells_of_it(settings):
    run = settings('run')
    train(run)
    told = rows_of(run.out)
    (run.out / 'metrics.json').unlink()
    train(settings('run', resume=True))
    assert rows_of(run.out) == told


def test_what_a_stage_leaves_is_its_own_though_the_next_one_was_stopped_before_its_checkpoint(
    settings, monkeypatch
):
    write = Checkpoint.write

    def stopped_write(self, path):
        if self.rows and self.rows[-1]['stage'] == 'lidar':
            signal.raise_signal(signal.SIGINT)
        write(self, path)

    late = settings('late', model='late_fusion', epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, 'write', stopped_write)
        with pytest.raises(KeyboardInterrupt, match='--resume'):
            train(late)
    train(settings('late', model='late_fusion', epochs=1, resume=True))
    assert load_bundle(late.out / 'rgb.safetensors').manifest.model == 'rgb'
    assert load_bundle(late.out / 'lidar.safetensors').manifest.model == 'lidar'


def test_a_folder_that_holds_a_run_is_not_overwritten(settings):
    train(settings('run', epochs=1))
    with pytest.raises(ValueError, match=r'already holds a run. Add --resume'):
        train(settings('run', epochs=1))


def test_a_run_that_failed_before_its_first_epoch_was_done_is_begun_anew_by_what_is_corrected(
    settings,
):
    with pytest.raises(ValueError, match=r'Lower --learning-rate .* or set clip_norm\.$'):
        train(settings('run', epochs=1, learning_rate=1e30))
    train(settings('run', epochs=1))
    train(settings('other', epochs=1))
    assert_same_run(settings('run').out, settings('other').out)


def test_a_checkpoint_that_cannot_be_read_is_not_overwritten(settings):
    run = settings('run', epochs=1)
    run.out.mkdir()
    (run.out / 'checkpoint.safetensors').write_bytes(b'mine')
    with pytest.raises(ValueError, match='already holds a run'):
        train(run)
    assert (run.out / 'checkpoint.safetensors').read_bytes() == b'mine'


def read(*flags):
    return read_settings(TrainSettings, flags, 'fusion train', 'Train a model')


def test_a_run_that_goes_on_takes_the_settings_that_it_keeps_unless_others_are_given(
    settings, tmp_path, capsys
):
    begun = settings('run', epochs=1, seed=7)
    train(begun)
    resume = f'--out={begun.out}', '--resume'
    assert read(*resume) == begun.model_copy(
        update={'resume': True, 'data': begun.data.resolve(), 'config': None}
    )
    assert read(*resume, '--seed', '8').seed == 8
    other = tmp_path / 'other.yaml'
    other.write_text('model: rgb')
    assert read(*resume, '--config', str(other)).model == 'rgb'
    with pytest.raises(SystemExit):
        read(*resume[:1])
    assert '--model' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        read(*resume, '--config')
    assert main(['train', *resume, '--epochs', '2']) == 0
    metrics = json.loads((begun.out / 'metrics.json').read_text())
    assert [row['epoch'] for row in metrics['epochs']] == [1, 2]


@pytest.mark.parametrize('resume', [False, True])
def test_two_trainings_do_not_write_one_folder_at_once(settings, resume):
    if resume:
        train(settings('run', epochs=1))
    run = RunFolder(settings('run').out, resume, writes=True)
    at_work = pytest.raises(ValueError, match=r'Another training is at work in .*run. Wait for')
    with run.held():
        with at_work:
            train(settings('run', resume=resume))
        # Nor is a second one told to go on where the first has come far enough for that.
        run.bundle.touch()
        with at_work:
            train(settings('run'))


def test_a_run_that_another_finished_meanwhile_is_not_overwritten(settings):
    late = RunFolder(settings('run').out, resume=False, writes=True)
    train(settings('run', epochs=1))
    with pytest.raises(ValueError, match='already holds a run'), late.held():
        pass


def test_there_must_be_a_run_to_resume(settings):
    with pytest.raises(FileNotFoundError, match='No run to resume'):
        train(settings('run', resume=True))


def test_a_folder_without_a_run_is_named_before_the_flags_that_it_would_spare(tmp_path):
    flags = '--out', str(tmp_path), '--resume'
    with pytest.raises(FileNotFoundError, match=r'No run to resume: .*config\.yaml.*--model'):
        read(*flags)
    with pytest.raises(SystemExit) as helped:
        read(*flags, '--help')
    assert helped.value.code == 0


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'batch_size': 4}, 'batch_size was 8 and is now 4'),
        ({'seed': 9}, 'seed was 0 and is now 9'),
        ({'precision': 'bfloat16'}, "precision was 'float32' and is now 'bfloat16'"),
        ({'validation': 2}, 'validation was 320 and is now 2'),
        ({'schedule': 'one_cycle'}, "schedule was 'constant'"),
        ({'model': 'dense_fusion'}, 'trains rgb, not dense_fusion. Leave out --model'),
    ],
)
def test_a_run_is_not_resumed_with_another_recipe(settings, change, named):
    train(settings('run', epochs=1))
    with pytest.raises(ValueError, match=named):
        train(settings('run', epochs=2, resume=True, **change))


def test_a_run_is_not_resumed_for_fewer_epochs_than_it_has(settings):
    train(settings('run'))
    with pytest.raises(ValueError, match='2 epochs are finished, more than the 1 asked for'):
        train(settings('run', epochs=1, resume=True))
    assert load_yaml_mapping(settings('run').out / 'config.yaml')['epochs'] == 2


def test_stages_keep_the_number_of_epochs_that_they_were_laid_out_for(settings):
    train(settings('run', model='late_fusion'))
    for epochs in (1, 3):
        with pytest.raises(ValueError, match=f'epochs was 2 and is now {epochs}'):
            train(settings('run', model='late_fusion', epochs=epochs, resume=True))


def test_a_run_is_not_resumed_on_other_data(settings, tmp_path):
    train(settings('run', epochs=1))
    simulate(SimulateSettings(out=tmp_path / 'other', count=40, seed=5))
    with pytest.raises(ValueError, match='data fingerprint was'):
        train(settings('run', epochs=2, resume=True, data=tmp_path / 'other'))


def test_a_run_goes_on_whose_checkpoint_knows_less_of_its_data(settings):
    begun = settings('run', epochs=1, fresh_scenes=8)
    train(begun)
    file = begun.out / 'checkpoint.safetensors'
    before = Checkpoint.read(file)
    del before.data['validating_folder']
    before.write(file)
    train(settings('run', epochs=2, fresh_scenes=8, resume=True))
    assert len(rows_of(begun.out)) == 2


def test_a_torn_checkpoint_is_named(settings):
    run = settings('run', epochs=1)
    train(run)
    file = run.out / 'checkpoint.safetensors'
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match='torn or no checkpoint'):
        Checkpoint.read(file)


def test_a_run_that_cannot_be_written_says_so_and_goes_on_from_where_it_was(settings):
    train(settings('whole'))
    half = settings('half', epochs=1)
    train(half)
    files = {file.name for file in half.out.iterdir()}
    with no_file_larger_than(50_000), pytest.raises(OSError, match='tensors cannot be written'):
        train(settings('half', resume=True))
    assert {file.name for file in half.out.iterdir()} == files
    train(settings('half', resume=True))
    assert_same_run(settings('whole').out, half.out)
