"""Find where images are not what the camera is taken for."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.sensing.facts import CameraFacts, Facts, Source
from fusion_perception.sensing.finding import Finding, parted
from fusion_perception.sensing.lens import Distortion

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
    """Yield that a lens bends images unlike that of the training, where the model can see it."""
    bent, told = camera.distortion, camera.told
    if bent is None or told is None:
        return
    if bent.corner_px is None:
        symptom, cause = _unknown(bent, camera.info.topic)
    else:
        seen_px = bent.corner_px * max(
            seen / own for seen, own in zip(camera.trained, told, strict=True)
        )
        if seen_px <= _SEEN_PX:
            return
        symptom, cause = _moved(bent, f'{told[0]}x{told[1]}', camera.info.topic)
        cause += ' {:.1f} pixels at the {}x{} which the model sees'.format(
            seen_px, *camera.trained
        )
    if not bent.trained:
        remedy = (
            'Feed rectified images (image_rect of image_proc) and set camera_matrix to p; where '
            'they are rectified already, set only that.'
        )
    elif not bent.seen:
        remedy = (
            'The bundle learned from images as they leave the camera: feed those, with the '
            'distortion in camera_info, and leave camera_matrix at k.'
        )
    else:
        remedy = (
            'Use the camera of the training, or train on recordings of this one (fusion from-bag).'
        )
    yield Finding('WARN', symptom, cause, remedy)


def _unknown(bent: Distortion, topic: str) -> tuple[str, str]:
    """Return what is to be said of lenses one of which no known model describes, and why."""
    if not bent.trained:
        return (
            f'{topic} tells of a distortion of no known model ({bent.seen})',
            'what the lens does to the images is left out',
        )
    return (
        f'{topic} tells of {bent.seen or "no distortion"}, and the images of the training had '
        f'{bent.trained}',
        'how far apart the two are is not known',
    )


def _moved(bent: Distortion, image: str, topic: str) -> tuple[str, str]:
    """Return how far a corner is from where the model expects it, and the cause's beginning."""
    if not bent.trained:
        return (
            f'The lens moves a corner of the {image} image by {bent.corner_px:.1f} pixels '
            f'({bent.seen} of {topic})',
            'that is left out, and makes',
        )
    return (
        f'A corner of the {image} image is {bent.corner_px:.1f} pixels from where the lens of the '
        f'training shows it ({bent.seen or "no distortion"} of {topic})',
        'that makes',
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
