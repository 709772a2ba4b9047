"""A plan's reasons in words, as they stand in config.pbtxt."""

from __future__ import annotations

from builder.planner import AROUND_MS, Facts, Plan, Split, call_ms
from builder.spec import Batch, Serving


def why_instances(plan: Plan, facts: Facts, serving: Serving) -> str:
    """Why so many instances of so many threads."""
    split, costs = plan.split, facts.costs
    head = f"{_way(split)}; together never more than {facts.cores} cores"
    if serving.instances is not None or serving.threads is not None:
        fixed = [name for name in ("instances", "threads") if getattr(serving, name) is not None]
        head += f"; the spec fixes {' and '.join(fixed)}"
    if costs is None:
        return f"{head}; nothing was measured"
    parts = [head, f"expected by times measured in process: {_expected(split)}"]
    if plan.others:
        best = max(plan.others, key=lambda way: way.rate)
        parts.append(f"{_way(best)}: {_expected(best)}")
    most = max(call.threads for call in costs.calls)
    if most != facts.cores:
        parts.append(f"planned for {facts.cores} cores from measurements on {most}")
    flags = ", ".join(facts.isa_flags)
    parts.append(f"planned for {serving.goal}, on a CPU with {flags}" if flags else f"planned for {serving.goal}")
    if costs.disturbed:
        parts.append("measured while other work took the CPU; `trident build --retime` on a quiet machine plans anew")
    if facts.nodes > 1:
        parts.append(f"no instance spans two of the {facts.nodes} NUMA nodes")
    if plan.crowded_out:
        parts.append(f"more of them would take over a quarter of the memory of {facts.memory_bytes / 1e6:.0f} MB")
    parts.append(f"about {costs.resident_bytes / 1e6:.0f} MB each")
    return ";\n# ".join(parts)


def _way(split: Split) -> str:
    return f"{split.instances} x {split.threads} thread{'s' * (split.threads > 1)}"


def _expected(split: Split) -> str:
    rate = f"{split.rate:.0f}" if split.rate >= 100 else f"{split.rate:.3g}"
    return f"{rate} samples/s in full batches, {split.lone_ms:.3g} ms for a lone request"


def why_batch(plan: Plan, facts: Facts, batch: Batch, proven: str) -> str:
    """Why this limit. `proven` says at which sizes the batch axis was run."""
    costs, threads = facts.costs, plan.split.threads
    if costs is None:
        return f"the spec's batch.max; the batch axis was run at {proven}"
    if batch.wished is None:
        alone, there = (call_ms(costs, threads, size) / size for size in (1, plan.batch))
        last = max(call.batch for call in costs.calls)
        beyond = call_ms(costs, threads, last) / last
        return (
            f"the knee of the measured times: a sample takes {alone:.3g} ms alone, {there:.3g} ms in a batch of "
            f"{plan.batch}, {beyond:.3g} ms in one of {last},\n# and the server about {AROUND_MS} ms for each batch; "
            f"`batch.max` in the spec fixes the limit;\n# the batch axis was run at {proven}"
        )
    knee = f"a sample costs hardly less beyond a batch of {plan.split.knee}"
    return f"the spec's batch.max; the batch axis was run at {proven}; {knee}"


def why_delay(plan: Plan, facts: Facts) -> str:
    """Why this delay."""
    known = facts.costs is not None
    saves = f"sharing a batch of two saves {plan.worth_us:.0f} us" if plan.worth_us else "sharing a batch saves nothing"
    if not plan.delay_us:
        why = "no delay: on a CPU the queue fills while the instance is busy, and waiting only adds latency"
        return f"{why}; {saves}, so no longer wait could pay" if known else why
    why = f"waits up to {plan.delay_us} us for a fuller batch, as the spec asks"
    if not known:
        return why
    return f"{why}; {saves}{', less than the wait' if plan.delay_us > plan.worth_us else ''}"
