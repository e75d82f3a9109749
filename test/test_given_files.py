"""Parameter files of which nothing reaches the node are not passed over in silence."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from rclpy.node import Node
from ros_graph import ros

from fusion_perception.ros.given_files import passed_over

pytestmark = pytest.mark.ros


def told(tmp_path, text, namespace='/robot1'):
    """Return what is said of a file with that text which a node was started with."""
    file = tmp_path / 'given.yaml'
    file.write_text(text)
    arguments = (
        '--params-file',
        str(file),
        '-p',
        'lidar_type:=points',
        '-r',
        f'__ns:={namespace}',
    )
    with ros(*arguments):
        node = Node('fusion_node')
        sentences = passed_over(['--ros-args', *arguments], node)
        node.destroy_node()
    return sentences


@pytest.mark.parametrize(
    'section',
    ['fusion_nod', 'fusion_node', '/robot2/fusion_node', '/robot2:\n  fusion_node', '/*/other'],
)
def test_a_file_about_other_nodes_is_told_of_with_its_sections(tmp_path, section):
    text = f'{section}:\n    ros__parameters: {{bundle: a, pairing: {{slop_s: 0.1}}}}\n'
    (sentence,) = told(tmp_path, text)
    assert 'given.yaml is for /robot1/fusion_node' in sentence
    assert f'it is about {section.replace(":", "").replace(chr(10) + "  ", "/")}.' in sentence
    assert "'/**'" in sentence


@pytest.mark.parametrize(
    'section',
    ['/**', '/robot1/fusion_node', '/robot1:\n  fusion_node', '/*/fusion_node', '/**/fusion_node'],
)
def test_of_a_file_that_reaches_the_node_nothing_is_said(tmp_path, section):
    text = f'{section}:\n    ros__parameters: {{pairing: {{slop_s: 0.1}}}}\n'
    assert told(tmp_path, text) == []
    # Nor where it is about others as well.
    assert told(tmp_path, f'{text}/camera:\n    ros__parameters: {{rate: 1}}\n') == []
