"""A plan as a Mermaid flow chart."""

from __future__ import annotations

from vpipe.plan import Plan


def mermaid(plan: Plan) -> str:
    """Return the run's processes and rings as Mermaid text, which most code hosts and editors draw."""
    lines = ["flowchart LR", f'    source(["{plan.config.name}: sources, {plan.config.source.sample}"])']
    lines += [f'    decode{i}["decode {i}"]' for i in range(plan.decode_workers)]
    lines += [f"    source --> decode{i}" for i in range(plan.decode_workers)]
    for branch in plan.branches:
        name = branch.name.replace("-", "_")
        model = "null" if branch.manifest is None else f"{branch.manifest.name} {branch.manifest.version}"
        lines.append(f'    pre_{name}["preprocess {branch.name}<br/>batch {branch.batch_size}"]')
        lines.append(f'    infer_{name}["infer {model}<br/>{branch.infer.device}, {branch.infer.streams} streams"]')
        frame, tensor = branch.frame_layout.slot_bytes, branch.tensor_layout.slot_bytes
        result = branch.result_layout.slot_bytes
        for i in range(plan.decode_workers):
            lines.append(f"    decode{i} -- {_ring(branch.frame_slots, frame)} --> pre_{name}")
        lines.append(f"    pre_{name} -- {_ring(branch.batch_slots, tensor)} --> infer_{name}")
        lines.append(f"    infer_{name} -- {_ring(branch.batch_slots, result)} --> postprocess")
    tasks = "<br/>".join(branch.task for branch in plan.branches)
    lines.append(f'    postprocess["postprocess<br/>{tasks}"]')
    for index, sink in enumerate(plan.config.sinks):
        lines.append(f'    postprocess --> sink{index}[("{sink.path or sink.kind}")]')
    return "\n".join(lines) + "\n"


def _ring(slots: int, slot_bytes: int) -> str:
    return f'"{slots} x {slot_bytes / 1024:.0f} KiB"'
