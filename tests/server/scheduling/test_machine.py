"""Everything that can happen to the scheduler, in virtual time. The simulator checks each step.

``KNIV_SEEDS=2000`` runs so many scenarios; ``KNIV_SEED=n`` draws others than the usual ones. A failing scenario is
printed, shrunk to the least that fails.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from math import inf
from random import Random

from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st
from tests.server.scheduling.simulator import Simulator, batching

from kniv.server.scheduling.policy import Admission, BatchLimits, LaneSpec, Policy, Pool, QueuePolicy
from kniv.server.scheduling.work import Item

SEEDS, SEED = int(os.environ.get("KNIV_SEEDS", "2000")), os.environ.get("KNIV_SEED")
OUTPUTS = (("pos_logits",), ("srl_logits",))
POOLS = (Pool("cuda:0", 1), Pool("cpu", 2))


@dataclass(frozen=True)
class Submit:
    lane: int
    item: Item
    deadline: float
    follows: bool
    guilty: bool
    count: int


@dataclass(frozen=True)
class Cancel:
    back: int


@dataclass(frozen=True)
class Reload:
    lane: int


@dataclass(frozen=True)
class Scenario:
    lanes: tuple[LaneSpec, ...]
    policy: Policy
    admission: Admission
    steps: tuple[tuple[float, Submit | Cancel | Reload], ...]
    noise: int


items = st.builds(
    Item,
    id=st.just(0),
    lane=st.just(""),
    length=st.sampled_from((3, 8, 10, 120)),
    outputs=st.sampled_from(OUTPUTS),
    level=st.integers(0, 4),
    client=st.integers(0, 4),
    size=st.integers(0, 1000),
    final=st.booleans(),
    timeout=st.sampled_from((0.0, 0.01, 0.05)),
    leads=st.booleans(),
)
submits = st.builds(
    Submit,
    lane=st.integers(0, 1),
    item=items,
    deadline=st.sampled_from((inf, inf, inf, inf, 0.2, 0.02)),
    follows=st.booleans(),
    guilty=st.sampled_from((False, False, False, False, False, False, True)),
    count=st.sampled_from((1, 2, 12, 12)),
)
steps = st.tuples(
    st.sampled_from((0.0, 0.0, 0.0, 0.001, 0.02)),
    submits | submits | submits | st.builds(Cancel, st.integers(1, 12)) | st.builds(Reload, st.integers(0, 1)),
)
policies = st.builds(
    QueuePolicy,
    timeout=st.sampled_from((0.0, 0.02)),
    on_timeout=st.sampled_from(("reject", "delay")),
    allow_timeout_override=st.booleans(),
    max_queue_size=st.sampled_from((0, 0, 5)),
)
lanes = st.builds(
    LaneSpec,
    name=st.just(""),
    instances=st.sampled_from(({"cpu": 2}, {"cpu": 1}, {"cuda:0": 1}, {"cuda:0": 1, "cpu": 2})),
    batching=st.builds(
        lambda delay, levels: batching(len(levels), delay, levels),
        st.sampled_from((0.0, 0.0, 0.005)),
        st.lists(policies, min_size=1, max_size=3),
    ),
    limits=st.builds(
        BatchLimits, st.sampled_from((40, 600)), st.sampled_from((1, 3, 8, 8)), st.sampled_from((1.0, 1.5, 4.0))
    ),
)
scenarios = st.builds(
    Scenario,
    lanes=st.tuples(lanes, lanes),
    policy=st.builds(
        Policy,
        st.sampled_from((0.01, 0.1, 2.0, inf)),
        st.sampled_from((0.0, 0.1, 0.5)),
        st.sampled_from((0.005, 0.1, 1.0)),
    ),
    admission=st.builds(
        Admission,
        st.sampled_from((20, 1000)),
        st.sampled_from((8000, 1 << 20)),
        st.sampled_from((10, 1000)),
        st.sampled_from((4000, 1 << 20)),
    ),
    steps=st.sampled_from((1, 8, 30))
    .flatmap(lambda size: st.lists(steps, min_size=size, max_size=2 * size))
    .map(tuple),
    noise=st.integers(0, 1000),
)


def play(scenario: Scenario) -> Simulator:
    random, guilty = Random(scenario.noise), set[int]()
    room = Simulator(
        POOLS,
        scenario.policy,
        scenario.admission,
        lambda rows, length: random.uniform(0.5, 2) * (0.003 + 0.0002 * rows * length),
        guilty.__contains__,
    )
    names = [f"lane{n}" for n in range(2)]
    for name, spec in zip(names, scenario.lanes, strict=True):
        room.lane(name, replace(spec, name=name))
    reloads, number, time = 0, 0, 0.0

    def step(action: Submit | Cancel | Reload, number: int) -> None:
        nonlocal reloads
        match action:
            case Submit(lane, item, deadline, follows, bad, count):
                arrival = max(0.0, room.now - 0.01) if follows else None
                if bad:
                    guilty.add(number * 100 + number % 2)
                ends = room.now + deadline
                item = replace(item, lane=names[lane], deadline=ends, arrival=arrival)
                for copy in range(count):
                    room.admit(replace(item, id=number * 100 + copy, length=item.length + copy // 4))
            case Cancel(back):
                for copy in range(12):
                    room.cancel((number - back) * 100 + copy)
            case Reload(lane):
                reloads += 1
                room.scheduler.close_lane(names[lane])
                names[lane] = f"lane{lane}.{reloads}"
                room.lane(names[lane], replace(scenario.lanes[lane], name=names[lane]))

    for number, (gap, action) in enumerate(scenario.steps, 1):
        time += gap
        room.at(time, lambda action=action, number=number: step(action, number))
    room.run()
    room.check_over()
    assert all(room.scheduler.has_lane(name) == (name in names) for name in room.lanes)
    return room


@given(scenarios)
@settings(
    max_examples=SEEDS,
    derandomize=SEED is None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
def scenario_holds(scenario: Scenario) -> None:
    note(f"KNIV_SEED={SEED or 'unset'}")
    play(scenario)


def test_whatever_happens_the_invariants_hold() -> None:
    print(f"KNIV_SEEDS={SEEDS} KNIV_SEED={SEED or 'unset: derandomised'}")
    (scenario_holds if SEED is None else seed(int(SEED))(scenario_holds))()
