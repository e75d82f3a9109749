import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import torch
import tyro
from pydantic import Field, model_validator

from fusion_perception import cli
from fusion_perception.sensing.settings import Settings


class ToneSettings(Settings):
    loud: float = Field(0.1, ge=0, description='How loud')
    loudest: float = Field(0.5, ge=0, description='What can be borne')

    @model_validator(mode='after')
    def _is_bearable(self):
        if self.loud > self.loudest:
            raise ValueError('nobody could bear it')
        return self


class EchoSettings(Settings):
    tone: Annotated[ToneSettings, tyro.conf.arg(name='')] = Field(ToneSettings(), description='')
    config: Path | None = Field(None, description='YAML with defaults')
    times: int = Field(1, ge=1, description='How often')
    word: str = Field(description='What to say')
    stop: bool = Field(False, description='Pretend Ctrl-C')
    need: str = Field('', description='A module to import')
    out: Path | None = Field(None, description='A folder to make')


def echo(settings: EchoSettings) -> tuple[str, int]:
    if settings.stop:
        raise KeyboardInterrupt('Stopped half way.')
    if settings.need:
        __import__(settings.need)
    if settings.word == 'missing':
        raise FileNotFoundError('No word at hand. Say one.')
    if settings.word == 'much':
        Path('/dev/full').write_text('much')  # Linux's always full disk.
    if settings.out is not None:
        settings.out.mkdir(parents=True, exist_ok=True)
    return ' '.join([settings.word] * settings.times), 3


@pytest.fixture(autouse=True)
def echo_verb(monkeypatch):
    monkeypatch.setitem(cli.VERBS, 'echo', cli.Verb(__name__, 'EchoSettings', 'echo', 'Say it'))


def test_the_overview_names_every_verb_without_importing_torch():
    script = (
        'import sys; from fusion_perception.cli import VERBS, main; code = main([]);'
        "sys.exit(code or 'torch' in sys.modules or 'tyro' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert shown.returncode == 0
    for name, verb in cli.VERBS.items():
        if name != 'echo':
            assert f'{name} ' in shown.stdout and verb.help in shown.stdout


def test_the_version_is_the_package_s(capsys):
    assert cli.main(['--version']) == 0
    assert capsys.readouterr().out.startswith('fusion_perception ')


def test_a_mistyped_verb_is_answered_with_the_meant_one(capsys):
    assert cli.main(['trian']) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('option', 'said'),
    [
        ('--vresion', "Did you mean '--version'?"),
        ('--word', 'Known: --debug, --help, --version. Others follow a verb.'),
    ],
)
def test_an_option_is_not_taken_for_a_verb(option, said, capsys):
    assert cli.main([option, 'hello']) == 2
    assert said in capsys.readouterr().err


def test_a_verb_s_text_goes_to_stdout_and_its_code_to_the_shell(capsys):
    assert cli.main(['echo', '--word', 'hello', '--times', '2']) == 3
    assert capsys.readouterr().out == 'hello hello\n'


def test_flags_override_the_yaml_which_overrides_the_defaults(tmp_path, capsys):
    (tmp_path / 'echo.yaml').write_text('word: "yes"\ntimes: 2\n')
    cli.main(['echo', '--config', str(tmp_path / 'echo.yaml')])
    assert capsys.readouterr().out == 'yes yes\n'
    cli.main(['echo', f'--config={tmp_path / "echo.yaml"}', '--times', '3'])
    assert capsys.readouterr().out == 'yes yes yes\n'


def test_a_path_in_the_yaml_begins_in_the_home_or_where_the_command_does(tmp_path, monkeypatch):
    (tmp_path / 'home').mkdir()
    (tmp_path / 'work').mkdir()
    (tmp_path / 'conf').mkdir()
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path / 'work')
    for out in ('~/a', 'b', '~nobody-of-this-name/c'):
        (tmp_path / 'conf/echo.yaml').write_text(f"word: hello\nout: '{out}'\n")
        assert cli.main(['echo', '--config', '../conf/echo.yaml']) == 3
    assert (tmp_path / 'home/a').is_dir() and (tmp_path / 'work/b').is_dir()
    assert (tmp_path / 'work/~nobody-of-this-name/c').is_dir()


def test_a_mistyped_key_in_the_yaml_names_the_file_and_the_meant_key(tmp_path, capsys):
    (tmp_path / 'echo.yaml').write_text('tims: 2\n')
    assert cli.main(['echo', '--word', 'a', '--config', str(tmp_path / 'echo.yaml')]) == 2
    fault = capsys.readouterr().err
    assert 'echo.yaml' in fault and "Did you mean 'times'?" in fault


