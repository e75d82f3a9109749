"""A text file is there whole, or as it was before."""

from pathlib import Path

import pytest
from odd_files import no_file_larger_than

from fusion_perception.whole_files import write_whole


def test_a_file_is_written_whole_or_stays_as_it_was_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'report.html'
    write_whole(path, 'before')
    with no_file_larger_than(1000), pytest.raises(OSError) as fault:
        write_whole(path, 'x' * 100_000)
    assert fault.value.filename == str(path)
    assert path.read_text() == 'before'
    assert [each.name for each in tmp_path.iterdir()] == ['report.html']


def test_a_file_in_no_folder_is_named_and_not_its_draft(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as fault:
        write_whole(tmp_path / 'none' / 'report.json', 'x')
    assert fault.value.filename == str(tmp_path / 'none' / 'report.json')
