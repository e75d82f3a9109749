"""Let messages of both sensors arrive at a pairer: each is its own stamp, in milliseconds."""

from fusion_perception.sensing.pairing import Pair, Pairer, PairingSettings

MS = 1_000_000


def pairer(**values) -> Pairer[int]:
    return Pairer(
        PairingSettings(**{'slop_s': 0.02, 'wait': 'certain', 'allow_single': False, **values})
    )


def feed(pairing: Pairer[int], *arrivals: tuple[str, int]) -> list[Pair[int]]:
    """Add (stream, milliseconds) in this order; the message is its own stamp in milliseconds."""
    return [pair for stream, ms in arrivals for pair in pairing.add(stream, ms * MS, ms)]


def both(pairs: list[Pair[int]]) -> list[tuple[int | None, int | None]]:
    return [(pair.camera, pair.lidar) for pair in pairs]


def dropped(pairing: Pairer[int], stream: str) -> dict[str, int]:
    counts = pairing.counters()[stream]['dropped']
    return {cause: count for cause, count in counts.items() if count}
