"""What a message holds is decoded when it is asked for, and each thread asks for its own."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fusion_perception.sensing.intake import Frame


def test_a_frame_is_decoded_while_another_thread_decodes_another():
    begun, go_on = threading.Event(), threading.Event()

    def slowly():
        begun.set()
        assert go_on.wait(10)
        return np.zeros((2, 2), np.float32)

    slow = Frame('lidar', '', slowly)
    quick = Frame('lidar', '', lambda: np.ones((2, 2), np.float32))
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(lambda: slow.values)
        assert begun.wait(10)
        assert pool.submit(lambda: quick.values).result(5).all()
        go_on.set()
        assert not waiting.result(10).any()