def test_a_value_out_of_range_is_one_sentence(capsys):
    assert cli.main(['echo', '--word', 'a', '--times', '0']) == 2
    fault = capsys.readouterr().err
    assert 'times = 0' in fault and fault.count('\n') == 1


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--loud', '-1'], 'loud = -1.0: input should be greater than or equal to 0.'),
        (['--loud', '0.6'], 'nobody could bear it.'),
    ],
)
def test_so_is_one_of_the_settings_within_the_settings(flags, said, capsys):
    assert cli.main(['echo', '--word', 'a', *flags]) == 2
    assert capsys.readouterr().err == f'fusion echo: {said}\n'


@pytest.mark.parametrize('second', ['--count=3', '--count'])
def test_a_flag_that_is_given_twice_is_refused(second, capsys, tmp_path):
    flags = ['--count', '2', second, *(['3'] if second == '--count' else [])]
    assert cli.main(['simulate', str(tmp_path / 'out'), *flags]) == 2
    assert '--count is given 2 times' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_an_unknown_flag_exits_with_two():
    with pytest.raises(SystemExit) as exit_:
        cli.main(['echo', '--word', 'a', '--wrod', 'b'])
    assert exit_.value.code == 2


def test_a_fault_is_one_sentence_on_stderr_and_exit_code_two(capsys):
    assert cli.main(['echo', '--word', 'missing']) == 2
    assert capsys.readouterr().err == 'No word at hand. Say one.\n'


def test_a_full_disk_is_one_sentence_with_a_remedy(capsys):
    assert cli.main(['echo', '--word', 'much']) == 2
    said = 'fusion echo: No space left on device. Make room, or write elsewhere.\n'
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ('out', 'said'),
    [
        ('taken', 'File exists. A folder is needed there: choose another path'),
        ('taken/out', 'Not a directory. A part of this path is a file'),
        ('n' * 300, 'File name too long. Choose a shorter one.'),
    ],
)
def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path, out, said, capsys):
    (tmp_path / 'taken').write_text('mine')
    assert cli.main(['echo', '--word', 'a', '--out', str(tmp_path / out)]) == 2
    assert capsys.readouterr().err.startswith(f'{tmp_path / out}: {said}')


@pytest.mark.parametrize(
    'flags',
    [
        ('evaluate', '--bundle', 'shapes', '--bag', '~nobody-at-all/x'),
        ('evaluate', '--bundle', 'shapes', '--data', '~nobody-at-all/x'),
        ('evaluate', '--bundle', '~nobody-at-all/x', '--data', 'x'),
        ('simulate', 'x', '--tables', '~nobody-at-all/x'),
    ],
    ids=lambda flags: flags[-2],
)
def test_what_is_in_the_home_of_nobody_is_missing_as_anything_else(flags, capsys, tmp_path):
    out = () if flags[0] == 'simulate' else ('--out', str(tmp_path))
    assert cli.main([*flags, *out]) == 2
    assert '~nobody-at-all/x' in capsys.readouterr().err


@pytest.mark.parametrize('code', [errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR])
def test_what_the_system_refuses_is_named_with_what_to_do(code):
    # Whether it refuses anything hangs on who runs the test.
    said = cli.sentence(OSError(code, os.strerror(code), '/a/place'), 'echo')
    fault, _, remedy = said.partition('. ')
    assert fault == f'/a/place: {os.strerror(code)}'
    assert remedy.endswith('.')


def test_debug_shows_the_traceback_of_a_fault():
    with pytest.raises(FileNotFoundError):
        cli.main(['--debug', 'echo', '--word', 'missing'])


def test_ctrl_c_exits_with_130_and_the_verb_s_last_word(capsys):
    assert cli.main(['echo', '--word', 'a', '--stop']) == 130
    assert capsys.readouterr().err == '\nStopped half way.\n'


def test_a_verb_that_needs_ros_says_how_to_get_it(capsys):
    assert cli.main(['echo', '--word', 'a', '--need', 'imaginary_msgs.msg']) == 2
    fault = capsys.readouterr().err
    assert 'source your ROS installation' in fault
    # Of the checkout: no package index has this package.
    assert "pip install '.[ros]'" in fault


def test_a_reader_that_leaves_early_is_met_in_silence():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, '-m', 'fusion_perception.cli', '--help'],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, '')


@pytest.mark.parametrize(
    ('encoding', 'shown'),
    [('utf-8', b'20 m\xc2\xb2, h\\udcf6he\n'), ('ascii', b'20 m\\xb2, h\\udcf6he\n')],
)
def test_what_the_terminal_cannot_show_is_no_fault(monkeypatch, encoding, shown):
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, 'stdout', out)
    path = os.fsdecode(b'h\xf6he')
    assert cli.main(['echo', '--word', f'20 m², {path}']) == 3
    assert out.buffer.getvalue() == shown


def test_running_out_of_memory_is_told_from_other_faults():
    with pytest.raises(RuntimeError) as too_much:
        torch.empty(2**50)
    assert cli.is_out_of_memory(too_much.value) and not cli.is_out_of_memory(RuntimeError('a bug'))
