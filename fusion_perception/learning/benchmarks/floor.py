"""The floor under inference: what its operations and bytes take where nothing else costs time.

The machine's rates are measured, not looked up: products of large matrices and large convolutions,
copies of large arrays and, on a GPU, the way of a frame there and of an answer back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from fusion_perception.learning.benchmarks.settings import Bench
from fusion_perception.learning.benchmarks.timing import Measure, Work, alternate, seconds_of
from fusion_perception.models.bundle import Bundle
from fusion_perception.sensing.assembly import observe

# A convolution that is large enough for any library: channels, and height and width.
_WIDTH, _SIDE = 128, 64


@dataclass(frozen=True)
class Cost:
    """What one scene costs at least.

    `operations` are the multiplications and additions of convolutions and matrix products, as
    torch.utils.flop_counter counts them; `weights`, `frame` and `answer` are bytes: parameters
    and buffers, the image and ranges of one scene as they come, centres and covariances.
    """

    operations: int
    weights: int
    frame: int
    answer: int

    @property
    def moved(self) -> int:
        """Return the bytes that are read or written at least once."""
        return self.weights + self.frame + self.answer


@dataclass(frozen=True)
class Rates:
    """What the machine can do: operations/s, bytes/s, and seconds there and back to a GPU."""

    operations: float
    bytes: float
    round_trip: float

    def floor(self, cost: Cost) -> float:
        """Return the seconds that a scene takes at least; computing may hide the moving."""
        busy = max(cost.operations / self.operations, cost.moved / self.bytes)
        return busy + self.round_trip


def cost_of(bundle: Bundle) -> Cost:
    """Count what one scene costs a bundle's model, whatever computes it."""
    camera = bundle.rig.camera
    image = np.zeros((1, camera.height, camera.width, 4), np.uint8)
    ranges = np.full((1, *bundle.lidar.shape), bundle.lidar.max_range, np.float32)
    seen = observe(torch.from_numpy(image), torch.from_numpy(ranges), camera, bundle.lidar)
    model = bundle.model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        estimate = model(seen)
    parts = (estimate.centers, estimate.covariance)
    return Cost(
        operations=counter.get_total_flops(),
        weights=sum(part.nbytes for part in (*model.parameters(), *model.buffers())),
        frame=image.nbytes + ranges.nbytes,
        answer=sum(part.nbytes for part in parts if part is not None),
    )


@dataclass(frozen=True)
class Probe:
    """Work that the machine can hardly do better, and the operations or bytes that it takes."""

    work: Work
    amount: int


def rates_of(bench: Bench, cost: Cost) -> Rates:
    """Measure what the machine does at best, in float32 and with PyTorch's threads."""
    probes, calls = probes_of(bench, cost), bench.size(4, 1)

    def seconds(probe: Probe) -> Measure:
        return lambda: seconds_of(probe.work, bench.device, calls)

    with torch.no_grad():
        figures = alternate(
            bench.settings.rounds, {name: seconds(probe) for name, probe in probes.items()}
        )
    return best_rates({name: probe.amount for name, probe in probes.items()}, figures)


def best_rates(amounts: Mapping[str, int], figures: Mapping[str, tuple[float, ...]]) -> Rates:
    """Return the rates of the quickest rounds, given amounts and seconds of the probes by name.

    Of matrices and convolutions the quicker counts: libraries differ in what they do well.
    """
    best = {name: amount / min(figures[name]) for name, amount in amounts.items()}
    return Rates(
        operations=max(best['matrices'], best['convolutions']),
        bytes=best['copies'],
        round_trip=min(figures.get('round_trip', (0.0,))),
    )


def probes_of(bench: Bench, cost: Cost) -> dict[str, Probe]:
    """Return what the rates are found with: the way there and back on a GPU alone."""
    device, cuda = bench.device, bench.device.type == 'cuda'
    side = bench.size(8192 if cuda else 1024, 64)
    length = bench.size(2**28 if cuda else 2**24, 2**10)
    left, right = torch.rand(2, side, side, device=device)
    image = torch.rand(bench.size(64 if cuda else 1, 1), _WIDTH, _SIDE, _SIDE, device=device)
    image = image.contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(_WIDTH, _WIDTH, 3, 3, device=device)
    source, target = torch.rand(2, length, device=device)
    sent = torch.zeros(cost.frame, dtype=torch.uint8, pin_memory=cuda)
    received = torch.zeros(cost.answer, dtype=torch.uint8, pin_memory=cuda)

    def there_and_back() -> object:
        # One kernel between the two copies: less does not ask a GPU for anything.
        answer = sent.to(device, non_blocking=True)[: len(received)] + 1
        return received.copy_(answer, non_blocking=True)

    probes = {
        'matrices': Probe(lambda: left @ right, 2 * side**3),
        'convolutions': Probe(
            lambda: conv2d(image, kernel, padding='same'), 2 * 9 * image.numel() * _WIDTH
        ),
        'copies': Probe(lambda: target.copy_(source), source.nbytes + target.nbytes),
    }
    if cuda:
        probes['round_trip'] = Probe(there_and_back, len(sent) + len(received))
    return probes


def in_words(cost: Cost, rates: Rates, measured_ms: float) -> tuple[str, dict[str, object]]:
    """Say the floor and how far above it inference is; return the numbers too."""
    floor = 1000 * rates.floor(cost)
    above = measured_ms / floor
    trip = f' and {1000 * rates.round_trip:.3f} ms there and back' if rates.round_trip else ''
    text = (
        f'the floor is {floor:.3f} ms, {cost.operations / 1e6:.0f} million operations at '
        f'{rates.operations / 1e9:,.0f} billion/s, {cost.moved / 1e6:.1f} MB at '
        f'{rates.bytes / 1e9:,.0f} GB/s{trip}: inference takes {above:.1f} times that'
    )
    return text, {
        'operations': cost.operations,
        'bytes_of_weights': cost.weights,
        'bytes_of_a_frame': cost.frame,
        'bytes_of_an_answer': cost.answer,
        'operations_per_s': rates.operations,
        'bytes_per_s': rates.bytes,
        'round_trip_ms': 1000 * rates.round_trip,
        'floor_ms': floor,
        'over_floor': above,
    }
