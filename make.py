"""Every task of the course, one mechanism for Linux, macOS and Windows, standard library only.

`make lab` and `py -m make lab` both end here. The first call creates `.venv`, installs what constraints.txt pins
and needs a few minutes; later calls find the stamp of that setup and start at once. Nothing is registered outside
the project: settings, runtime files and trust of Jupyter, IPython, Matplotlib and Keras all live inside `.venv`.
"""
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "course-setup"
UNFINISHED = "unfinished"
NOTEBOOKS = ROOT / "nbs"
OLDEST, NEWEST = (3, 11, 5), (3, 13)  # Pythons for which every pin has a wheel

# Set before anything heavy is imported: TensorFlow reads the first two once, at import.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
# One thread a notebook gives the same digits on every run; the tests refuse the network.
REPEATABLE = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1",
    "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
}


# ---------------------------------------------------------------- setting up

def setup():
    """Create `.venv` and install into it, unless the stamp says that this very setup is already there."""
    if VENV_PYTHON.exists() and read_stamp() == fingerprint():
        return
    if not VENV_PYTHON.exists() or read_stamp() == UNFINISHED:
        create_environment()
    STAMP.write_text(UNFINISHED)
    install()
    write_whole(STAMP, fingerprint())


def create_environment():
    """A fresh, empty `.venv`; a half-made one is thrown away."""
    python = supported_python()
    print("Creating .venv with Python {} (once).".format(python), flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    STAMP.write_text(UNFINISHED)
    if subprocess.call([python, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL):
        stop("This Python cannot create environments because ensurepip is missing: on Debian and Ubuntu run "
             "`apt-get install python3-venv`, then try again.")
    subprocess.check_call([python, "-m", "venv", str(VENV)])


def supported_python():
    """The Python that runs this file, or a supported one beside it."""
    if OLDEST <= sys.version_info[:3] and sys.version_info[:2] <= NEWEST:
        return sys.executable
    for name in ("python3.13", "python3.12", "python3.11"):
        if shutil.which(name):
            return shutil.which(name)
    stop("The course needs Python 3.11.5 to 3.13, because its pinned packages have wheels for these; this is "
         "Python {}: install one of them, or name it with `make PYTHON=/path/to/python3.12 lab`."
         .format(platform.python_version()))


def install():
    """Everything in constraints.txt's versions: by uv, which takes a fraction of pip's time, or else by pip."""
    python, environment = str(VENV_PYTHON), dict(os.environ)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", "constraints.txt"]
    what = ["-c", "constraints.txt", "-e", ".[dev]"]
    print("Installing (once; about a minute, more over a slow connection).", flush=True)
    subprocess.check_call(pip + ["uv"], cwd=str(ROOT))
    environment.update(uv_settings(python))
    uv = [python, "-m", "uv", "pip", "install", "--python", python]
    if subprocess.call(uv + what, cwd=str(ROOT), env=environment):
        print("uv could not install this; trying pip, which is slower.", flush=True)
        subprocess.check_call(pip + what[2:], cwd=str(ROOT))
    # Explicit, because nothing compiles itself where PYTHONDONTWRITEBYTECODE is set, and imports take twice as long.
    packages = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    subprocess.call([python, "-m", "compileall", "-qq", "-j", "0", packages.decode().strip()])


def uv_settings(python):
    """Hand pip's sources on to uv, and choose PyTorch's CPU build where nothing speaks for another.

    Set UV_TORCH_BACKEND yourself (`auto`, `cu130`, `cpu` …) to choose another build.
    """
    listing = subprocess.check_output([python, "-m", "pip", "config", "list"]).decode()
    configured = dict(re.findall(r"^[\w:.]*?\.?(find-links|index-url|extra-index-url)='(.*)'$", listing, re.M))
    settings = {}
    if "find-links" in configured:
        settings["UV_FIND_LINKS"] = ",".join(re.split(r"(?:\\n|\s)+", configured["find-links"].strip()))
    if "index-url" in configured:
        settings["UV_DEFAULT_INDEX"] = configured["index-url"]
    driver = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    own_source = configured or any(name.startswith(("UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA"))
                                   for name in os.environ)
    if sys.platform == "linux" and not driver and not own_source:
        settings["UV_TORCH_BACKEND"] = "cpu"
        print("No NVIDIA driver found: installing PyTorch's CPU build. "
              "UV_TORCH_BACKEND=auto (or cu130 …) before the command chooses another.", flush=True)
    return {name: value for name, value in settings.items() if name not in os.environ}


def fingerprint():
    """Changes when what is installed should change."""
    digest = hashlib.sha256()
    for name in ("settings.ini", "setup.py", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    digest.update((VENV / "pyvenv.cfg").read_bytes())
    return digest.hexdigest()


def read_stamp():
    """What the last setup left, or None."""
    return STAMP.read_text() if STAMP.exists() else None


# ------------------------------------------------------------------- helpers

def stop(sentence):
    """Leave with one sentence and exit status 1."""
    sys.exit(sentence)


def write_whole(path, text):
    """Write a file whole or not at all."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    with open(str(temporary), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(str(temporary), str(path))


def private_folders():
    """Where the tools keep their files: inside `.venv`, so that nothing is registered in your home folder."""
    home = VENV / "home"
    names = {"JUPYTER_DATA_DIR": "jupyter/data", "JUPYTER_CONFIG_DIR": "jupyter/config",
             "JUPYTER_RUNTIME_DIR": "jupyter/runtime", "JUPYTERLAB_SETTINGS_DIR": "jupyter/settings",
             "JUPYTERLAB_WORKSPACES_DIR": "jupyter/workspaces", "IPYTHONDIR": "ipython",
             "MPLCONFIGDIR": "matplotlib", "KERAS_HOME": "keras"}
    for folder in names.values():
        (home / folder).mkdir(parents=True, exist_ok=True)
    return {name: str(home / folder) for name, folder in names.items()}


def repeatable_environment():
    """For tests and `run`: one thread each, quiet, and no network in any Python that is started."""
    refusal = str(ROOT / "tests" / "no_network")  # holds a sitecustomize.py, which every Python imports when it starts
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != refusal]
    return dict(private_folders(), PYTHONPATH=os.pathsep.join([refusal] + inherited), **QUIET, **REPEATABLE)


def chapters():
    """All notebooks, in the order in which they are read."""
    return sorted(path for path in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def run_steps(steps):
    """Run all named commands, also after one fails; say how each ended."""
    results = []
    for name, command in steps:
        print("\n=== {}".format(name), flush=True)
        started = time.time()
        failed = subprocess.call(command, cwd=str(ROOT))
        results.append((name, failed, time.time() - started))
    print()
    for name, failed, seconds in results:
        print("{:<6} {:>6.1f} s  {}".format("FAILED" if failed else "passed", seconds, name))
    return int(any(failed for _, failed, _ in results))


def pytest(*arguments):
    """A pytest command line."""
    return [sys.executable, "-m", "pytest", "-q"] + list(arguments)


# --------------------------------------------------------------------- tasks

def lab(arguments):
    """Open the course in JupyterLab (LAB_ARGS="…" passes options on)"""
    os.environ.update(private_folders())
    subprocess.call([sys.executable, "-m", "jupyter", "trust"] + [str(path) for path in chapters()],
                    stdout=subprocess.DEVNULL)
    command = lab_command(arguments + shlex.split(os.environ.get("LAB_ARGS", ""), posix=os.name != "nt"))
    os.chdir(str(ROOT))
    if os.name != "nt":
        os.execv(command[0], command)  # Ctrl-C and signals reach JupyterLab itself
    return subprocess.call(command)


def lab_command(arguments=()):
    """JupyterLab at the course's index; another port is taken when the wanted one is in use."""
    settings = {
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
        "@jupyterlab/extensionmanager-extension:plugin": {"enabled": False},
    }
    folder = Path(private_folders()["JUPYTER_CONFIG_DIR"]) / "labconfig"
    folder.mkdir(exist_ok=True)
    write_whole(folder / "default_setting_overrides.json", json.dumps(settings, indent=1))
    command = [sys.executable, "-m", "jupyter", "lab", "--ServerApp.root_dir={}".format(ROOT),
               "--LabApp.default_url=/lab/tree/nbs/index.ipynb"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command + list(arguments)


def test(arguments):
    """Everything: library, gates, notebooks, docstrings, browser"""
    os.environ.update(repeatable_environment())
    two_at_a_time = ["-n", "2", "--dist", "loadfile"]
    return run_steps([
        ("library and gates", pytest("tests", "--ignore=tests/browser", *two_at_a_time, *arguments)),
        ("notebooks", pytest("nbs", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=300",
                             "--nbval-sanitize-with=tests/sanitize.cfg", *two_at_a_time, *arguments)),
        ("docstring examples", pytest("course_lib", "--doctest-modules", *arguments)),
        ("browser", pytest("tests/browser", *arguments)),
    ])


def check(arguments):
    """In under two minutes: lint, types, quick tests, notebook hygiene"""
    os.environ.update(repeatable_environment())
    return run_steps([
        ("ruff", [sys.executable, "-m", "ruff", "check", "."]),
        ("mypy", [sys.executable, "-m", "mypy"]),
        ("quick tests, notebook hygiene", pytest("tests", "--ignore=tests/browser", "-m", "not slow",
                                                 "-n", "2", "--dist", "loadfile", *arguments)),
    ])


def bench(arguments):
    """The library beside its peers; writes the tables in benchmarks/"""
    os.environ.update(dict(private_folders(), **QUIET))
    return subprocess.call([sys.executable, "-m", "benchmarks"] + arguments, cwd=str(ROOT))


def run(arguments):
    """Re-execute all notebooks in order; outputs are stored only if all pass"""
    os.environ.update(repeatable_environment())
    import tqdm

    paths = [Path(name).resolve() for name in arguments] or chapters()
    executed, failures = [], 0
    with tqdm.tqdm(paths, unit="notebook") as progress:
        for path in progress:
            name = str(path.relative_to(ROOT))
            progress.set_description(name)
            started = time.time()
            notebook, error, peak = execute(path)
            failures += error is not None
            progress.write("{} {:>7.1f} s {:>7.0f} MB  {}".format(
                "failed" if error else "passed", time.time() - started, peak / 1e6, name))
            if error:
                progress.write(str(error))
            executed.append((path, notebook))
    if failures:
        stop("{} of {} notebooks failed: no stored output was changed.".format(failures, len(paths)))
    store(executed)
    return 0


def execute(path):
    """Run a notebook in a fresh kernel: the notebook, what went wrong or None, and the kernel's peak memory in bytes."""
    import nbformat
    from nbclient import NotebookClient

    notebook, peak = nbformat.read(str(path), 4), [0]
    client = NotebookClient(notebook, timeout=600, kernel_name="python3",
                            resources={"metadata": {"path": str(path.parent)}})
    try:
        with client.setup_kernel():
            finished = threading.Event()
            watch = threading.Thread(target=watch_memory, args=(client.km.provisioner.pid, peak, finished))
            watch.start()
            try:
                client.execute(reset_kc=False)
            finally:
                finished.set()
                watch.join()
    except Exception as error:  # whatever a cell raises is a failure to report, never the end of the run
        return notebook, error, peak[0]
    return notebook, None, peak[0]


def watch_memory(pid, peak, finished):
    """Keep the highest resident memory of a process and its children, sampled 20 times a second."""
    import psutil

    kernel = psutil.Process(pid)
    while not finished.wait(0.05):
        try:
            total = sum(each.memory_info().rss for each in [kernel] + kernel.children(recursive=True))
        except psutil.Error:
            continue
        peak[0] = max(peak[0], total)


def store(executed):
    """Write executed notebooks as nbdev_clean would leave them."""
    import nbformat
    from execnb.nbio import nb2str
    from nbdev.clean import _nbdev_clean

    for path, notebook in executed:
        cleaned = json.loads(nbformat.writes(notebook))
        _nbdev_clean(cleaned)
        write_whole(path, nb2str(cleaned))


def clean(arguments):
    """Remove .venv, caches and build folders"""
    folders = [VENV, ROOT / "build", ROOT / "dist", ROOT / "course_lib.egg-info"]
    folders += [ROOT / name for name in (".pytest_cache", ".ruff_cache", ".mypy_cache")]
    folders += [path for name in ("__pycache__", ".ipynb_checkpoints")
                for top in ("course_lib", "nbs", "tests", "benchmarks") for path in (ROOT / top).rglob(name)]
    for folder in folders + [ROOT / "__pycache__"]:
        shutil.rmtree(str(folder), ignore_errors=True)
    return 0


def show_help(arguments=()):
    """List the tasks"""
    for name, task in TASKS.items():
        print("make {:<6} {}".format(name, task.__doc__))
    return 0


TASKS = {"lab": lab, "test": test, "check": check, "run": run, "bench": bench, "clean": clean, "help": show_help}


def main(arguments):
    """Do one task, inside `.venv` where it needs the packages."""
    name, rest = (arguments or ["help"])[0], arguments[1:]
    if name not in TASKS:
        stop("There is no task {!r}: choose one of {}.".format(name, ", ".join(TASKS)))
    if name in ("clean", "help"):
        return TASKS[name](rest)
    setup()
    if Path(sys.prefix).resolve() == VENV.resolve():
        return TASKS[name](rest)
    inside = [str(VENV_PYTHON), str(ROOT / "make.py"), name] + rest
    if os.name != "nt":
        os.execv(inside[0], inside)
    return subprocess.call(inside)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as failure:
        stop("This step failed, and what it printed above says why: {}".format(
            " ".join(map(str, failure.cmd))))
