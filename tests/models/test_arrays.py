"""Arrays for kernels, and the threads they run on."""

import numba
import numpy as np
from numpy.testing import assert_array_equal

from feederguard.models.arrays import WORTH_SHARING_US, plain, threads_for


def test_a_plain_array_is_handed_on_and_another_copied():
    good = np.arange(6.0).reshape(2, 3)
    frozen = good.copy()
    frozen.setflags(write=False)

    assert plain(good) is good
    for array in (frozen, good.T, good[:, ::2], good.tolist()):
        copy = plain(array, np.float64)
        assert copy.flags.c_contiguous and copy.flags.writeable and copy.dtype == np.float64
        assert_array_equal(copy, array)
    assert plain([True, False]).dtype == np.bool_
    assert plain(good, np.int64).dtype == np.int64


def test_small_work_runs_on_one_thread_and_the_count_comes_back():
    before = numba.get_num_threads()
    with threads_for(WORTH_SHARING_US - 1):
        assert numba.get_num_threads() == 1
    assert numba.get_num_threads() == before
    with threads_for(WORTH_SHARING_US):
        assert numba.get_num_threads() == before
