"""Checkpoints: what goes in comes out, whole or not at all; any other file is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from feederguard.agents.learning.checkpoint import (
    CheckpointError,
    agent_metadata,
    load_checkpoint,
    network_fingerprint,
    save_checkpoint,
)
from feederguard.models.load_transfer import Setting
from feeders import row

SETTING = Setting("radial", True, 0.9, 1.05)
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([0.5])}


def line(n_bus=3, **changes):
    """A feeder of n_bus buses in a row."""
    values = {
        "name": "row",
        "base_mva": 10.0,
        "vn_kv": 12.66,
        "p_load": 0.01,
        "branch_name": [str(k) for k in range(n_bus - 1)],
    }
    return row(n_bus, **values | changes)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "agent.safetensors"
    save_checkpoint(path, TENSORS, agent_metadata("ddpg", line(), SETTING) | {"note": "seven"})
    return path


def test_what_was_saved_is_loaded(saved):
    checkpoint = load_checkpoint(saved, kind="ddpg", network=line(), setting=SETTING)
    assert checkpoint.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(checkpoint.tensors[name], value) for name, value in TENSORS.items())
    assert checkpoint.metadata["note"] == "seven"
    assert checkpoint.setting == SETTING


def test_a_setting_with_its_own_switches_comes_back(tmp_path):
    own = Setting("own", False, 0.92, 1.08, 1.5, ("0", "1"))
    save_checkpoint(tmp_path / "x", TENSORS, agent_metadata("ddpg", line(), own))
    assert load_checkpoint(tmp_path / "x", kind="ddpg", network=line()).setting == own


def test_the_fingerprint_sees_what_matters_and_nothing_else():
    known = network_fingerprint(line())
    assert (
        network_fingerprint(line(name="other", bus_name=["a", "b", "c"], branch_name=["d", "e"]))
        == known
    )
    for changes in (
        {"r": [0.01, 0.02]},
        {"closed": [True, False]},
        {"p_load": [0.0, 0.01, 0.02]},
        {"rating": [1.0, np.inf]},
        {"v_substation": [1.02]},
        {"kind": ["line", "trafo"]},
        {"paper_limit_mw": 0.9},
        {"to_bus": [1, 0], "from_bus": [2, 2]},
    ):
        assert network_fingerprint(line(**changes)) != known, changes
    assert network_fingerprint(line(q_load=[0.0, -0.0, 0.0])) == known
    # Written out, so that a checkpoint of today is known tomorrow and elsewhere.
    assert network_fingerprint(line(r=[0.1 + 0.2, 0.01])) == network_fingerprint(
        line(r=[0.3, 0.01])
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "ranked"}, "holds a 'ddpg' agent, expected 'ranked'; load it with its own class"),
        (
            {"network": line(4)},
            "trained on feeder 'row', which differs from this 'row' .*; train an agent for this "
            "feeder",
        ),
        (
            {"network": line(r=[0.01, 0.02], name="else")},
            "trained on feeder 'row', which differs from this 'else'",
        ),
        (
            {"setting": replace(SETTING, v_min_pu=0.95)},
            'trained for setting .*"v_min_pu": 0.9, .*expected .*0.95, .*; train',
        ),
    ],
    ids=["kind", "size", "impedance", "setting"],
)
def test_another_agent_is_refused(saved, asked, message):
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved, **({"kind": "ddpg", "network": line(), "setting": SETTING} | asked))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match="none.safetensors: there is no such file; train an agent"
    ):
        load_checkpoint(tmp_path / "none.safetensors", kind="ddpg", network=line())


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-4],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: b"PK\x03\x04" + data[4:],
    ],
    ids=["cut", "cut in its header", "empty", "another format"],
)
def test_a_damaged_file_is_refused(saved, damage):
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(
        CheckpointError, match="not a whole safetensors file .*train and save again"
    ):
        load_checkpoint(saved, kind="ddpg", network=line())


def test_safetensors_of_another_program_are_refused(tmp_path):
    save_file(TENSORS, tmp_path / "x", {"kind": "ddpg"})
    with pytest.raises(
        CheckpointError,
        match="no 'network' in its metadata; give a file written by an agent's save",
    ):
        load_checkpoint(tmp_path / "x", kind="ddpg", network=line())


def test_a_failed_save_leaves_the_old_file_and_no_litter(saved):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(saved, TENSORS, agent_metadata("ddpg", line(), SETTING) | {"note": 7})
    with pytest.raises(ValueError, match="metadata lacks 'network'; agent_metadata"):
        save_checkpoint(saved, TENSORS, {"kind": "ddpg"})
    with pytest.raises(CheckpointError, match="there is no folder .*nowhere; make it first"):
        save_checkpoint(
            saved.parent / "nowhere" / "x", TENSORS, agent_metadata("ddpg", line(), SETTING)
        )
    assert saved.read_bytes() == before
    assert [item.name for item in saved.parent.iterdir()] == [saved.name]
