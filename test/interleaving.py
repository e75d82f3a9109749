"""Let something happen between the lines of a function, as another thread may make it."""

import contextlib
import sys


@contextlib.contextmanager
def before_each_line(function, act):
    """Act before each line of a function that this thread calls meanwhile."""

    def trace(frame, event, _):
        if frame.f_code is function.__code__ and event == 'line':
            act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
