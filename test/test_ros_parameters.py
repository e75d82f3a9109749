"""Parameters come from the settings models: defaults, ranges, words, and faults that can heal."""

from pathlib import Path
from typing import Annotated

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from pydantic import Field
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_graph import ended, ros
from small_bundles import small_bundle

from fusion_perception.ros.fusion_node import FusionNode
from fusion_perception.ros.node_settings import LIVE, READ_ONLY, NodeSettings
from fusion_perception.ros.parameter_files import as_yaml
from fusion_perception.ros.parameter_page import as_page
from fusion_perception.ros.parameters import Parameters, leaves, nested
from fusion_perception.ros.sensor_sim import SensorSimSettings
from fusion_perception.sensing.settings import Settings

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[1]


class Inner(Settings):
    slop_s: float = Field(0.02, ge=0, le=1, description='How far apart')


class Lists(Settings):
    marks: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 9), description='Counts')


class Outer(Settings):
    name: str = Field('a', description='A name')
    count: int = Field(3, gt=0, description='A count')
    inner: Inner = Field(Inner(slop_s=0.05), description='What is inside')


@pytest.fixture
def declare():
    with_ros = None

    def declare(*arguments, model=Outer, **options):
        nonlocal with_ros
        with_ros = ros(*arguments)
        with_ros.__enter__()
        node = Node('parameters')
        return node, Parameters(node, model, **options)

    yield declare
    with_ros.__exit__(None, None, None)


def set_one(node, name, value):
    return node.set_parameters([Parameter(name, value=value)])[0]


def test_the_file_for_robots_states_each_default_with_its_comment():
    text = (ROOT / 'config' / 'fusion.yaml').read_text()
    assert text == as_yaml(NodeSettings), 'make parameters'
    values = yaml.safe_load(text)['/**']['ros__parameters']
    assert NodeSettings.read(values) == NodeSettings()


def test_the_node_the_file_and_the_table_agree():
    table = (ROOT / 'docs' / 'parameters.md').read_text()
    assert table == as_page(), 'make parameters'
    of_node, _, _ = table.partition('# Parameters of the simulated sensor')
    rows = [line.strip('| ').split(' | ') for line in of_node.splitlines() if line[:3] == '| `']
    file = yaml.safe_load((ROOT / 'config' / 'fusion.yaml').read_text())['/**']['ros__parameters']
    with ros('-p', 'autostart:=false'), ended(node := FusionNode()):
        names = node.get_parameters_by_prefix('')
        told = {name: node.describe_parameter(name) for name in names}
        values = {name: node.get_parameter(name).value for name in told}
    ours = {leaf.name for leaf in leaves(NodeSettings)}
    assert ours == {row[0].strip('`') for row in rows} <= set(told)
    for name, default, values_told, changes, description in rows:
        name = name.strip('`')
        in_file = file
        for part in name.split('.'):
            in_file = in_file[part]
        assert yaml.safe_load(default.strip('`')) == in_file
        assert told[name].description == description
        assert told[name].read_only == (changes == 'never')
        [limits] = [*told[name].floating_point_range, *told[name].integer_range] or [None]
        for word, end in (('>= ', 'from_value'), ('<= ', 'to_value')):
            if word in values_told:
                number = values_told.split(word)[1].split(',')[0]
                assert getattr(limits, end) == float(number)
        if name != 'autostart':
            value = values[name]
            assert (list(value) if isinstance(in_file, list) else value) == in_file


def test_every_parameter_is_described_and_every_special_one_exists():
    names = {leaf.name for leaf in leaves(NodeSettings)}
    assert names >= LIVE | READ_ONLY
    assert all(leaf.field.description for leaf in leaves(NodeSettings))
    without = [leaf.name for leaf in leaves(NodeSettings) if leaf.default is None]
    assert not without, 'a ROS parameter has a type: take 0 or "" for nothing'
    assert NodeSettings.read(nested({leaf.name: leaf.default for leaf in leaves(NodeSettings)}))


def test_descriptors_carry_the_words_and_the_range_of_the_field(declare):
    node, _ = declare()
    slop = node.describe_parameter('inner.slop_s')
    assert slop.description == 'How far apart'
    assert slop.floating_point_range[0].from_value == 0.0
    assert slop.floating_point_range[0].to_value == 1.0
    assert node.describe_parameter('count').integer_range[0].from_value == 1


def test_a_nested_default_is_the_outer_model_s(declare):
    assert declare()[1].read() == Outer()


def test_what_is_given_at_the_start_counts_and_whole_numbers_are_fine_floats(declare):
    _, parameters = declare('-p', 'inner.slop_s:=1', '-p', 'name:=b')
    assert parameters.read() == Outer(name='b', inner=Inner(slop_s=1.0))


