"""Checkpoints of agents: tensors and words in one safetensors file, without code.

A checkpoint says what kind of agent it is, and holds the fingerprint of the feeder and the setting
it was trained for. The setting is one of load transfer, or words that say what else the agent
depends on, such as its batteries. An agent of another feeder would answer with the right number of
switches and the wrong ones, so loading refuses it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from feederguard.models.load_transfer import Setting
from feederguard.models.network import Network

# What a feeder is called changes nothing that an agent learned.
_LABELS = ("name", "bus_name", "branch_name", "gen_name", "cost_error")
# Left out where they are empty: feeders without them keep the fingerprints of their agents.
_MAY_BE_ABSENT = ("gen_cost_lines", "devices")
_REQUIRED = ("kind", "network", "fingerprint", "setting")


class CheckpointError(ValueError):
    """A file is not the checkpoint asked for; the message names file, content and remedy."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def setting(self) -> Setting:
        """The setting it was trained for."""
        known = json.loads(self.metadata["setting"])
        names = {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
        return Setting(**(known | names))


def network_fingerprint(network: Network) -> str:
    """Return a hash of every array and number of the feeder, names left out, in hexadecimal.

    Numbers are rounded to ten significant digits first: one feeder read by two machines may differ
    in the last bit.
    """
    digest = hashlib.sha256()
    for field in fields(network):
        if field.name in _LABELS:
            continue
        value = getattr(network, field.name)
        if field.name in _MAY_BE_ABSENT and (value is None or not np.size(value)):
            continue
        if field.name == "priority" and (np.asarray(value) == 1).all():
            continue
        if field.name == "kind":
            text = ",".join(value)
        elif field.name == "devices":
            text = value.text
        else:
            # Adding 0.0 makes numbers of flags, and one zero of the two.
            text = ",".join(f"{item:.10g}" for item in (np.asarray(value).ravel() + 0.0).tolist())
        digest.update(f"{field.name}={text};".encode())
    return digest.hexdigest()[:32]


def setting_text(setting: Setting) -> str:
    """Return a setting as one line of JSON, every field by name; `blocked` only where it blocks."""
    values = {field.name: getattr(setting, field.name) for field in fields(setting)}
    if not setting.blocked:
        del values["blocked"]
    return json.dumps(values, sort_keys=True)


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata to `path`; a file of that name is replaced whole or not at all.

    metadata holds at least `kind`, `network` (the feeder's name), `fingerprint` and `setting`;
    `agent_metadata` makes them. Raises ValueError when one is missing, `CheckpointError` when there
    is no such folder.
    """
    missing = [name for name in _REQUIRED if name not in metadata]
    if missing:
        raise ValueError(
            f"save_checkpoint: metadata lacks {missing[0]!r}; agent_metadata(...) gives all that "
            "is needed"
        )
    path = Path(path)
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: there is no folder {path.parent}; make it first")
    # In the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        whole = {name: value.detach().contiguous() for name, value in tensors.items()}
        save_file(whole, temporary, metadata | {"tensors": _tensors_digest(whole)})
        # A temporary file is its owner's alone; a checkpoint is a file like any other.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def agent_metadata(kind: str, network: Network, setting: Setting | str) -> dict[str, str]:
    """Return the metadata by which `load_checkpoint` recognises an agent.

    setting: a `Setting`, or words that are kept as they are.
    """
    return {
        "kind": kind,
        "network": network.name,
        "fingerprint": network_fingerprint(network),
        "setting": _text(setting),
    }


def load_checkpoint(
    path: str | Path, *, kind: str, network: Network, setting: Setting | str | None = None
) -> Checkpoint:
    """Return the checkpoint at `path`; setting None takes the one it was trained for, a `Setting`.

    Raises `CheckpointError` when the file is missing, not a whole safetensors file, not of this
    kind of agent, or of another feeder or setting.
    """
    path = Path(path)
    checkpoint = _read(path)
    known = checkpoint.metadata
    missing = [name for name in _REQUIRED if name not in known]
    if missing:
        raise CheckpointError(
            f"{path}: no {missing[0]!r} in its metadata; give a file written by an agent's save"
        )
    if known.get("tensors") != _tensors_digest(checkpoint.tensors):
        raise CheckpointError(
            f"{path}: its numbers are not those that were saved; the file is damaged: train and "
            "save again"
        )
    if known["kind"] != kind:
        raise CheckpointError(
            f"{path}: holds a {known['kind']!r} agent, expected {kind!r}; load it with its own "
            "class"
        )
    if known["fingerprint"] != network_fingerprint(network):
        raise CheckpointError(
            f"{path}: trained on feeder {known['network']!r}, which differs from this "
            f"{network.name!r} (loads, lines, limits or switches); train an agent for this feeder, "
            "or load the feeder it was trained on"
        )
    if setting is not None and known["setting"] != _text(setting):
        raise CheckpointError(
            f"{path}: trained for setting {known['setting']}, expected {_text(setting)}; "
            "train an agent for this setting, or load the one of this setting"
        )
    if isinstance(setting, str):
        return checkpoint
    try:
        checkpoint.setting  # noqa: B018 (that it can be read is the question)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: its setting cannot be read ({error}); train and save again"
        ) from error
    return checkpoint


def _text(setting: Setting | str) -> str:
    return setting if isinstance(setting, str) else setting_text(setting)


def _tensors_digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def _read(path: Path) -> Checkpoint:
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such file; train an agent and save it there first"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return Checkpoint(
                {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
            )
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); it is damaged or of another format: "
            "train and save again"
        ) from error
