"""Run every comparison and write its table: `python -m benchmarks [PART …]`, or `make bench`.

Exit status 1 says that the library missed what is expected of it; the tables say where.
"""
import argparse
import csv
import io
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.cases import REFUSES
from benchmarks.peers import TOOLS
from course_lib.anatomy.depth import write_count
from course_lib.core.files import write_atomically
from course_lib.core.tables import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "transformers", "keras", "tensorflow-cpu", "torchinfo", "fvcore", "lightning",
            "calflops")
QUIET = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0",
         "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
MEASURED = {"torch": ("ResNet-50", "BERT-base", "GPT-2 (tied head)", "Llama-3-8B"),
            "keras": ("Keras ResNet50",)}
RUNS, RUNNER_ALLOWED = ((2, 45), (8, 45), (32, 45)), 1.3  # depth and steps; times the bare loop
NAMES = (("params", "llama-3.1-405b", 1, 300), ("params", "deepseek-v3", 1, 300),
         ("depth", "llama-3.1-405b", 5, None))  # question, name, seconds and megabytes allowed


def measure(task, *arguments):
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.workers", task, *arguments]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | QUIET, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command[2:])} failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def setting():
    """What the numbers depend on, and no machine's name."""
    found = [f"{name} {version(name)}" for name in PACKAGES if _installed(name)]
    return (f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
            f"{os.cpu_count()} cores, one thread; {', '.join(found)}.")


def _installed(name):
    try:
        return version(name)
    except Exception:
        return None


def store(name, title, explanation, table):
    """Write a table as Markdown and CSV, and print it."""
    text = "\n".join([f"# {title}", "", explanation, "", setting(), "", table.to_markdown(), ""])
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([table.headers, *table.rows])
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_atomically(RESULTS / f"{name}.md", text)
    write_atomically(RESULTS / f"{name}.csv", buffer.getvalue())
    print(text, flush=True)


# ---- right or wrong ---------------------------------------------------------------------------

def judge(said, truth):
    """Whether an answer is right, or what is wrong with it."""
    if said == "not tried":
        return said
    if isinstance(said, dict):
        return "right" if truth == REFUSES else said["error"]
    if said is None:
        return "not told"
    return "right" if said == truth else f"**{said:,}**"


def sums(verdicts):
    """How often each tool was right, did not tell, was not tried, and was wrong."""
    columns = list(zip(*verdicts))
    kinds = ("right", "not told", "not tried")
    found = {kind: [column.count(kind) for column in columns] for kind in kinds}
    found["wrong, or an error"] = [sum(verdict not in kinds for verdict in column)
                                   for column in columns]
    return found


def correctness():
    """Every tool on every case; a tool's own numbers where they are wrong."""
    missed = []
    for framework, tools in TOOLS.items():
        rows = []
        for line in measure("correctness", framework):
            verdicts = [judge(line["answers"][tool], line["truth"]) for tool in tools]
            truth = line["truth"]
            rows.append([line["case"], line["quantity"],
                         truth if truth == REFUSES else f"{truth:,}", *verdicts])
            if verdicts[0] != "right":
                missed.append(f"{line['case']}, {line['quantity']}: {verdicts[0]}")
        rows += [[f"sum: {verdict}", "", "", *(str(count) for count in counts)]
                 for verdict, counts in sums([row[3:] for row in rows]).items()]
        store(f"correctness_{framework}", f"Right or wrong: {framework}",
              "Each tool on a fresh model; a wrong number stands in bold. \"refuses\" means that "
              "the size is not known yet and that an error is the right answer. calflops calls "
              "its number \"Total Training Params\"; it and torchinfo with input run the model, "
              "and are not tried where that is out of the question.",
              Table(["model", "quantity", "truth", *tools], rows))
    return missed


# ---- time and memory --------------------------------------------------------------------------

def speed():
    """Median milliseconds of each tool, in one process, taking turns."""
    missed = []
    for framework, names in MEASURED.items():
        tools, rows = TOOLS[framework], []
        for name in names:
            seconds = measure("speed", name)
            own, base = seconds["course-lib"], seconds[list(tools)[1]]
            rows.append([name, *(_milliseconds(seconds[tool], own) for tool in tools)])
            if isinstance(own, dict) or own > max(base, 0.1):
                missed.append(f"speed on {name}: {rows[-1][1]}")
        store(f"speed_{framework}", f"Wall time of one count: {framework}",
              "Median of 9 calls that take turns in one process, after one warm-up, on the same "
              "model (torch: on the meta device); in parentheses the time as a multiple of "
              "course-lib's. course-lib writes and checks a formula for every row; the others "
              "do not.", Table(["model", *tools], rows))
    return missed


