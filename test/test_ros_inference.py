"""The worker always takes the newest item, and says which ones it had to let go."""

import threading

import pytest

pytest.importorskip('rclpy', reason='needs rclpy: pip install .[ros]')

from ros_graph import wait_until

from fusion_perception.ros.inference import NewestWorker


def busy_with(item):
    """Return a worker at an item, what lets it go on, and what gets done and superseded."""
    begun, go_on = threading.Event(), threading.Event()
    done, superseded = [], []

    def work(item):
        begun.set()
        go_on.wait(10)
        done.append(item)

    worker = NewestWorker(work, superseded.append)
    worker.submit(item)
    assert begun.wait(10)
    return worker, go_on, done, superseded


def test_while_one_item_is_worked_on_only_the_newest_of_the_others_waits():
    worker, go_on, done, superseded = busy_with(1)
    for item in (2, 3, 4):
        worker.submit(item)
    # Whoever submits does not wait for the work.
    assert (superseded, done) == ([2, 3], [])
    go_on.set()
    worker.submit(5)
    worker.stop()
    assert sorted(done + superseded) == [1, 2, 3, 4, 5]
    assert done[0] == 1


def test_stopping_lets_the_item_under_way_finish_and_gives_up_the_waiting_one():
    worker, go_on, done, superseded = busy_with('under way')
    worker.submit('waiting')
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    wait_until(lambda: worker._stopping, 'the stop to begin')
    go_on.set()
    stopping.join(10)
    assert (done, superseded) == (['under way'], ['waiting'])


def test_a_worker_without_work_stops_at_once():
    worker = NewestWorker(lambda item: None, lambda item: None)
    worker.stop()
    assert not any(thread.name == 'inference' for thread in threading.enumerate())
