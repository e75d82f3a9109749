"""What is said where others do a node's work, or tell it the time, beside those who should."""

import pytest
from small_facts import node, only

from fusion_perception.sensing.findings.diagnosis import diagnose


def test_nodes_of_one_name_are_counted_and_told_apart():
    found = only(node(name='/left/fusion_node', namesakes=2))
    assert found.level == 'WARN'
    assert found.symptom == '3 nodes are called /left/fusion_node'
    assert '-r __ns:=' in found.remedy


@pytest.mark.parametrize(
    ('rivals', 'symptom'),
    [
        (['/player'], '/player publishes on /fusion_node/centers as well'),
        (['/a', '/b'], '/a, /b publish on /fusion_node/centers as well'),
    ],
)
def test_who_publishes_centres_beside_the_node_is_named(rivals, symptom):
    found = only(node(output='/fusion_node/centers', rivals=rivals))
    assert (found.level, found.symptom) == ('WARN', symptom)
    assert '--topics' in found.remedy


def test_two_clocks_are_one_too_many_where_time_is_simulated():
    found = only(node(simulated=True, clock_publishers=2))
    assert (found.level, found.symptom) == ('WARN', '2 publish on /clock')
    assert diagnose(node(simulated=True, clock_publishers=1)) == []
    assert diagnose(node(simulated=False, clock_publishers=2)) == []
