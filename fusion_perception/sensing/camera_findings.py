"""Find where images are not what the camera is taken for."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.sensing.facts import Facts, Source
from fusion_perception.sensing.finding import Finding, parted

# Width over height of images and of camera_info may differ by this share: rows cut by a codec.
_ASPECT_APART = 0.02


def of_camera(facts: Facts) -> Iterator[Finding]:
    """Yield what makes the intrinsics doubtful; nothing before the first image."""
    camera = facts.camera
    if camera is None or camera.images is None:
        return
    images = '{}x{}'.format(*camera.images)
    if camera.fault:
        instead = 'what it said before counts' if camera.told else "the bundle's intrinsics count"
        cause, remedy = parted(camera.fault, 'it describes no camera', 'Look at its driver.')
        yield Finding(
            'WARN',
            f'The last message on {camera.info.topic} cannot be used',
            f'{cause}; {instead}',
            remedy,
        )
    elif camera.told is None:
        # Images of the size that the bundle learned from are taken to be of its own camera.
        if camera.images != camera.trained:
            cause, remedy = _unheard(camera.info)
            yield Finding(
                'WARN',
                f'Nothing arrives on {camera.info.topic}',
                f"{cause}; the images have {images} pixels, and the bundle's intrinsics, of "
                '{}x{}, are assumed for them'.format(*camera.trained),
                remedy,
            )
    elif abs(_aspect(camera.told) / _aspect(camera.images) - 1) > _ASPECT_APART:
        yield Finding(
            'WARN',
            f'{camera.info.topic} is not of these images',
            f'it tells of {{}}x{{}} pixels, and they have {images}'.format(*camera.told),
            'Remap camera_info to the same camera as image; when the driver cuts a part out, let '
            'it say so in roi.',
        )


def _unheard(info: Source) -> tuple[str, str]:
    """Return why no camera_info came, as half a sentence, and the next step."""
    remap = "Remap camera_info to the topic of the camera's driver."
    if not info.publishers:
        return 'nobody publishes there', remap
    others = [publisher for publisher in info.publishers if publisher.type != info.type]
    if others:
        return f'{others[0].node} publishes {others[0].type} there', remap
    return (
        f'{info.publishers[0].node} has sent nothing there since the node began to listen',
        'Let its driver send camera_info with each image, or latch it (QoS reliable and '
        'transient_local).',
    )


def _aspect(size: tuple[int, int]) -> float:
    return size[0] / size[1]
