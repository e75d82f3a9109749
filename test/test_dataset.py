"""The whole data folder lies on one device, and its packed file never holds anything stale."""

import resource
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fusion_perception.learning.data.freshness import FolderState, folder_state
from fusion_perception.learning.data.transfer import to_device
from fusion_perception.learning.dataset import (
    PACKED,
    packed_paths,
    read_folder,
    split_indices,
)
from fusion_perception.sensing.geometry import range_to_xyza

COUNT = 8

pytestmark = pytest.mark.usefixtures('private_cache')


def forbid_writing(folder: Path) -> None:
    # Nothing replaces a folder by a file, not even a superuser.
    (folder / PACKED / 'occupied').mkdir(parents=True)


def packed_fingerprint(path: Path) -> str:
    with safe_open(path, framework='pt') as file:
        return FolderState.from_text(file.metadata()['state']).fingerprint


def test_a_batch_holds_what_the_scenes_hold(folder: Path) -> None:
    scenes = read_folder(folder)
    observation, centers = scenes.batch(torch.tensor([4, 1]))
    assert torch.equal(observation.rgba[0], scenes.images[4].permute(2, 0, 1) / 255)
    expected = range_to_xyza(scenes.ranges[1], scenes.lidar.directions, scenes.lidar.max_range)
    assert torch.equal(observation.xyza[1], expected)
    assert torch.equal(centers, scenes.centers[[4, 1]])
    assert observation.modes() == ('fusion', 'fusion')
    assert len(scenes) == COUNT


def test_true_centres_lie_where_the_lidar_looks(folder: Path) -> None:
    scenes = read_folder(folder)
    assert scenes.centers.dtype == torch.float32
    assert (scenes.centers[..., 1] > 19).all()
    assert (scenes.centers[..., 1] < 31).all()


def test_the_second_reading_opens_no_scene(folder: Path) -> None:
    first = read_folder(folder)
    with safe_open(folder / PACKED, framework='pt') as file:
        about = file.metadata()
    tensors = load_file(folder / PACKED)
    # Only a reading from the packed file sees what no file of the folder holds.
    tensors['images'] = 255 - tensors['images']
    (folder / PACKED).unlink()
    save_file(tensors, folder / PACKED, about)
    second = read_folder(folder)
    assert torch.equal(255 - first.images, second.images)
    assert torch.equal(first.ranges, second.ranges)
    assert torch.equal(first.centers, second.centers)
    assert first.rig == second.rig
    assert first.lidar.fingerprint() == second.lidar.fingerprint()


def change_a_scan(folder: Path) -> None:
    ranges = np.load(folder / 'lidar/0001.npy')
    ranges[0, 0] = 49.0
    np.save(folder / 'lidar/0001.npy', ranges)


def change_a_label(folder: Path) -> None:
    text = (folder / 'positions.csv').read_text()
    (folder / 'positions.csv').write_text(text.replace('cube_', 'box_'))
    (folder / 'sensor.yaml').unlink()


def change_the_rig(folder: Path) -> None:
    text = (folder / 'sensor.yaml').read_text()
    (folder / 'sensor.yaml').write_text(text.replace('spherical', 'notebook'))


@pytest.mark.parametrize('change', [change_a_scan, change_a_label, change_the_rig])
def test_a_changed_folder_is_read_again(folder: Path, change) -> None:
    before = read_folder(folder)
    change(folder)
    after = read_folder(folder)
    assert packed_fingerprint(folder / PACKED) == folder_state(folder).fingerprint
    assert (
        not torch.equal(before.ranges, after.ranges)
        or before.rig != after.rig
        or before.lidar.projection != after.lidar.projection
    )


@pytest.mark.parametrize('share', [0.0, 0.001, 0.5, 0.999])
def test_a_torn_packed_file_is_written_again(folder: Path, share: float) -> None:
    first = read_folder(folder)
    content = (folder / PACKED).read_bytes()
    (folder / PACKED).unlink()
    (folder / PACKED).write_bytes(content[: int(share * len(content))])
    assert torch.equal(read_folder(folder).ranges, first.ranges)
    assert (folder / PACKED).stat().st_size == len(content)


@pytest.mark.parametrize(
    'about', [{}, {'state': '{"of": "another version"}'}, {'state': '1'}, {'rig': '{"other": 1}'}]
)
def test_a_packed_file_of_another_version_is_written_again(folder: Path, about: dict) -> None:
    first = read_folder(folder)
    # Not into the file that is mapped, as some versions of safetensors would write.
    (folder / PACKED).unlink()
    save_file({'ranges': torch.zeros(1)}, folder / PACKED, about)
    assert torch.equal(read_folder(folder).ranges, first.ranges)
    assert packed_fingerprint(folder / PACKED) == folder_state(folder).fingerprint


