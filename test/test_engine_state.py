"""What engines keep from call to call, and what of the process they leave as it was."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fusion_perception.engines.base import whole_float32


@pytest.mark.parametrize('before', [True, False])
def test_threads_that_need_whole_float32_at_once_have_it_and_leave_the_switch_as_it_was(
    monkeypatch, before
):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', before)
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        with whole_float32():
            first_in.set()
            assert second_in.wait(10)
        first_out.set()

    def second():
        assert first_in.wait(10)
        with whole_float32():
            second_in.set()
            assert first_out.wait(10)
            return torch.backends.cudnn.allow_tf32

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(first), pool.submit(second)
        one.result()
        assert other.result() is False, 'the second thread is still inside'
    assert torch.backends.cudnn.allow_tf32 is before


def test_whole_float32_within_whole_float32_and_after_a_fault_leaves_the_switch_as_it_was():
    assert torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyError), whole_float32(), whole_float32():
        raise KeyError
    assert torch.backends.cudnn.allow_tf32
