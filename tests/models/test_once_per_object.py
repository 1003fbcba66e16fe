"""An answer is computed once per object, and goes with it."""

import gc
import weakref

from feederguard.models.once_per_object import once_per_object


class Thing:
    """Something that can be referred to weakly."""


def test_each_object_and_each_further_argument_is_computed_once():
    calls = []

    @once_per_object
    def computed(thing, word="none"):
        calls.append(word)
        return [word]

    first, second = Thing(), Thing()
    assert computed(first) is computed(first)
    assert computed(first, "a") is computed(first, "a")
    assert computed(second) is not computed(first)
    assert calls == ["none", "a", "none"]


def test_an_answer_is_freed_with_its_object():
    answer = Thing()
    seen = weakref.ref(answer)

    @once_per_object
    def computed(thing, held):
        return held

    thing = Thing()
    computed(thing, answer)
    del thing, answer
    gc.collect()
    assert seen() is None
