"""The number of usable cores, and computing on one of them."""

import numba
import torch

from feederguard.studies.running.cores import n_cores, one_core


def test_there_is_a_core() -> None:
    assert n_cores() >= 1


def test_threads_are_one_inside_and_as_before_outside() -> None:
    before = numba.get_num_threads(), torch.get_num_threads()
    with one_core():
        assert (numba.get_num_threads(), torch.get_num_threads()) == (1, 1)
    assert (numba.get_num_threads(), torch.get_num_threads()) == before
