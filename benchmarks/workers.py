"""Measurements, each in a process of its own: `python -m benchmarks.workers TASK ARGUMENT…`.

The last line of standard output is the result as JSON.
"""
import contextlib
import gc
import json
import logging
import resource
import statistics
import sys
import time
import warnings

from benchmarks.cases import CASES
from benchmarks.peers import NEEDS_INPUTS, TOOLS, silence

ROUNDS = 9


def correctness(framework):
    """What each tool says of each case, held against the truth."""
    return [{"case": case.name, "quantity": quantity, "truth": truth,
             "answers": {tool: answer(case, tool, function, quantity)
                         for tool, function in TOOLS[framework].items()}}
            for case in CASES[framework] for quantity, truth in case.truth.items()]


def answer(case, tool, function, quantity):
    """The number a tool gives on a fresh model; None where it does not tell; or how it failed."""
    model = case.build()
    if tool in NEEDS_INPUTS and case.inputs is None:
        return "not tried"
    try:
        with silence():
            values, _ = function(model, case.inputs(model) if case.inputs else None)
    except Exception as error:
        return {"error": type(error).__name__}
    return values.get(quantity)


def find(name):
    """A case and its framework."""
    return next((case, framework) for framework, cases in CASES.items() for case in cases
                if case.name == name)


def call(function, case, model):
    """One silent call, with fresh inputs, and the seconds it took."""
    inputs = case.inputs(model) if case.inputs else None
    with silence():
        started = time.perf_counter()
        function(model, inputs)
        return time.perf_counter() - started


def speed(name):
    """Median seconds of each tool on one model, in rounds that take turns."""
    case, framework = find(name)
    model, seconds = case.build(), {}
    tools = dict(TOOLS[framework])
    for tool, function in list(tools.items()):
        try:
            call(function, case, model)  # warm-up, and a look whether the tool can do it
            seconds[tool] = []
        except Exception as error:
            seconds[tool] = {"error": type(error).__name__}
            del tools[tool]
    for _ in range(ROUNDS):
        for tool, function in tools.items():
            gc.collect()
            seconds[tool].append(call(function, case, model))
    return {tool: statistics.median(found) if isinstance(found, list) else found
            for tool, found in seconds.items()}


def memory(name, tool):
    """Extra peak memory of one tool's first call on a model, after its imports."""
    case, framework = find(name)
    function, model = TOOLS[framework][tool], case.build()
    small = CASES["torch"][8] if framework == "torch" else CASES["keras"][2]
    try:
        call(function, small, small.build())  # imports what the tool imports late
        before = start_peak()
        call(function, case, model)
    except Exception as error:
        return {"error": type(error).__name__}
    return (peak() - before) / 1e6


def start_peak():
    """Forget the highest resident memory so far where the system can; bytes held now."""
    gc.collect()
    with contextlib.suppress(OSError):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    return peak()


def peak():
    """The highest resident memory in bytes."""
    with contextlib.suppress(OSError):
        with open("/proc/self/status") as file:
            fields = dict(line.split(":", 1) for line in file)
            return 1024 * int(fields["VmHWM"].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def tiny(name):
    """A configuration of the same class with one layer: it brings all imports and little else."""
    import transformers
    common = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64,
              "vocab_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
    if name.startswith("deepseek"):
        return transformers.DeepseekV3Config(
            architectures=["DeepseekV3ForCausalLM"], n_routed_experts=8, n_group=1, topk_group=1,
            num_experts_per_tok=2, moe_intermediate_size=8, first_k_dense_replace=0, **common)
    return transformers.LlamaConfig(architectures=["LlamaForCausalLM"], **common)


def by_name(question, name):
    """Seconds and extra megabytes of one question about a model by name, beyond imports."""
    from course_lib import count_parameters, measure_depth
    ask = {"params": count_parameters, "depth": measure_depth}[question]
    with silence():
        str(ask(tiny(name)))
        before, started = start_peak(), time.perf_counter()
        report = ask(name)
        values = report.to_dict()
        seconds = time.perf_counter() - started
        extra = (peak() - before) / 1e6
        str(report)
    shown = {"params": ("total", "active", "explained"),
             "depth": ("weighted", "shortest", "mean", "paths")}[question]
    return {"seconds": seconds, "megabytes": extra,
            "values": {key: values[key] for key in shown}}


def bare_loop(depth, steps, seed):
    """What a reader would write: a network, its data in memory, and the plain loop."""
    import torch
    from course_lib.anatomy.depth_experiments import build_network, training_set
    torch.manual_seed(seed)
    inputs, labels, _ = training_set("digits", None, 0.0, seed)
    model = build_network(depth)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, fused=True)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (64,))
        loss = torch.nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def runner(depth, steps, seeds=5, turns=5):
    """Seconds of the bare loop and of the runner: one process, progress on, nothing kept yet."""
    import tempfile
    from course_lib.anatomy.depth_experiments import train_once
    from course_lib.core.experiments import run_experiments
    depth, steps, found = int(depth), int(steps), {"bare": [], "runner": []}
    for _ in range(turns + 1):                              # the first turn warms up
        started = time.perf_counter()
        for seed in range(seeds):
            bare_loop(depth, steps, seed)
        found["bare"].append(time.perf_counter() - started)
        with tempfile.TemporaryDirectory() as cache:
            started = time.perf_counter()
            run_experiments(train_once, [{"depth": depth, "steps": steps}], seeds=range(seeds),
                            processes=1, cache=cache, progress=True)
            found["runner"].append(time.perf_counter() - started)
    return {name: min(seconds[1:]) for name, seconds in found.items()}


def main(task, *arguments):
    """Run one measurement."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    tasks = {"correctness": correctness, "speed": speed, "memory": memory, "by_name": by_name,
             "runner": runner}
    print(json.dumps(tasks[task](*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
