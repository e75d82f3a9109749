"""What is given for a baseline, or for its place, and is somebody's other file."""

import pytest

from fusion_perception.learning.gates import check_takes_baseline, read_baseline


@pytest.mark.parametrize('content', [b'{"scenes": 3', b'\x89PNG\r\n', b'{"a": 1}', b'[]', b''])
def test_nobody_is_advised_to_write_over_a_file_that_is_no_baseline(tmp_path, content):
    path = tmp_path / 'notes.json'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'Name the report\.json of an evaluation') as refusal:
        read_baseline(path, ('ball',))
    assert f'--write-baseline {path}' not in str(refusal.value)


def test_a_folder_is_said_to_hold_a_report_only_where_it_does(tmp_path):
    with pytest.raises(ValueError, match=r'is a folder\. It has no report\.json\. Name'):
        read_baseline(tmp_path, ('ball',))
    (tmp_path / 'report.json').touch()
    with pytest.raises(ValueError, match=r'is a folder\. Name the report\.json in it\.$'):
        read_baseline(tmp_path, ('ball',))


def test_a_baseline_does_not_take_the_place_of_another_evaluation_s_report(tmp_path):
    report = tmp_path / 'report.json'
    report.write_text('{"error_m": null}')
    check_takes_baseline(report, ())
    (tmp_path / 'report.html').touch()
    with pytest.raises(ValueError, match='is the report of another evaluation'):
        check_takes_baseline(report, ())
