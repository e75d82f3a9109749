"""Find where images are not what the camera is taken for."""

from __future__ import annotations

from collections.abc import Iterator

from fusion_perception.sensing.findings.facts import CameraFacts, Facts, Source, several
from fusion_perception.sensing.findings.finding import Finding, parted
from fusion_perception.sensing.findings.images import of_blank
from fusion_perception.sensing.findings.topics import remap
from fusion_perception.sensing.lens import Distortion

# Width over height of images and of camera_info may differ by this share: rows cut by a codec.
_ASPECT_APART = 0.02
# What a lens may move a place by, in pixels of what the model sees, before it is worth a word.
_SEEN_PX = 1.0
# A zoom lens goes back to where it was now and then.
_OFTEN = 3


def of_camera(facts: Facts) -> Iterator[Finding]:
    """Yield what makes the intrinsics doubtful; nothing before the first image."""
    camera = facts.camera
    if camera is None or camera.images is None:
        return
    yield from of_blank(camera.blank)
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
    else:
        yield from of_shape(camera)
    yield from of_turns(camera)
    yield from of_lens(camera)


def of_turns(camera: CameraFacts) -> Iterator[Finding]:
    """Yield that camera_info tells of two cameras by turns."""
    if camera.returns < _OFTEN:
        return
    yield Finding(
        'WARN',
        f'{camera.info.topic} tells of two cameras by turns',
        several([camera.info]) or 'two sources publish there, or its driver goes to and fro',
        'Let the driver of the images alone publish there: end the other, or give it a topic of '
        'its own.',
    )


def of_shape(camera: CameraFacts) -> Iterator[Finding]:
    """Yield that images are not of the shape that camera_info tells of."""
    if camera.told is None or camera.images is None:
        return
    if abs(_aspect(camera.told) / _aspect(camera.images) - 1) > _ASPECT_APART:
        yield Finding(
            'WARN',
            f'{camera.info.topic} is not of these images',
            'it tells of {}x{} pixels, and they have {}x{}'.format(*camera.told, *camera.images),
            'Remap camera_info to the same camera as image; when the driver cuts a part out, let '
            'it say so in roi.',
        )


def of_lens(camera: CameraFacts) -> Iterator[Finding]:
    """Yield that a lens bends images unlike that of the training, where the model can see it."""
    bent, told = camera.distortion, camera.told
    if bent is None or told is None:
        return
    seen = ''
    if bent.most_px is not None:
        seen_px = bent.most_px * max(
            wanted / own for wanted, own in zip(camera.trained, told, strict=True)
        )
        if seen_px <= _SEEN_PX:
            return
        seen = '{:.1f} pixels at the {}x{} which the model sees'.format(seen_px, *camera.trained)
    say = _unlike_the_training if bent.trained else _distorting
    yield say(bent, '{}x{}'.format(*told), seen, camera.info.topic)


def _distorting(bent: Distortion, image: str, seen: str, topic: str) -> Finding:
    """Return that a lens distorts; `seen` is what the model sees of it, '' where unknown."""
    if seen:
        symptom = (
            f'The lens moves parts of the {image} image by up to {bent.most_px:.1f} pixels '
            f'({bent.seen} of {topic})'
        )
        cause = f'that is left out, and makes {seen}'
    else:
        symptom = f'{topic} tells of a distortion of no known model ({bent.seen})'
        cause = 'what the lens does to the images is left out'
    return Finding(
        'WARN',
        symptom,
        cause,
        'Feed rectified images (image_rect of image_proc) and set camera_matrix to p; where they '
        'are rectified already, set only that.',
    )


def _unlike_the_training(bent: Distortion, image: str, seen: str, topic: str) -> Finding:
    """Return that the lens is not that of the training; `seen` as above."""
    here = bent.seen or 'no distortion'
    if seen:
        symptom = (
            f'Parts of the {image} image are up to {bent.most_px:.1f} pixels from where the lens '
            f'of the training shows them ({here} of {topic})'
        )
        cause = f'that makes {seen}'
    else:
        symptom = f'{topic} tells of {here}, and the images of the training had {bent.trained}'
        cause = 'how far apart the two are is not known'
    return Finding(
        'WARN',
        symptom,
        cause,
        'Use the camera of the training, or train on recordings of this one (fusion from-bag).'
        if bent.seen
        else 'The bundle learned from images as they leave the camera: feed those, with the '
        'distortion in camera_info, and leave camera_matrix at k.',
    )


def _unheard(info: Source) -> tuple[str, str]:
    """Return why no camera_info came, as half a sentence, and the next step."""
    there = remap(info, 'camera_info')
    elsewhere = f"Remap camera_info to the topic of the camera's driver{there and f': {there}'}."
    if not info.publishers:
        return 'nobody publishes there', elsewhere
    others = [publisher for publisher in info.publishers if publisher.type != info.type]
    if others:
        return f'{others[0].node} publishes {others[0].type} there', elsewhere
    return (
        f'{info.publishers[0].node} has sent nothing there since the node began to listen',
        'Let its driver send camera_info with each image, or latch it (QoS reliable and '
        'transient_local).',
    )


def _aspect(size: tuple[int, int]) -> float:
    return size[0] / size[1]
