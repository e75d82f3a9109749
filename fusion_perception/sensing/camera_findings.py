"""Find where images are not what the camera is taken for."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.sensing.facts import CameraFacts, Facts, Source
from fusion_perception.sensing.finding import Finding, parted

# Width over height of images and of camera_info may differ by this share: rows cut by a codec.
_ASPECT_APART = 0.02
# What a lens may move a corner by, in pixels of what the model sees, before it is worth a word.
_SEEN_PX = 1.0


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
    yield from of_lens(camera)


def of_lens(camera: CameraFacts) -> Iterator[Finding]:
    """Yield that a lens bends the images, where the model can see that."""
    bent, told = camera.distortion, camera.told
    if bent is None or told is None:
        return
    if bent.corner_px is None:
        symptom = f'{camera.info.topic} tells of a distortion of no known model ({bent.model})'
        cause = 'what the lens does to the images is left out'
    else:
        seen_px = bent.corner_px * max(
            seen / own for seen, own in zip(camera.trained, told, strict=True)
        )
        if seen_px <= _SEEN_PX:
            return
        symptom = (
            f'The lens moves a corner of the {told[0]}x{told[1]} image by {bent.corner_px:.1f} '
            f'pixels ({bent.model} of {camera.info.topic})'
        )
        cause = (
            f'that is left out, and makes {seen_px:.1f} pixels at the {{}}x{{}} which the model '
            'sees'.format(*camera.trained)
        )
    yield Finding(
        'WARN',
        symptom,
        cause,
        'Feed rectified images (image_rect of image_proc) and set camera_matrix to p; where they '
        'are rectified already, set only that.',
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
