import re

import pytest
from pydantic import Field, model_validator
from typing_extensions import Self

from fusion_perception.models import build
from fusion_perception.sensing.rings import Rings
from fusion_perception.sensing.settings import Settings


class Lens(Settings):
    focal: float = Field(50.0, gt=0, description='Pixels')
    name: str


class Robot(Settings):
    speed: float = Field(1.0, ge=0, le=5, description='Metres per second')
    dropout: float = Field(0.1, description='Share')
    lens: Lens = Field(Lens(name='wide'), description='The camera')


def written(folder, text: str):
    path = folder / 'robot.yaml'
    path.write_text(text)
    return path


def test_defaults_stand_where_nothing_is_given():
    assert Robot.read({}) == Robot()


def test_settings_never_change_after_they_were_read():
    with pytest.raises(ValueError, match='frozen'):
        Robot().speed = 2.0


def test_a_misspelt_key_asks_whether_another_was_meant():
    with pytest.raises(ValueError, match=r"^Robot has no 'dropuot'. Did you mean 'dropout'\?$"):
        Robot.read({'dropuot': 0.5})


def test_a_misspelt_key_further_in_is_looked_up_where_it_stands():
    with pytest.raises(ValueError, match=r"^Lens has no 'fokal'. Did you mean 'focal'\?$"):
        Robot.read({'lens': {'fokal': 50, 'name': 'tele'}})


class Span(Settings):
    low: float = Field(0.0, description='From')
    high: float = Field(1.0, description='To')

    @model_validator(mode='after')
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f'low {self.low} is above high {self.high}')
        return self


class Row(Settings):
    spans: tuple[Span, ...] = Field((), description='Side by side')


class Ranges(Settings):
    near: Span = Field(Span(), description='Close by')


@pytest.mark.parametrize('near', [{'low': 2.0}, Span().model_copy(update={'low': 2.0})])
def test_a_fault_of_a_whole_model_names_it_without_all_of_its_values(near):
    with pytest.raises(ValueError, match=r'^near: low 2\.0 is above high 1\.0\.$'):
        Ranges.read({'near': near})


def test_a_mapping_where_a_number_belongs_is_shown():
    with pytest.raises(ValueError, match=r"^speed = \{'kmh': 5\}: .*valid number\.$"):
        Robot.read({'speed': {'kmh': 5}})


class Fleet(Settings):
    robots: tuple[Robot, ...] = Field((), description='Each of them')
    spare: Robot | None = Field(None, description='One more')
    named: dict[str, Robot] = Field({}, description='By name')


@pytest.mark.parametrize(
    ('values', 'said'),
    [
        ({'robots': [{}, {'sped': 1}]}, "robots.1: Robot has no 'sped'. Did you mean 'speed'?"),
        (
            {'robots': [{'lens': {'name': 'a', 'fokal': 1}}]},
            "robots.0.lens: Lens has no 'fokal'. Did you mean 'focal'?",
        ),
        ({'robots': [{'lens': {}}]}, "robots.0.lens: Lens needs 'name'. Add it."),
        ({'spare': {'sped': 1}}, "Robot has no 'sped'. Did you mean 'speed'?"),
        ({'named': {'anna': {'sped': 1}}}, "Robot has no 'sped'. Did you mean 'speed'?"),
    ],
)
def test_a_misspelt_key_of_one_among_several_is_looked_up_there_too(values, said):
    with pytest.raises(ValueError) as caught:
        Fleet.read(values)
    assert str(caught.value) == said


def test_a_key_like_no_other_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"^Robot has no 'xyz'. Known: dropout, lens, speed\.$"):
        Robot.read({'xyz': 1})


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match=r"^Lens needs 'name'. Add it\.$"):
        Robot.read({'lens': {'focal': 50}})


class Place(Settings):
    at: tuple[float, float, float] = Field((0, 0, 0), description='Metres')
    axes: tuple[tuple[float, float], tuple[float, float]] | None = Field(None, description='Two')


@pytest.mark.parametrize(
    ('values', 'said'),
    [
        ({'at': [0, 12]}, 'at = [0, 12]: it needs 3 values. Give all of them.'),
        ({'at': []}, 'at = []: it needs 3 values. Give all of them.'),
        ({'axes': [[1, 0]]}, 'axes = [[1, 0]]: it needs 2 values. Give all of them.'),
        ({'axes': [[1, 0], [1]]}, 'axes.1 = [1]: it needs 2 values. Give all of them.'),
    ],
)
def test_too_few_values_are_named_with_how_many_are_needed(values, said):
    with pytest.raises(ValueError) as caught:
        Place.read(values)
    assert str(caught.value) == said


