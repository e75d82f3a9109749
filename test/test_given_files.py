"""Parameter files of which nothing reaches the node are not passed over in silence."""

import os

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from rclpy.node import Node
from ros_graph import ros

from fusion_perception.ros.given_files import passed_over

pytestmark = pytest.mark.ros
SLOP = 'ros__parameters: {bundle: a, pairing: {slop_s: 0.1}}'


def told(tmp_path, text, namespace='/robot1'):
    """Return what is said of a file with that text that a node was started with.

    One that sets pairing.slop_s reaches the node exactly where nothing is said.
    """
    file = tmp_path / 'given.yaml'
    file.write_text(text)
    given = ('--params-file', str(file), '-p', 'bundle:=b', '-r', f'__ns:={namespace}')
    with ros(*given):
        node = Node('fusion_node')
        sentences = passed_over(['--ros-args', *given], node.get_fully_qualified_name())
        # As ROS has it.
        reached = 'pairing.slop_s' in node._parameter_overrides
        node.destroy_node()
    assert reached == (not sentences and 'slop_s' in text)
    return sentences


@pytest.mark.parametrize(
    'section',
    [
        'fusion_nod',
        'fusion_node',
        '/robot2/fusion_node',
        '/robot2:\n  fusion_node',
        '/*/other',
        '/*',
        '/*/*/*',
    ],
)
def test_a_file_about_other_nodes_is_told_of_with_its_sections(tmp_path, section):
    (sentence,) = told(tmp_path, f'{section}:\n    {SLOP}\n')
    assert 'given.yaml is for /robot1/fusion_node' in sentence
    assert f'it is about {section.replace(":", "").replace(chr(10) + "  ", "/")}.' in sentence
    assert "'/**'" in sentence


@pytest.mark.parametrize('section', ['/**', '/*/fusion_node', '/**/fusion_node', '/*/*'])
def test_a_section_may_be_for_nodes_of_many_names(tmp_path, section):
    assert told(tmp_path, f'{section}:\n    {SLOP}\n') == []


@pytest.mark.parametrize('section', ['fusion_node', '/fusion_node', '/**/fusion_node', '/*'])
def test_a_node_without_a_namespace_has_its_name_alone(tmp_path, section):
    assert told(tmp_path, f'{section}:\n    {SLOP}\n', namespace='/') == []


@pytest.mark.parametrize('section', ['/robot1/fusion_node', '/robot1:\n  fusion_node'])
def test_of_a_file_that_is_about_others_as_well_nothing_is_said(tmp_path, section):
    others = '/camera:\n    ros__parameters: {rate: 1}\n'
    assert told(tmp_path, f'{section}:\n    {SLOP}\n{others}') == []


def test_a_section_that_sets_nothing_is_about_the_node_all_the_same(tmp_path):
    assert told(tmp_path, '/**:\n    ros__parameters: {}\n') == []


@pytest.mark.parametrize('more', ['{a: !mine 1}', '{a: 1}\n/camera:\n    ros__parameters: {b: 1}'])
def test_a_file_that_ros_alone_can_read_is_not_judged(tmp_path, more):
    assert told(tmp_path, f'/camera:\n    ros__parameters: {more}\n') == []


def test_of_a_file_that_can_be_read_once_nothing_is_said(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    assert passed_over(['--params-file', str(pipe)], '/fusion_node') == []
