"""Physics and algebra: feeders, AC power flow, Pyomo models, their compiled forms, and the judge.

Each law is written once. Where it stands:

    pi-model of a branch, shunts of hanging branches    network/pi_model.py
    who is fed, zones, trees, loops                     network/graph.py
    blocks; trip, isolation and re-closing              devices/isolation.py
    AC flow as computed, Newton's method on a tree      power_flow/newton_sweep.py
    AC flow as constraints                              equations/ac.py
    DistFlow; with switches                             equations/distflow.py; switched_distflow.py
    current, power and angle limits of a branch         equations/branch_limits.py
    radiality; which way a branch is fed                equations/radiality.py; feeding_direction.py
    SOC of a battery; what a step can do                equations/battery.py; battery/step.py
    cost (1), limits (4), (5) of load transfer          load_transfer/rules.py
    rewards (10), (11), (21) of load transfer           load_transfer/judge.py
    reward and band of voltage regulation               voltage_regulation/rules.py
    safety QP; SOC tube                                 safety_qp/statement.py; soc_tube/plan.py

The problems made of them: reconfiguration.py, ac_opf.py, distflow_opf.py.
"""

from typing import TYPE_CHECKING

from feederguard.models.lazy_face import lazy_face

if TYPE_CHECKING:
    from feederguard.models.load_transfer import judge, make_scenarios
    from feederguard.models.network import Network
    from feederguard.models.power_flow import solve_power_flow
    from feederguard.models.solver import solve

__all__ = ["Network", "judge", "make_scenarios", "solve", "solve_power_flow"]

__getattr__ = lazy_face(
    __name__,
    {
        "Network": "feederguard.models.network",
        "judge": "feederguard.models.load_transfer",
        "make_scenarios": "feederguard.models.load_transfer",
        "solve": "feederguard.models.solver",
        "solve_power_flow": "feederguard.models.power_flow",
    },
)
