"""Torch runs on one thread inside, and as before after, even after an error."""

import pytest
import torch

from feederguard.agents.learning.one_thread import one_thread


def test_the_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), one_thread():
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