def rewritten(folder: Path, change) -> None:
    """Write the packed file once more with its tensors changed."""
    with safe_open(folder / PACKED, framework='pt') as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(tensors)
    (folder / PACKED).unlink()
    save_file(tensors, folder / PACKED, about)


@pytest.mark.parametrize(
    'change',
    [
        *(lambda held, name=name: held.pop(name) for name in ('images', 'ranges', 'centers')),
        *(lambda held, name=name: held.pop(name) for name in ('azimuth', 'zenith')),
        lambda held: held.update(azimuth=torch.full((64,), torch.nan)),
        lambda held: held.update(azimuth=torch.zeros(3, 5, 7)),
        lambda held: held.update(offsets=torch.zeros(2, 2, 3)),
    ],
)
def test_a_packed_file_without_its_tensors_is_written_again(folder: Path, change) -> None:
    first = read_folder(folder)
    rewritten(folder, change)
    again = read_folder(folder)
    assert torch.equal(again.images, first.images) and torch.equal(again.ranges, first.ranges)
    assert again.lidar.fingerprint() == first.lidar.fingerprint()


def test_a_folder_that_cannot_be_written_is_packed_in_the_users_cache(folder: Path) -> None:
    forbid_writing(folder)
    first = read_folder(folder)
    cached = packed_paths(folder)[-1]
    assert cached.is_file()
    assert cached.is_relative_to(folder.parent / 'cache')
    written = cached.stat().st_mtime_ns
    assert torch.equal(read_folder(folder).images, first.images)
    assert cached.stat().st_mtime_ns == written


def test_a_folder_marked_read_only_stays_as_it_is(folder: Path) -> None:
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    read_folder(folder)
    folder.chmod(0o755)
    assert sorted(folder.iterdir()) == before
    assert packed_paths(folder)[1].is_file()


def test_data_is_read_where_nothing_can_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_writing(folder)
    (folder.parent / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder.parent / 'file'))
    assert len(read_folder(folder)) == COUNT


def test_what_a_full_disk_keeps_from_being_packed_is_said_with_its_cause(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        assert len(read_folder(folder)) == COUNT
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 'File too large' in caplog.text and 'writable' not in caplog.text


def test_readers_that_start_at_once_all_get_the_whole_set(folder: Path) -> None:
    expected = read_folder(folder).ranges.clone()
    (folder / PACKED).unlink()
    results: list[torch.Tensor] = []
    threads = [
        threading.Thread(target=lambda: results.append(read_folder(folder).ranges))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(ranges, expected) for ranges in results)
    assert not list(folder.glob('.packing-*'))


def test_changing_a_tensor_never_changes_the_packed_file(folder: Path) -> None:
    read_folder(folder)
    mapped = read_folder(folder)
    expected = mapped.ranges.clone()
    mapped.ranges.zero_()
    assert torch.equal(read_folder(folder).ranges, expected)


def test_the_original_split_is_the_default() -> None:
    training, validation = split_indices(9999)
    assert training.tolist() == list(range(9679))
    assert validation.tolist() == list(range(9679, 9999))


@pytest.mark.parametrize(
    ('count', 'held_out'), [(2, 1), (19, 1), (1000, 100), (3200, 320), (5000, 320)]
)
def test_a_small_set_keeps_its_last_tenth_for_validation(count: int, held_out: int) -> None:
    training, validation = split_indices(count)
    assert validation.tolist() == list(range(count - held_out, count))
    assert training.tolist() == list(range(count - held_out))


def test_one_scene_cannot_be_split() -> None:
    with pytest.raises(ValueError, match='1 scene cannot be split'):
        split_indices(1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_a_batch_on_the_gpu_is_the_batch_on_the_cpu(folder: Path) -> None:
    scenes = read_folder(folder)
    there, centers = read_folder(folder, 'cuda').batch(torch.arange(3))
    here, expected = scenes.batch(torch.arange(3))
    torch.testing.assert_close(there.xyza.cpu(), here.xyza)
    torch.testing.assert_close(there.rgba.cpu(), here.rgba)
    assert torch.equal(centers.cpu(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('numbers', [3, 5_000_003])
def test_what_moves_to_the_gpu_arrives_whole(numbers: int) -> None:
    numbers_here = torch.arange(numbers, dtype=torch.float32).view(-1, 1)
    assert torch.equal(to_device(numbers_here, 'cuda').cpu(), numbers_here)