class Choir(Settings):
    voices: tuple[str, ...] = Field(('alto',), min_length=1, description='Who sings')


@pytest.mark.parametrize(
    ('voices', 'said'),
    [
        ([], 'voices is empty. Give one at least.'),
        ({'alto': 2}, "voices = {'alto': 2}: input should be a list."),
        ('alto', "voices = 'alto': input should be a list."),
    ],
)
def test_a_list_that_is_empty_or_none_is_named_in_words_of_yaml(voices, said):
    with pytest.raises(ValueError) as caught:
        Choir.read({'voices': voices})
    assert str(caught.value) == said


def test_a_value_out_of_bounds_is_named_with_its_bound():
    with pytest.raises(
        ValueError, match=r'^speed = 7: input should be less than or equal to 5\.$'
    ):
        Robot.read({'speed': 7})


def test_a_value_further_in_is_named_by_its_whole_key():
    with pytest.raises(ValueError, match=r'^lens\.focal = 0: .*greater than 0\.$'):
        Robot.read({'lens': {'focal': 0, 'name': 'tele'}})


def test_a_value_that_is_no_number_is_named():
    with pytest.raises(ValueError, match=r"^speed = 'fast': .*valid number"):
        Robot.read({'speed': 'fast'})


class Plan(Settings):
    epochs: int = Field(5, description='How many')
    rate: float | None = Field(None, description='Of learning')
    spans: dict[str, tuple[float, float]] = Field({}, description='By name')
    places: tuple[Place, ...] = Field((), description='Where')
    quick: bool = Field(False, description='Whether')
    either: bool | float = Field(False, description='Whether, or how much')
    anything: dict[str, object] = Field({}, description='Whatever it is')
    name: str = Field('a', description='What it is called')


@pytest.mark.parametrize(
    ('text', 'key'),
    [
        ('epochs: true', 'epochs = True'),
        ('rate: yes', 'rate = True'),
        ('spans: {a: [0, off]}', 'spans'),
        ('places: [{at: [0, on, 0]}]', 'places.0.at = [0, True, 0]'),
    ],
)
def test_true_and_false_are_no_numbers(tmp_path, text, key):
    with pytest.raises(ValueError, match=re.escape(f'{key}: input should be a valid number; in')):
        Plan.read_yaml(written(tmp_path, text))


def test_true_and_false_stay_where_they_belong(tmp_path):
    text = 'quick: yes\neither: on\nanything: {a: true}\nrate: 1\n'
    plan = Plan.read_yaml(written(tmp_path, text))
    assert (plan.quick, plan.either, plan.anything, plan.rate) == (True, True, {'a': True}, 1.0)
    with pytest.raises(ValueError, match=r'^name = True: input should be a valid string\.$'):
        Plan.read({'name': True})


@pytest.mark.parametrize('value', ['.inf', '.nan'])
def test_a_value_must_be_finite(tmp_path, value):
    with pytest.raises(ValueError, match=r'dropout = (inf|nan): input should be a finite number'):
        Robot.read_yaml(written(tmp_path, f'dropout: {value}\n'))


def test_each_fault_has_its_sentence_after_where_they_come_from():
    with pytest.raises(ValueError) as caught:
        Robot.read({'sped': 1, 'dropout': 'x'}, source='robot.yaml')
    said = str(caught.value)
    assert said.startswith('robot.yaml: ')
    assert "Did you mean 'speed'?" in said and "dropout = 'x'" in said


def test_of_many_faults_a_few_have_their_sentence():
    with pytest.raises(ValueError, match=r'3\.low = .* 95 more are wrong\.$') as caught:
        Row.read({'spans': [{'low': 'x'}] * 100})
    assert len(str(caught.value)) < 600


def test_yaml_is_read_with_its_nested_keys(tmp_path):
    path = written(tmp_path, 'speed: 2\nlens: {name: tele, focal: 80}\n')
    assert Robot.read_yaml(path) == Robot(speed=2.0, lens=Lens(name='tele', focal=80))