def _milliseconds(seconds, own):
    """A time, and how many times course-lib's it is."""
    if isinstance(seconds, dict):
        return seconds["error"]
    ratio = "" if isinstance(own, dict) or seconds is own else f" ({seconds / own:.2g}×)"
    return f"{1000 * seconds:.1f} ms{ratio}"


def memory():
    """Extra peak memory of the first call, each tool and model in a process of its own."""
    for framework, names in MEASURED.items():
        rows = [[name, *(_megabytes(measure("memory", name, tool)) for tool in TOOLS[framework])]
                for name in names]
        store(f"memory_{framework}", f"Extra peak memory of one count: {framework}",
              "Highest resident memory during a tool's first call on a model, less what was held "
              "before it (model and imports); a process for each.",
              Table(["model", *TOOLS[framework]], rows))
    return []


def _megabytes(found):
    """A size in words."""
    return found["error"] if isinstance(found, dict) else f"{found:.1f} MB"


def names():
    """The largest models by name, beyond imports."""
    rows, missed = [], []
    for question, name, seconds_allowed, megabytes_allowed in NAMES:
        found = measure("by_name", question, name)
        values = ", ".join(f"{key} {write_count(value) if isinstance(value, int) else value}"
                           for key, value in found["values"].items())
        rows.append([f"{question} {name}", f"{found['seconds']:.2f} s", f"{seconds_allowed} s",
                     f"{found['megabytes']:.0f} MB",
                     f"{megabytes_allowed} MB" if megabytes_allowed else "", values])
        if found["seconds"] > seconds_allowed or found["megabytes"] > (megabytes_allowed or 1e9):
            missed.append(f"{question} {name}: {rows[-1][1]}, {rows[-1][3]}")
    store("by_name", "The largest models, by name",
          "From the name to the numbers, in a fresh process, beyond imports; memory as the "
          "highest resident memory above what was held before.",
          Table(["question", "time", "allowed", "extra memory", "allowed", "answer"], rows))
    return missed


def runner():
    """The runner of experiments beside the bare PyTorch loop, in one process, progress on."""
    found = [measure("runner", str(depth), str(steps)) for depth, steps in RUNS]
    whole = {name: sum(seconds[name] for seconds in found) for name in found[0]}
    labels = [*((depth, steps) for depth, steps in RUNS), ("together", "")]
    rows = [[*label, f"{seconds['bare']:.2f} s", f"{seconds['runner']:.2f} s",
             f"{seconds['runner'] / seconds['bare']:.2f}×"]
            for label, seconds in zip(labels, [*found, whole])]
    slow = whole["runner"] > RUNNER_ALLOWED * whole["bare"]
    missed = [f"runner: {rows[-1][-1]} the bare loop"] if slow else []
    store("runner", "The runner of experiments beside the bare loop",
          "Five seeds of one setting of chapter 08, one process, progress on, an empty cache: "
          "`run_experiments(train_once, …)`, which also measures accuracies, gradients and times "
          "and writes a file for each run, and the same training as a bare PyTorch loop. They take "
          "turns in one process; the fastest of five turns each. Together they may take "
          f"{RUNNER_ALLOWED}× as long; a run of a shallow network is so short that its own "
          "bookkeeping, some milliseconds and a file on disk, shows more.",
          Table(["depth", "steps", "bare loop", "runner", "ratio"], rows))
    return missed


def sweep():
    """Every architecture of transformers; its own script writes the tables."""
    command = [sys.executable, str(ROOT / "benchmarks" / "sweep.py")]
    status = subprocess.run(command, cwd=ROOT, env=os.environ | QUIET).returncode
    return ["a total of the sweep is wrong"] if status else []


PARTS = {"correctness": correctness, "speed": speed, "memory": memory, "names": names,
         "runner": runner, "sweep": sweep}


def main(arguments=None):
    """Run the parts that were asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    asked = parser.parse_args(arguments).parts or list(PARTS)
    if unknown := [part for part in asked if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    missed = [fault for part in asked for fault in PARTS[part]()]
    print("\n".join(["Missed:", *missed] if missed else ["All that is expected was met."]))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
