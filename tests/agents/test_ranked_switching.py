"""Our agent: a toy with one best switch, the proven optimum on ieee33, seed, file, bad input."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandapower
import pytest
import torch
from torch import Tensor

from feederguard.agents.learning.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from feederguard.agents.ranked_switching import RankedSwitching, RankedSwitchingConfig, _ranked_pct
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import Scenarios, Setting, judge, make_scenarios
from feederguard.models.network import Network
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.search import search_plans
from feeders import feeder

MESHED = Setting("meshed", False, 0.90, 1.10, active_limit_mw=2.0)
QUICK = RankedSwitchingConfig(epochs=5, hidden=32, batch=64)


def toy() -> Network:
    """0 feeds 1 and 3; behind 1 lies 2, fed after a fault by one of two ties.

    Tie 3-2 is short, tie 0-2 so long that closing it alone breaks the lower limit.
    """
    values = {
        "name": "toy",
        "p_load": [0, 0.1, 0.3, 0.1],
        "r": [0.01, 0.01, 0.01, 0.01, 0.5],
        "x": [0.01, 0.01, 0.01, 0.01, 0.5],
        "rating": 5.0,
    }
    return feeder("0-1 1-2 0-3 3-2:3~2 0-2:0~2", **values)


def pool(network: Network, count: int, seed: int) -> Scenarios:
    """The second line fails, at demands between half and the nominal one."""
    level = np.random.default_rng(seed).uniform(0.5, 1.0, (count, 1))
    return make_scenarios(
        network, np.full(count, 1), level * network.p_load, level * network.q_load
    )


@pytest.fixture(scope="module", params=["paper", "radial"])
def trained(request: pytest.FixtureRequest) -> RankedSwitching:
    network = load_network("ieee33")
    scenarios = sample_scenarios(network, load_profiles(), 800, seed=77, weeks="train").scenarios
    return RankedSwitching.train(
        network, request.param, scenarios, replace(QUICK, epochs=10, hidden=64)
    )


@pytest.mark.parametrize(
    "setting", [MESHED, Setting("radial", True, 0.90, 1.05)], ids=lambda s: s.name
)
@pytest.mark.newest
def test_toy_is_solved(setting: Setting) -> None:
    network = toy()
    agent = RankedSwitching.train(network, setting, pool(network, 100, 0), QUICK)
    scenarios = pool(network, 50, 1)
    done = agent.certify(scenarios)
    assert done.outcome.safe.all() and (done.outcome.cost == 3.0).all()
    assert (done.applied.closed == [1, 0, 1, 1, 0]).all()
    # What the ranking alone proposes is already that plan.
    assert (done.status == "as_proposed").all()


def test_near_the_optimum_and_always_safe(trained: RankedSwitching) -> None:
    """Test weeks, against the search over all tie states (paper) or a wide beam (radial)."""
    network = trained.network
    scenarios = sample_scenarios(network, load_profiles(), 200, seed=0).scenarios
    outcome = judge(network, scenarios, trained.decide(scenarios), trained.setting)
    best = search_plans(SwitchPlans(network, trained.setting), scenarios, beam=10).cost
    assert outcome.safe.all()
    assert (outcome.cost >= best * (1 - 3e-3)).all()
    assert outcome.cost.sum() <= 1.02 * best.sum()


def test_the_ranking_is_worth_something(trained: RankedSwitching) -> None:
    """With one plan to try, the ranking leaves at most half the gap of a choice in file order."""
    network = trained.network
    scenarios = sample_scenarios(network, load_profiles(), 200, seed=1).scenarios
    alone = trained.with_config(shortlist=1, exchange_rounds=0)
    layers = [(np.zeros_like(weight), np.zeros_like(bias)) for weight, bias in alone._layers]
    blind = RankedSwitching(network, alone.setting, alone.playbook, layers, alone.config)
    ranked, unranked = (
        judge(network, scenarios, agent.decide(scenarios), agent.setting)
        for agent in (alone, blind)
    )
    assert ranked.safe.all() and unranked.safe.all()
    best = search_plans(SwitchPlans(network, trained.setting), scenarios, beam=10).cost
    assert (ranked.cost - best).sum() < 0.5 * (unranked.cost - best).sum()


def test_training_leaves_a_learning_curve(trained: RankedSwitching) -> None:
    curve = trained.curve
    assert curve is not None and curve.epochs == tuple(range(1, 11))
    assert curve.loss[-1] < 0.9 * curve.loss[0]
    assert curve.first_pct[-1] > curve.first_pct[0]
    assert all(
        one <= several <= 100
        for one, several in zip(curve.first_pct, curve.shortlist_pct, strict=True)
    )
    assert trained.with_config(shortlist=1).curve is None


def test_the_cheapest_plan_is_looked_for_among_the_best_ranked() -> None:
    """Three scenarios: one winner, ranked first; two that tie, one ranked second; nothing safe."""
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    target = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    assert _ranked_pct(scores, target, 1) == 50.0
    assert _ranked_pct(scores, target, 2) == _ranked_pct(scores, target, 4) == 100.0
    assert np.isnan(_ranked_pct(scores[2:], target[2:], 1))


def test_batch_equals_one_by_one(trained: RankedSwitching) -> None:
    scenarios = sample_scenarios(trained.network, load_profiles(), 30, seed=2).scenarios
    batch = trained.decide(scenarios)
    for k in range(30):
        single = trained.decide(scenarios[k : k + 1])
        assert (single.closed[0] == batch.closed[k]).all()
        assert single.shed[0] == pytest.approx(batch.shed[k], abs=1e-9)


def test_certificates_hold_by_another_power_flow(trained: RankedSwitching) -> None:
    """pandapower finds the voltages and loading of a certificate from its switches and demand."""
    network, setting = trained.network, trained.setting
    scenarios = sample_scenarios(network, load_profiles(), 30, seed=2).scenarios
    done = trained.certify(scenarios)
    assert done.outcome.safe.all() and (done.residual_mva < 1e-7).all()
    assert (done.n_flows > 0).all() and done.seconds > 0
    sheds = (done.applied.shed > 0).any(axis=1)
    assert done.active[sheds].any(axis=1).all()
    if setting.name == "paper":
        assert sheds.any()
    for k in [int(np.argmax(done.outcome.shed_ratio)), *range(5)]:
        kept = 1.0 - done.applied.shed[k]
        shown = network.with_changes(
            closed=done.applied.closed[k],
            p_load=kept * scenarios.p_load[k],
            q_load=kept * scenarios.q_load[k],
            p_gen=scenarios.p_gen[k],
        )
        net = shown.to_pandapower()
        pandapower.runpp(net, tolerance_mva=1e-9)
        voltage, line = net.res_bus.vm_pu.to_numpy(), net.res_line
        assert done.outcome.v_min_pu[k] == pytest.approx(np.nanmin(voltage), abs=1e-7)
        assert (
            setting.v_min_pu - 1e-5 <= np.nanmin(voltage)
            and np.nanmax(voltage) <= setting.v_max_pu + 1e-5
        )
        if setting.active_limit_mw is None:
            loading = 0.01 * line.loading_percent.to_numpy()
        else:
            power = np.maximum(line.p_from_mw.abs(), line.p_to_mw.abs()).to_numpy()
            loading = power[setting.limited_branches(network)] / setting.active_limit_mw
        assert done.outcome.max_loading[k] == pytest.approx(np.nanmax(loading), abs=1e-6)
        assert np.nanmax(loading) <= 1 + 1e-5
        # The cost (1) of the load that is left and of the switches, at S_base = 0.1 MVA.
        shed_mw = (
            scenarios.p_load[k].sum() * network.base_mva
            - net.res_load.p_mw[net.load.in_service].sum()
        )
        moved = (done.applied.closed[k] != network.closed).sum() - 1
        assert done.outcome.cost[k] == pytest.approx(
            22 * (shed_mw / 0.1) ** 2 + 3 * moved**2, rel=1e-6
        )


def test_a_fault_never_met_in_training_is_searched() -> None:
    network = load_network("ieee33")
    some = sample_scenarios(network, load_profiles(), 200, seed=5, weeks="train").scenarios
    agent = RankedSwitching.train(network, "radial", some[some.fault != 6], QUICK)
    assert not len(agent.playbook.closed[agent.playbook.first[6] : agent.playbook.first[7]])
    done = agent.certify(some[some.fault == 6])
    assert done.outcome.safe.all() and done.outcome.connected.all()


def test_one_seed_gives_the_same_agent_twice() -> None:
    network = load_network("ieee33")
    some = sample_scenarios(network, load_profiles(), 150, seed=5, weeks="train").scenarios
    one, two = (RankedSwitching.train(network, "radial", some, QUICK) for _ in range(2))
    assert (one.playbook.closed == two.playbook.closed).all()
    assert all(
        (a == b).all() and (c == d).all()
        for (a, c), (b, d) in zip(one._layers, two._layers, strict=True)
    )
    other = RankedSwitching.train(network, "radial", some, replace(QUICK, seed=1))
    assert not (one._layers[0][0] == other._layers[0][0]).all()


def test_saved_and_loaded_decides_the_same(trained: RankedSwitching, tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    trained.save(path)
    again = RankedSwitching.load(path, trained.network, trained.setting)
    scenarios = sample_scenarios(trained.network, load_profiles(), 20, seed=3).scenarios
    assert again.config == trained.config
    assert (again.decide(scenarios).shed == trained.decide(scenarios).shed).all()


def test_files_that_do_not_fit_are_refused(trained: RankedSwitching, tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    trained.save(path)
    with pytest.raises(
        CheckpointError, match="trained on feeder 'ieee33', which differs from this 'bus69'"
    ):
        RankedSwitching.load(path, load_network("bus69"))
    other = "radial" if trained.setting.name == "paper" else "paper"
    with pytest.raises(CheckpointError, match="trained for setting .* expected"):
        RankedSwitching.load(path, trained.network, other)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        RankedSwitching.load(broken, trained.network)
    with pytest.raises(CheckpointError, match="there is no such file; train an agent"):
        RankedSwitching.load(tmp_path / "none.safetensors", trained.network)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0xFF
    broken.write_bytes(content)
    with pytest.raises(CheckpointError, match="its numbers are not those that were saved"):
        RankedSwitching.load(broken, trained.network)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("layers.1.weight", lambda t: t[:, :-1].contiguous(), "layers are of other sizes"),
        ("layers.2.bias", lambda t: t * float("nan"), "layers hold numbers that are not finite"),
        ("playbook.closed", lambda t: t | True, "closes the faulted branch"),
        ("playbook.first", lambda t: t.flip(0), "not one plan after another"),
    ],
)
def test_tensors_that_make_no_agent_are_refused(
    trained: RankedSwitching,
    tmp_path: Path,
    name: str,
    change: Callable[[Tensor], Tensor],
    said: str,
) -> None:
    """Written by somebody who kept the form: the checkpoint is whole, the agent in it is not."""
    path = tmp_path / "agent.safetensors"
    trained.save(path)
    known = load_checkpoint(path, kind="ranked_switching", network=trained.network)
    save_checkpoint(path, known.tensors | {name: change(known.tensors[name])}, known.metadata)
    with pytest.raises(CheckpointError, match=f"its agent does not fit together .*{said}"):
        RankedSwitching.load(path, trained.network)
    save_checkpoint(path, known.tensors, known.metadata | {"setting": "{"})
    with pytest.raises(CheckpointError, match="its setting cannot be read"):
        RankedSwitching.load(path, trained.network)


def test_much_generation_still_ends_safe_where_a_search_does(trained: RankedSwitching) -> None:
    network = trained.network
    scenarios = sample_scenarios(network, load_profiles(), 120, seed=9, pv_share=4.0).scenarios
    done = trained.certify(scenarios)
    possible = np.isfinite(search_plans(SwitchPlans(network, trained.setting), scenarios).cost)
    assert done.outcome.safe[possible].all()
    assert not (done.status[possible] == "impossible").any()
    assert all(done.reason[done.status == "impossible"])


def test_without_demand_nothing_is_switched_in_the_meshed_setting() -> None:
    network = load_network("ieee33")
    some = sample_scenarios(network, load_profiles(), 150, seed=5, weeks="train").scenarios
    agent = RankedSwitching.train(network, "paper", some, QUICK)
    zero = np.zeros((1, network.n_bus))
    idle = agent.certify(make_scenarios(network, "6", zero, zero, zero))
    assert idle.outcome.cost[0] == 0.0 and idle.outcome.n_operations[0] == 0


def test_empty_batch(trained: RankedSwitching) -> None:
    none = sample_scenarios(trained.network, load_profiles(), 1, seed=2).scenarios[:0]
    assert len(trained.decide(none)) == 0 and len(trained.certify(none)) == 0


def test_bad_input_is_named(trained: RankedSwitching) -> None:
    network = trained.network
    width = network.n_branch + 3 * network.n_bus
    with pytest.raises(
        ValueError, match=rf"observations have shape \(2, {width - 1}\); expected \(B, {width}\)"
    ):
        trained.scores(np.zeros((2, width - 1)))
    with pytest.raises(ValueError, match="an observation holds a value that is not finite"):
        trained.scores(np.full((1, width), np.nan))
    good = make_scenarios(network, "6")
    p_load = good.p_load.copy()
    p_load[0, 4] = np.nan
    with pytest.raises(ValueError, match="of bus '5' in scenario 0 is .*; give a finite number"):
        trained.decide(Scenarios(good.fault, p_load, good.q_load, good.p_gen))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("shortlist", 0, "must be at least 1"),
        ("exchange_rounds", -1, "must be zero or more"),
        ("search_share", 0.0, r"lies in \(0, 1\]"),
        ("rate", 0.0, "must be positive"),
    ],
)
def test_settings_are_checked(field: str, value: float, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} is {value}; it {said}$"):
        RankedSwitchingConfig(**{field: value})