def test_an_empty_file_means_the_defaults(tmp_path):
    assert Robot.read_yaml(written(tmp_path, '# nothing yet\n')) == Robot()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'No settings file at .*absent\.yaml'):
        Robot.read_yaml(tmp_path / 'absent.yaml')


@pytest.mark.parametrize('text', ['speed: [1', 'speed: 1\n  lens: 2', 'a: b: c', '\x00'])
def test_a_broken_file_is_named_in_one_line(tmp_path, text):
    with pytest.raises(ValueError, match=r'robot\.yaml is not valid YAML') as caught:
        Robot.read_yaml(written(tmp_path, text))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'text',
    [
        *('[' * 5000, '{' * 5000, 'speed: !!int ""', 'speed: !!float ""', 'speed: 0x_'),
        *('speed: !!timestamp "abc"', 'speed: !!bool "x"', 'speed: 2020-13-45'),
        *('speed: ' + '9' * 5000, 'speed: ' + '"\\e[2J' + 'x' * 5000 + '"\n  lens: 2'),
        *('!!omap [a]: 1', 'speed: !!' + 'x' * 5000 + ' 1'),
    ],
    ids=lambda text: text[:30],
)
def test_whatever_yaml_stumbles_over_is_named_in_a_short_line(tmp_path, text):
    with pytest.raises(ValueError, match=r'robot\.yaml is not valid YAML') as caught:
        Robot.read_yaml(written(tmp_path, text))
    said = str(caught.value).removeprefix(str(tmp_path))
    assert said.isprintable() and len(said) < 400


@pytest.mark.parametrize(
    'text',
    ['speed: "\\e[2J\\n' + 'x' * 5000 + '"', '? "\\e[2J\\n' + 'x' * 5000 + '"', 'speed: &a [*a]'],
    ids=['a value', 'a key', 'itself'],
)
def test_what_a_file_holds_moves_no_terminal_and_fills_no_screen(tmp_path, text):
    with pytest.raises(ValueError, match=r'robot\.yaml: ') as caught:
        Robot.read_yaml(written(tmp_path, text))
    said = str(caught.value).removeprefix(str(tmp_path))
    assert said.isprintable() and len(said) < 400


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_bytes(b'\xff\xfe\x00speed')
    with pytest.raises(ValueError, match=r'robot\.yaml is not valid YAML'):
        Robot.read_yaml(path)


@pytest.mark.parametrize(('text', 'kind'), [('- speed', 'list'), ('speed', 'str'), ('3', 'int')])
def test_a_file_without_keys_says_what_it_holds(tmp_path, text, kind):
    with pytest.raises(ValueError, match=f'robot.yaml holds a {kind}'):
        Robot.read_yaml(written(tmp_path, text))


@pytest.mark.parametrize('text', ['speed: 1\nspeed: 2\n', 'lens:\n  focal: 1\n  focal: 1\n'])
def test_a_key_that_stands_twice_in_yaml_is_refused_with_its_line(tmp_path, text):
    line = text.count('\n')
    with pytest.raises(ValueError, match=f'robot.yaml .* stands there twice .* line {line}'):
        Robot.read_yaml(written(tmp_path, text))


def test_yaml_merges_what_another_mapping_holds(tmp_path):
    path = written(tmp_path, 'lens: {<<: {name: tele, focal: 50}, focal: 80}\n')
    assert Robot.read_yaml(path) == Robot(lens=Lens(name='tele', focal=80))


def test_yaml_never_builds_objects(tmp_path):
    path = written(tmp_path, 'speed: !!python/object/apply:os.getcwd []')
    with pytest.raises(ValueError, match='not valid YAML'):
        Robot.read_yaml(path)


@pytest.mark.parametrize(
    ('model', 'config', 'said'),
    [
        ('rgb', {'channels': (4, 0)}, 'channels.1 = 0: input should be greater than 0'),
        ('dense_fusion', {'lidar_widths': (8, -8)}, 'lidar_widths.1 = -8: input should be'),
        ('lidar', {'size': 7}, '3 convolutions halve 7 pixels to nothing; give fewer channels'),
    ],
)
def test_a_network_that_cannot_be_is_refused_in_words(model, config, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        build(model, config)


def test_a_list_with_a_wrong_item_is_not_called_too_short():
    with pytest.raises(ValueError, match=r'^elevations_deg\.0 = nan: .* finite number\.$'):
        Rings.read({'elevations_deg': [float('nan')]})
