"""What times the stamp of a message can tell."""

from __future__ import annotations

# The seconds of builtin_interfaces/msg/Time have 31 bits and a sign, and end in 2038.
END_OF_STAMPS_S = 2**31


def can_be_stamp(time_ns: int) -> bool:
    """Say whether a message can be stamped with a time in nanoseconds: 0 is that of none."""
    return 0 < time_ns < END_OF_STAMPS_S * 1_000_000_000
