"""The matrices of a MATPOWER case, as its file has them."""

from __future__ import annotations

from dataclasses import dataclass

from feederguard.models.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class MatpowerCase:
    """The matrices of a case after its own unit conversions.

    Units are MW, Mvar, kV, degrees, and per unit on base_mva. Columns are MATPOWER's (`bus[:, 2]`
    is PD). A matrix that the file lacks has no rows.
    """

    name: str
    base_mva: float
    bus: FloatArray  # (n_bus, 13 or more)
    gen: FloatArray  # (n_gen, 10 or more)
    branch: FloatArray  # (n_branch, 11 or more)
    gencost: FloatArray  # (n_gen or 2 n_gen, 4 or more)
    bus_name: tuple[str, ...]
    other_fields: tuple[str, ...]  # names of other fields that are not empty; values are not kept
    other_tables: tuple[str, ...]  # those of them that hold numbers
