"""The response plan's ring, against a list."""

from hypothesis import given
from hypothesis import strategies as st

from pgferry.engine.core.plan import Flag, Kind, Plan
from pgferry.engine.ops import harness

entry = st.tuples(
    st.sampled_from(list(Kind)),
    st.sampled_from([0, 1, 2, 4, 8, 12, 9, 20, 16, 32, 64, 84]),
    st.integers(0, 2**32 - 1),
)


@given(st.lists(st.one_of(entry, st.just("pop"))))
def test_against_a_list(steps: list[tuple[Kind, int, int] | str]) -> None:
    plan, model = Plan(), []
    for step in steps:
        if isinstance(step, tuple):
            harness.plan_push(plan, *step)
            model.append(step)
        elif model:
            assert harness.plan_pop(plan) == model.pop(0)
        assert plan.entries() == model
        assert len(plan) == len(model)
        assert plan.unnamed == sum(bool(flags & Flag.F_UNNAMED) for _, flags, _ in model)
        assert plan.drops == sum(bool(flags & Flag.F_DROPS) for _, flags, _ in model)
        assert plan.turns == sum(ends_a_batch(e) for e in model)
        settling = [changes_names(flags) for _, flags, _ in model]
        assert plan.effects == sum(settling)
        last = max((i for i, e in enumerate(model) if ends_a_batch(e)), default=-1)
        assert plan.batch == sum(settling[last + 1 :])
        assert harness.plan_unsettled(plan) == (sum(settling[: last + 1]) > 0)


def changes_names(flags: int) -> bool:
    ours = flags & (Flag.F_CLIENT_OP | Flag.F_SERVER_OP) and not flags & Flag.F_UNNAMED
    return bool(ours or flags & Flag.F_DROPS)


def ends_a_batch(e: tuple[Kind, int, int]) -> bool:
    return e[0] <= Kind.K_SYNC and not e[1] & Flag.F_SWALLOW


@given(st.lists(entry), st.integers(0, 10))
def test_syncs_in_copy_mode_are_taken_out(entries: list[tuple[Kind, int, int]], popped: int) -> None:
    plan = Plan()
    for e in entries:
        harness.plan_push(plan, *e)
    rest = entries[popped:]
    for _ in range(min(popped, len(entries))):
        harness.plan_pop(plan)
    kept = [e for e in rest if not (e[0] == Kind.K_SYNC and e[1] & Flag.F_IN_COPY)]
    assert harness.plan_drop_syncs_in_copy(plan) == len(rest) - len(kept)
    assert plan.entries() == kept


def test_thousands_of_entries_keep_their_order() -> None:
    plan = Plan()
    for i in range(5):
        harness.plan_push(plan, Kind.K_SYNC, 0, i)
        harness.plan_pop(plan)
    for i in range(3000):
        harness.plan_push(plan, Kind.K_BIND, 0, i)
    assert [number for _, _, number in plan.entries()] == list(range(3000))
