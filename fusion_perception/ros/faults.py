"""Do to the messages of a simulated sensor what happens to those of real ones, on purpose."""

from __future__ import annotations

import random
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from sensor_msgs.msg import Image
from typing_extensions import Self

from fusion_perception.ros.messages import NANOSECONDS, as_data, header_message
from fusion_perception.sensing.decode import stamp_ns
from fusion_perception.sensing.ledger import Stream
from fusion_perception.sensing.settings import Settings


class Faults(Settings):
    """What is wrong with the sensors at present. The defaults are no fault."""

    stream: Literal['both', 'camera', 'lidar'] = Field('both', description='Whose messages suffer')
    drop: float = Field(0.0, ge=0, le=1, description='Share of the messages that get lost')
    delay_s: float = Field(0.0, ge=0, le=10, description='Messages leave so much later, seconds')
    jitter_s: float = Field(
        0.0, ge=0, le=10, description='A random part of this is added to the delay, seconds'
    )
    reorder: float = Field(
        0.0, ge=0, le=1, description='Share of the messages that leave after the one behind them'
    )
    duplicate: float = Field(0.0, ge=0, le=1, description='Share of the messages that leave twice')
    freeze: bool = Field(False, description='Repeat the last message, with its old stamp')
    covered: bool = Field(False, description='Send black images, and scans without a return')
    wrong_encoding: bool = Field(False, description='Name an encoding that nobody knows')
    wrong_size: bool = Field(False, description='Send one row less than the message says')
    zero_stamp: bool = Field(False, description='Leave the stamp zero')
    clock_jump_s: float = Field(
        0.0, ge=-3600, le=3600, description="Added to the stamps: the sensor's clock is off, s"
    )
    silent: bool = Field(False, description='Send nothing')
    kill: bool = Field(False, description='End the process at once, as SIGKILL does')

    def befalling(self, stream: Stream) -> Faults:
        """Return what of this a stream suffers."""
        return self if self.stream in ('both', stream) else Faults()

    def words(self) -> str:
        """Return what is wrong in a few words, '' when nothing is."""
        wrong = {
            name: value
            for name, value in self.model_dump(include=set(Faults.model_fields)).items()
            if name != 'stream' and value != Faults.model_fields[name].default
        }
        listed = ', '.join(
            name if value is True else f'{name} {value:g}' for name, value in wrong.items()
        )
        return f'{self.stream}: {listed}' if listed else ''


class Event(Faults):
    """Faults for a while; times are seconds since the first message."""

    start_s: float = Field(ge=0, description='When they begin')
    end_s: float = Field(gt=0, description='When they are over')


class Scenario(Settings):
    """Faults over time, one event after the other."""

    events: tuple[Event, ...] = Field((), description='In the order of time, without overlap')

    @model_validator(mode='after')
    def _is_in_order(self) -> Self:
        before = 0.0
        for event in self.events:
            if not before <= event.start_s < event.end_s:
                raise ValueError(
                    f'an event from {event.start_s:g} to {event.end_s:g} s after one that ends at '
                    f'{before:g} s; each must end after it starts and start after the last one '
                    'ended, so put faults of the same time into one event'
                )
            before = event.end_s
        return self

    def at(self, elapsed_s: float) -> Event | None:
        """Return the event of a moment, None between two."""
        for event in self.events:
            if event.start_s <= elapsed_s < event.end_s:
                return event
        return None


class Outlet:
    """The way out of one stream's messages; the same seed suffers the same."""

    def __init__(self, stream: Stream, seed: int) -> None:
        self._stream = stream
        self._random = random.Random(f'{seed} {stream}')
        self._frozen: Image | None = None
        self._held: list[Image] = []

    def departures(self, message: Image, faults: Faults) -> list[tuple[float, Image]]:
        """Return what leaves now that a message is due, each with its delay in seconds."""
        faults = faults.befalling(self._stream)
        held, self._held = self._held, []
        if faults.silent:
            return []
        self._frozen = (self._frozen or message) if faults.freeze else None
        if self._random.random() < faults.drop:
            leaving = held
        else:
            copies = 2 if self._random.random() < faults.duplicate else 1
            leaving = [damaged(self._frozen or message, faults)] * copies
            if not held and self._random.random() < faults.reorder:
                self._held = leaving
                return []
            leaving += held
        return [(faults.delay_s + self._random.uniform(0, faults.jitter_s), m) for m in leaving]


def damaged(message: Image, faults: Faults) -> Image:
    """Return a message as its sensor would send it with these faults; the given one stays."""
    stamp = stamp_ns(message) + round(faults.clock_jump_s * NANOSECONDS)
    data = as_data(np.zeros(len(message.data), np.uint8)) if faults.covered else message.data
    header = header_message(0 if faults.zero_stamp else max(0, stamp), message.header.frame_id)
    return Image(
        header=header,
        height=message.height,
        width=message.width,
        encoding='unheard_of' if faults.wrong_encoding else message.encoding,
        is_bigendian=message.is_bigendian,
        step=message.step,
        data=data[: -message.step] if faults.wrong_size else data,
    )
