"""Count every architecture of transformers whose default configuration can be built.

    python benchmarks/sweep.py [--processes 2] [--output FOLDER] [MODEL_TYPE ...]

For each configuration type of the installed transformers the base model is built on the meta
device, counted by count_parameters, and held against the sum over distinct parameters by identity.
Writes sweep.csv (one row a type) and sweep.md (the summary) into the folder, benchmarks/results by
default, and exits with 1 when a total is wrong. Types that cannot be built are listed with the
reason: they are parts of other models, their defaults are not meant to be built, or they need a
package that is not installed.
"""

import argparse
import csv
import io
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIELDS = ("model_type", "architecture", "total", "reference", "explained", "rows",
          "build_seconds", "count_seconds", "skipped")


def sweep_one(model_type):
    """Build and count one type; every failure to build is a row with its reason."""
    from course_lib import count_parameters
    from course_lib.anatomy.model_sources import default_model
    row = dict.fromkeys(FIELDS, "") | {"model_type": model_type}
    began = time.perf_counter()
    try:
        model = default_model(model_type)
    except (ValueError, ImportError) as error:
        return row | {"skipped": " ".join(str(error).split())[:160]}
    row |= {"architecture": type(model).__name__,
            "reference": sum({id(p): p.numel() for p in model.parameters()}.values()),
            "build_seconds": f"{time.perf_counter() - began:.3f}", "explained": "0"}
    began = time.perf_counter()
    try:
        table = count_parameters(model)
    except Exception as error:  # a wrong total among the others, not the end of the sweep
        return row | {"total": f"{type(error).__name__}: {error}"}
    return row | {"total": table.total, "explained": f"{table.explained:.6f}",
                  "rows": len(table.rows),
                  "count_seconds": f"{time.perf_counter() - began:.3f}"}


def prepare():
    """Make a process quiet, single-threaded, and offline."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TF_CPP_MIN_LOG_LEVEL="3")
    sys.path.insert(0, str(ROOT))
    import torch
    torch.set_num_threads(1)


def sweep(model_types, processes):
    """Yield one row for each type, in order, from one process or several."""
    if processes == 1:
        prepare()
        yield from map(sweep_one, model_types)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=prepare) as pool:
        yield from pool.imap(sweep_one, model_types, chunksize=8)


def reason(row):
    """Sort a skipped type into one of a few groups."""
    text = row["skipped"]
    if "no base model" in text:
        return "part of another model, or without a base model"
    if "library but it was not found" in text or "requires the" in text:
        return "needs a package that is not installed"
    return "its default configuration is not meant to be built"


def summary(rows, seconds, processes):
    """The results in words and two tables, as Markdown."""
    import transformers
    built = [row for row in rows if not row["skipped"]]
    wrong = [row for row in built if row["total"] != row["reference"]]
    well = [row for row in built if float(row["explained"]) >= 0.95]
    total = sum(row["reference"] for row in built)
    share = sum(row["reference"] * float(row["explained"]) for row in built) / max(1, total)
    counting = sum(float(row["count_seconds"] or 0) for row in built)
    lines = [
        f"# Every architecture of transformers {transformers.__version__}", "",
        f"Of {len(rows)} configuration types {len(built)} build a model from their defaults, "
        f"{total:,} parameters together. {len(built) - len(wrong)} totals equal the sum over "
        f"distinct parameters. At least 95 % of the parameters are explained by a checked formula "
        f"in {len(well)} of them ({len(well) / max(1, len(built)):.1%}); weighted by size, "
        f"{share:.2%} are.", "",
        f"{seconds:.0f} s in {processes} process{'es' if processes > 1 else ''}, of which "
        f"{counting:.0f} s of counting.", "",
        "| not built because | types |", "|---|---|",
        *(f"| {why} | {count} |" for why, count in
          Counter(reason(row) for row in rows if row["skipped"]).most_common()), "",
        "| less than 95 % explained | class | parameters | explained |", "|---|---|---|---|",
        *(f"| {row['model_type']} | {row['architecture']} | {row['reference']:,} | "
          f"{float(row['explained']):.1%} |"
          for row in sorted(built, key=lambda row: float(row["explained"]))
          if float(row["explained"]) < 0.95), ""]
    if wrong:
        lines += ["| wrong total | counted | by identity |", "|---|---|---|",
                  *(f"| {row['model_type']} | {row['total']} | {row['reference']:,} |"
                    for row in wrong), ""]
    return "\n".join(lines), wrong


def main(arguments=None):
    """Run the sweep, write the results, and say whether a total is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_types", nargs="*", help="only these types")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    from course_lib.anatomy.model_sources import config_types
    from course_lib.core.files import write_atomically
    began, rows = time.perf_counter(), []
    wanted = options.model_types or config_types()
    for row in sweep(wanted, options.processes):
        rows.append(row)
        if sys.stderr.isatty():
            print(f"\r{len(rows)}/{len(wanted)} {row['model_type']:40.40}", end="", file=sys.stderr)
    text, wrong = summary(rows, time.perf_counter() - began, options.processes)
    table = io.StringIO()
    writer = csv.DictWriter(table, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    options.output.mkdir(parents=True, exist_ok=True)
    write_atomically(options.output / "sweep.csv", table.getvalue())
    write_atomically(options.output / "sweep.md", text)
    print(text)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