@pytest.mark.parametrize('given', ['count:=0', 'count:=many', 'inner.slop_s:=7.0', 'name:=5'])
def test_a_wrong_value_at_the_start_is_told_until_it_is_corrected(declare, given):
    node, parameters = declare('-p', given)
    name = given.split(':=')[0]
    with pytest.raises(ValueError, match=name):
        parameters.read()
    default = next(leaf.default for leaf in leaves(Outer) if leaf.name == name)
    assert set_one(node, name, default).successful
    assert parameters.read() == Outer()


@pytest.mark.parametrize(('name', 'value'), [('count', 0), ('count', 'x'), ('inner.slop_s', 2.0)])
def test_a_wrong_value_is_refused_and_changes_nothing(declare, name, value):
    node, parameters = declare()
    result = set_one(node, name, value)
    assert not result.successful
    assert result.reason
    assert parameters.read() == Outer()


def test_faults_of_single_values_and_of_how_values_go_together_are_told_at_once(declare):
    told = []
    wrong = ('-p', 'pairing.slop_s:=1.0', '-p', 'pairing.queue_size:=20.0')
    node, parameters = declare(*wrong, model=NodeSettings, live=LIVE, changed=told.append)
    with pytest.raises(ValueError, match=r'an int is needed.*dropout_after_s of 0.5 is not'):
        parameters.read()
    # Each can be corrected by itself, in any order; what makes another fault is refused.
    assert set_one(node, 'pairing.queue_size', 30).successful
    assert not set_one(node, 'pairing.slop_s', 2.0).successful
    assert told == []
    assert set_one(node, 'pairing.slop_s', 0.1).successful
    assert [settings.pairing.queue_size for settings in told] == [30]
    assert parameters.read().pairing.slop_s == 0.1


def test_the_default_in_place_of_a_wrong_value_contradicts_nothing(declare):
    wrong = ('-p', 'pairing.slop_s:=0.6', '-p', 'pairing.dropout_after_s:=-2.0')
    _, parameters = declare(*wrong, model=NodeSettings)
    with pytest.raises(ValueError, match='greater than 0') as refused:
        parameters.read()
    assert 'not longer than' not in str(refused.value)


def test_in_use_only_live_parameters_change_and_are_told(declare):
    told = []
    node, _ = declare(live=frozenset({'inner.slop_s'}), in_use=lambda: True, changed=told.append)
    refused = set_one(node, 'count', 4)
    assert not refused.successful
    assert 'configured' in refused.reason
    assert set_one(node, 'inner.slop_s', 0.5).successful
    assert told == [Outer(inner=Inner(slop_s=0.5))]


def test_nothing_is_told_of_live_parameters_before_what_was_wrong_is_corrected(declare):
    told = []
    live = frozenset({'inner.slop_s'})
    node, parameters = declare('-p', 'count:=0', live=live, changed=told.append)
    assert set_one(node, 'inner.slop_s', 0.5).successful
    assert not told
    with pytest.raises(ValueError, match='count'):
        parameters.read()


def test_of_parameters_that_are_not_live_nothing_is_told(declare):
    told = []
    node, _ = declare(live=frozenset({'inner.slop_s'}), changed=told.append)
    assert set_one(node, 'count', 4).successful
    assert not told


def test_in_use_what_a_parameter_is_already_can_be_set_again(declare):
    in_use = {}
    node, parameters = declare(model=Lists, in_use=lambda: bool(in_use))
    assert set_one(node, 'marks', [1, 2]).successful
    in_use['now'] = True
    assert set_one(node, 'marks', [1, 2]).successful
    assert not set_one(node, 'marks', [1, 3]).successful
    assert parameters.read() == Lists(marks=(1, 2))


def test_a_configured_node_takes_the_values_that_it_has(tmp_path):
    given = '-p', f'bundle:={small_bundle(tmp_path)}', '-p', 'pairing.slop_s:=0.04'
    with ros(*given), ended(node := FusionNode()):
        node.trigger_configure()
        # As `ros2 param load` sets what `ros2 param dump` wrote; rclpy refuses what is read-only.
        dump = [node.get_parameter(leaf.name) for leaf in leaves(NodeSettings)]
        results = node.set_parameters([value for value in dump if value.name not in READ_ONLY])
        assert [result.reason for result in results if not result.successful] == []
        assert not set_one(node, 'bundle', 'shapes').successful


def test_what_only_goes_together_can_be_set_at_once_and_the_refusal_says_so(declare):
    node, parameters = declare(model=NodeSettings)
    refused = set_one(node, 'pairing.slop_s', 1.0)
    assert not refused.successful
    assert 'dropout_after_s' in refused.reason and 'set_parameters_atomically' in refused.reason
    assert 'atomically' not in set_one(node, 'pairing.slop_s', -1.0).reason
    both = {'pairing.slop_s': 1.0, 'pairing.dropout_after_s': 3.0}
    assert node.set_parameters_atomically(
        [Parameter(name, value=value) for name, value in both.items()]
    ).successful
    assert parameters.read().pairing.slop_s == 1.0
    # What goes with the default does not go with what was set.
    assert not set_one(node, 'pairing.dropout_after_s', 0.5).successful


