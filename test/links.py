"""Where frames are in others, shaped as geometry_msgs has it."""

from types import SimpleNamespace


def link(parent, child, shift=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0, 1.0), time_ns=0):
    """Return where a frame is in another: metres, and x, y, z, w."""
    x, y, z, w = turn
    stamp = SimpleNamespace(sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=parent, stamp=stamp),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(**dict(zip('xyz', shift, strict=True))),
            rotation=SimpleNamespace(x=x, y=y, z=z, w=w),
        ),
    )