@pytest.mark.parametrize(
    ('name', 'value', 'said'),
    [
        ('lidar_frame', '/lidar', "slash; give 'lidar'."),
        ('lidar_frame', '', "give a name, as 'lidar'."),
        ('target_frame', '/map', "slash; give 'map'."),
    ],
)
def test_a_frame_that_tf2_refuses_is_refused_with_one_that_it_takes(declare, name, value, said):
    node, parameters = declare(model=NodeSettings)
    refused = set_one(node, name, value)
    assert not refused.successful
    assert refused.reason.startswith(f'{name} = {value!r}: ') and refused.reason.endswith(said)
    assert set_one(node, 'target_frame', '').successful
    assert parameters.read() == NodeSettings()


def test_a_read_only_parameter_never_changes(declare):
    node, _ = declare(read_only=frozenset({'name'}))
    assert not set_one(node, 'name', 'c').successful


def empty_list(tmp_path, how):
    """Return the arguments that give `marks` as an empty list, in a file or without one."""
    if how == 'flag':
        return '-p', 'marks:=[]'
    file = tmp_path / 'params.yaml'
    file.write_text('/**:\n  ros__parameters:\n    marks: []\n')
    return '--params-file', str(file)


@pytest.mark.parametrize('how', ['flag', 'file'])
def test_an_empty_list_at_the_start_is_one_and_can_be_filled(tmp_path, declare, how):
    node, parameters = declare(*empty_list(tmp_path, how), model=Lists)
    assert parameters.read() == Lists(marks=())
    assert set_one(node, 'marks', [7]).successful
    assert parameters.read() == Lists(marks=(7,))


# Without elements it comes as a list of bytes from rclpy, of booleans from `ros2 param set`.
@pytest.mark.parametrize(
    'kind', [Parameter.Type.BYTE_ARRAY, Parameter.Type.BOOL_ARRAY, Parameter.Type.INTEGER_ARRAY]
)
def test_a_list_can_be_emptied_and_filled_again(declare, kind):
    node, parameters = declare(model=Lists)
    assert node.set_parameters([Parameter('marks', kind, [])])[0].successful
    assert parameters.read() == Lists(marks=())
    assert set_one(node, 'marks', [7]).successful
    assert parameters.read() == Lists(marks=(7,))


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ('5', 'marks = 5: a list of int is needed.'),
        ('many', "marks = 'many': a list of int is needed."),
        ('[a, b]', "marks = ['a', 'b']: a list of int is needed."),
        ('[0.5]', 'marks = [0.5]: a list of int is needed.'),
        ('[1, -1]', 'marks.1 = -1: input should be greater than or equal to 0.'),
    ],
)
def test_a_wrong_list_at_the_start_is_told_in_one_sentence_and_heals(declare, given, said):
    node, parameters = declare('-p', f'marks:={given}', model=Lists)
    with pytest.raises(ValueError) as caught:
        parameters.read()
    assert str(caught.value) == said
    assert set_one(node, 'marks', []).successful
    assert parameters.read() == Lists(marks=())


@pytest.mark.parametrize('value', [5, 'many', [0.5], [-1]])
def test_a_wrong_list_is_refused_and_changes_nothing(declare, value):
    node, parameters = declare(model=Lists)
    result = set_one(node, 'marks', value)
    assert not result.successful
    assert result.reason
    assert parameters.read() == Lists()


@pytest.mark.parametrize(
    ('given', 'meant'),
    [('coutn:=4', 'count'), ('inner.slop_sec:=0.5', 'inner.slop_s'), ('iner.slop_s:=1', 'slop_s')],
)
def test_a_misspelt_parameter_is_told_with_the_one_that_was_meant(declare, given, meant):
    _, parameters = declare('-p', given)
    (said,) = parameters.misspelt()
    assert f"'{given.split(':=')[0]}'" in said and meant in said
    assert parameters.read() == Outer()


def test_a_value_for_a_whole_group_is_told_with_the_members_of_the_group(declare):
    _, parameters = declare('-p', 'inner:=3')
    (said,) = parameters.misspelt()
    assert "'inner'" in said and 'inner.slop_s' in said


@pytest.mark.parametrize('model', [NodeSettings, SensorSimSettings])
def test_what_is_spelt_well_and_what_other_nodes_have_is_passed_over(tmp_path, declare, model):
    names = [leaf.name for each in (NodeSettings, SensorSimSettings) for leaf in leaves(each)]
    others = ['use_sim_time', 'image_topic', 'camera_type', 'num_threads', 'queue_size', 'fps']
    file = tmp_path / 'params.yaml'
    values = nested(dict.fromkeys([*names, *others], 1))
    file.write_text(yaml.safe_dump({'/**': {'ros__parameters': values | {'use_sim_time': False}}}))
    _, parameters = declare('--params-file', str(file), model=model)
    assert parameters.misspelt() == []
