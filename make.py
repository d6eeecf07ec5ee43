"""Every task of the course, one mechanism for Linux, macOS and Windows, standard library only.

`make lab` and `py -m make lab` both end here. The first call creates `.venv` and installs what
constraints.txt pins; later calls find the stamp of that setup and start at once. Nothing is
registered outside the project: what Jupyter, IPython, Matplotlib and Keras keep is in `.venv`.
"""
import atexit
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "course-setup"
UNFINISHED = "unfinished"
NOTEBOOKS = ROOT / "nbs"
OLDEST, NEWEST = (3, 11, 5), (3, 13)  # every pin has a wheel for these

# In the environment before anything starts: TensorFlow reads the first two at import.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0",
         "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
# One thread and no accelerator: the same digits on every run.
REPEATABLE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
              "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1",
              "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

# Between notebook and kernel; without it every kernel warns that others on the machine can listen.
ENCRYPTED = {"transport_encryption": "auto"}


# ---------------------------------------------------------------- setting up

def setup():
    """Create `.venv` and install into it, unless the stamp says that this was done."""
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
    if subprocess.call([python, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL):
        stop("This Python cannot create environments, because ensurepip is missing: on Debian and "
             "Ubuntu run `apt-get install python3-venv`, then try again.")
    print(f"Creating .venv with {python} (once).", flush=True)
    shutil.rmtree(str(VENV), ignore_errors=True)
    VENV.mkdir()
    STAMP.write_text(UNFINISHED)
    subprocess.check_call([python, "-m", "venv", str(VENV)])


def supported_python():
    """The Python that runs this file, or a supported one beside it."""
    if OLDEST <= sys.version_info[:3] and sys.version_info[:2] <= NEWEST:
        return sys.executable
    for name in ("python3.13", "python3.12", "python3.11"):
        if shutil.which(name):
            return shutil.which(name)
    stop("The course needs Python 3.11.5 to 3.13, for which its pinned packages have wheels, and "
         f"this is Python {platform.python_version()}: install one of those, or name it, as in "
         "`make lab PYTHON=/path/to/python3.12`.")


def install():
    """The pinned versions of everything: by uv, several times faster, or else by pip."""
    python, pinned = str(VENV_PYTHON), ["-c", "constraints.txt"]
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"] + pinned
    print("Installing (once; a minute or two, more over a slow connection).", flush=True)
    subprocess.check_call(pip + ["uv"], cwd=str(ROOT))
    uv = [python, "-m", "uv", "pip", "install", "--python", python] + pinned
    environment = dict(os.environ, **uv_settings(python))
    if subprocess.call(uv + ["-e", ".[dev]"], cwd=str(ROOT), env=environment):
        print("uv could not install this; trying pip, which is slower.", flush=True)
        subprocess.check_call(pip + ["-e", ".[dev]"], cwd=str(ROOT))
    compile_packages(python)


def uv_settings(python):
    """Hand pip's sources on to uv; without any, and without an NVIDIA driver, take CPU PyTorch.

    UV_TORCH_BACKEND in your environment (`auto`, `cu130`, `cpu` …) chooses another build.
    """
    listing = subprocess.check_output([python, "-m", "pip", "config", "list"]).decode()
    found = dict(re.findall(r"^\S*\.(find-links|index-url|extra-index-url)='(.*)'$", listing, re.M))
    settings = {}
    if "find-links" in found:
        settings["UV_FIND_LINKS"] = ",".join(re.split(r"(?:\\n|\s)+", found["find-links"].strip()))
    if "index-url" in found:
        settings["UV_DEFAULT_INDEX"] = found["index-url"]
    sources = ("UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL")
    chosen = found or any(name.startswith(sources) for name in os.environ)
    driver = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    if sys.platform == "linux" and not driver and not chosen:
        settings["UV_TORCH_BACKEND"] = "cpu"
        print("No NVIDIA driver here, so PyTorch's CPU build is installed; to choose another, put "
              "UV_TORCH_BACKEND=auto (or cu130 …) before the command.", flush=True)
    return {name: value for name, value in settings.items() if name not in os.environ}


def compile_packages(python):
    """Once, and explicitly: where PYTHONDONTWRITEBYTECODE is set nothing ever compiles itself."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.check_output([python, "-c", where]).decode().strip()
    subprocess.call([python, "-m", "compileall", "-qq", "-j", "0", packages])


def fingerprint():
    """Changes when what is installed should change."""
    files = [ROOT / name for name in ("settings.ini", "setup.py", "constraints.txt")]
    contents = [path.read_bytes() for path in files + [VENV / "pyvenv.cfg"]]
    return hashlib.sha256(b"\n".join(contents)).hexdigest()


def read_stamp():
    """What the last setup left, or None."""
    return STAMP.read_text() if STAMP.exists() else None


# ------------------------------------------------------------------- helpers

def stop(sentence):
    """Leave with one sentence and exit status 1."""
    sys.exit(sentence)


def write_whole(path, text):
    """Write a file whole or not at all, while another process may write it too."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(str(temporary), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(str(temporary), str(path))


def private_folders():
    """Environment variables that keep the tools' files out of your home folder."""
    folders = {"JUPYTER_DATA_DIR": "jupyter/data", "JUPYTER_CONFIG_DIR": "jupyter/config",
               "JUPYTER_RUNTIME_DIR": "jupyter/runtime", "IPYTHONDIR": "ipython",
               "JUPYTERLAB_SETTINGS_DIR": "jupyter/settings",
               "JUPYTERLAB_WORKSPACES_DIR": "jupyter/workspaces",
               "MPLCONFIGDIR": "matplotlib", "KERAS_HOME": "keras"}
    paths = {name: VENV / "home" / folder for name, folder in folders.items()}
    for path in paths.values():
        path.mkdir(parents=True, exist_ok=True)
    return {name: str(path) for name, path in paths.items()}


def repeatable_environment():
    """For `test`, `check` and `run`: quiet, one thread, in English, no network in any Python."""
    refusal = str(ROOT / "tests" / "no_network")  # its sitecustomize.py runs first in each Python
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [refusal] + [path for path in paths if path != refusal]
    settings = dict(private_folders(), PYTHONPATH=os.pathsep.join(paths), COURSE_LANG="en")
    for name in ("COURSE_DATA", "COURSE_CACHE", "COURSE_DATASETS"):
        settings[name] = passing_folder(name)
    return dict(settings, **QUIET, **REPEATABLE)


def passing_folder(name):
    """An empty folder for this run, so that a reader's own record and cache stay as they are."""
    folder, inherited = VENV / "home" / "passing", os.environ.get(name, "")
    if inherited.startswith(str(folder)):
        return inherited
    folder.mkdir(parents=True, exist_ok=True)
    made = tempfile.mkdtemp(dir=str(folder))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def chapters():
    """All notebooks, in the order in which they are read."""
    found = NOTEBOOKS.rglob("*.ipynb")
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def pytest(*arguments):
    """A pytest command line."""
    return [sys.executable, "-m", "pytest", "-q"] + list(arguments)


def lint():
    """The steps that read code without running it."""
    return [(tool, [sys.executable, "-m", tool, *rest])
            for tool, *rest in (("ruff", "check", "."), ("mypy",))]


def run_steps(steps):
    """Run every named command, also after one fails; say how each ended."""
    lines, failures = [], 0
    for name, command in steps:
        print(f"\n=== {name}", flush=True)
        started = time.time()
        failed = subprocess.call(command, cwd=str(ROOT)) != 0
        failures += failed
        verdict = "FAILED" if failed else "passed"
        lines.append(f"{verdict} {time.time() - started:7.1f} s  {name}")
    print("\n" + "\n".join(lines), flush=True)
    return int(failures > 0)


# --------------------------------------------------------------------- tasks

def lab(arguments):
    """Open the course in JupyterLab: work/en, a copy that keeps your answers"""
    os.environ["COURSE_LANG"] = os.environ.get("COURSE_LANG") or "en"
    return open_workspace("en", NOTEBOOKS, arguments)


def lab_zh(arguments):
    """打开中文课程：work/zh_CN，你的答案会保留 (the course in Chinese)"""
    os.environ["COURSE_LANG"] = "zh_CN"
    return open_workspace("zh_CN", chinese_notebooks(), arguments)


def edit(arguments):
    """Open the notebooks under nbs/ themselves, to change the course"""
    os.environ["COURSE_LANG"] = os.environ.get("COURSE_LANG") or "en"
    return open_lab(ROOT, chapters(), "edit", arguments)


def open_workspace(language, source, arguments):
    """Bring a workspace up to date with the course, say what changed, and open it."""
    from course_lib.classroom import workspace

    root = ROOT / "work" / language
    try:
        report = workspace.update(source, root)
    except (OSError, ValueError) as error:
        stop(str(error))
    print(report, flush=True)
    notebooks = [root / name for name in report.files if name.suffix == ".ipynb"]
    return open_lab(root, notebooks, language, arguments)


def chinese_notebooks(execute=True):
    """The folder of the Chinese notebooks; what is out of date in it is built and run again."""
    from course_lib.classroom.chinese import build_chinese

    folder = VENV / "home" / ("zh_CN" if execute else "zh_CN_not_run")
    build_chinese(folder, execute=execute)
    return folder


def open_lab(root, notebooks, name, arguments):
    """JupyterLab over a folder, its notebooks trusted so that tables and widgets show."""
    os.environ.update(private_folders(), **QUIET)
    layouts = os.path.join(os.environ["JUPYTERLAB_WORKSPACES_DIR"], name)
    os.environ["JUPYTERLAB_WORKSPACES_DIR"] = layouts  # each remembers its own open files
    trust = [sys.executable, "-m", "jupyter", "trust"] + [str(path) for path in notebooks]
    subprocess.call(trust, stdout=subprocess.DEVNULL)
    options = shlex.split(os.environ.get("LAB_ARGS", ""), posix=os.name != "nt")
    os.chdir(str(root))
    return replace_process(lab_command(options + arguments, root))


def lab_command(options=(), root=ROOT):
    """JupyterLab at the course's index; where a port is taken it tries the next ones."""
    settings = {
        "@jupyterlab/apputils-extension:notification":
            {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
        "@jupyterlab/extensionmanager-extension:plugin": {"enabled": False},
        # a slider moved in a kernel's second thread leaves pyplot's figure blank
        "@jupyterlab/apputils-extension:kernels-settings": {"commsOverSubshells": "disabled"},
    }
    folder = Path(private_folders()["JUPYTER_CONFIG_DIR"]) / "labconfig"
    folder.mkdir(exist_ok=True)
    write_whole(folder / "default_setting_overrides.json", json.dumps(settings, indent=1))
    index = "index.ipynb" if (Path(root) / "index.ipynb").exists() else "nbs/index.ipynb"
    command = [sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={root}",
               f"--LabApp.default_url=/lab/tree/{index}"]
    command += [f"--KernelManager.{name}={value}" for name, value in ENCRYPTED.items()]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command + list(options)


def replace_process(command):
    """Become another program, so that Ctrl-C and signals reach it; Windows has to wait for it."""
    if os.name != "nt":
        os.execv(command[0], command)
    return subprocess.call(command)


def test(arguments):
    """Everything: lint, types, library, gates, notebooks, docstrings, browser"""
    os.environ.update(repeatable_environment())
    both = ["-n", "2", "--dist", "loadfile"] + arguments
    pages = ["-n", "2", "--no-loadscope-reorder"] + arguments  # chapters, the longest, come early
    nbval = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=300",
             "--nbval-sanitize-with=tests/sanitize.cfg"]
    return run_steps(lint() + [
        ("library and gates", pytest("tests", "--ignore=tests/browser", "--durations=15", *both)),
        ("notebooks", pytest("nbs", *nbval, *both)),
        ("docstring examples", pytest("course_lib", "--doctest-modules", *arguments)),
        ("browser", pytest("tests/browser", *pages)),
    ])


def check(arguments):
    """In under two minutes: lint, types, quick tests, notebook hygiene"""
    os.environ.update(repeatable_environment())
    workers = str(min(4, os.cpu_count() or 2))
    quick = ["--ignore=tests/browser", "-m", "not slow", "-n", workers, "--dist", "loadfile"]
    return run_steps(lint() + [
        ("quick tests, notebook hygiene", pytest("tests", "--durations=15", *quick, *arguments)),
    ])


def bench(arguments):
    """The library beside its peers; writes the tables in benchmarks/"""
    os.environ.update(private_folders(), **QUIET)
    return subprocess.call([sys.executable, "-m", "benchmarks"] + arguments, cwd=str(ROOT))


def translations(arguments):
    """Bring nbs/locale up to date with the notebooks, check it, compile it"""
    os.environ.update(private_folders(), **QUIET)
    command = [sys.executable, "-m", "course_lib.classroom.translation"]
    return subprocess.call(command + arguments, cwd=str(ROOT))


def teacher(arguments):
    """Write lesson sheets with all answers into teacher/"""
    from course_lib.classroom.lesson_sheets import write_sheets

    return write_pages(write_sheets, "teacher", arguments, outputs=False)


def print_chapters(arguments):
    """Write the chapters to print into print/: HTML and, with a Chromium, PDF"""
    from course_lib.classroom.printing import print_course

    return write_pages(print_course, "print", arguments)


def write_pages(write, name, arguments, outputs=True):
    """Write pages in the reader's language into a folder of the project, and name them."""
    os.environ.update(private_folders(), **QUIET)
    from course_lib.core.messages import language

    source = chinese_notebooks(outputs) if language() == "zh_CN" else NOTEBOOKS
    try:
        for path in write(source, ROOT / name / language(), *arguments):
            print(path.relative_to(ROOT))
    except (OSError, ValueError) as error:
        stop(str(error))
    return 0


def run(arguments):
    """Re-execute all notebooks in order; outputs are stored only if all pass"""
    os.environ.update(repeatable_environment())
    import tqdm

    paths = [Path(name).resolve() for name in arguments] or chapters()
    executed, failures = [], 0
    with tqdm.tqdm(paths, unit="notebook") as progress:
        for path in progress:
            name, started = str(path.relative_to(ROOT)), time.time()
            progress.set_description(name)
            notebook, error, peak = execute(path)
            verdict = "failed" if error else "passed"
            seconds = time.time() - started
            progress.write(f"{verdict} {seconds:6.1f} s {peak / 1e6:6.0f} MB  {name}")
            if error:
                failures += 1
                progress.write(str(error) or repr(error))
            executed.append((path, notebook))
    if failures:
        stop(f"{failures} of {len(paths)} notebooks failed: no stored output was changed.")
    store(executed)
    return 0


def execute(path):
    """Run a notebook in a fresh kernel: notebook, error or None, peak memory in bytes."""
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook, error, peak = nbformat.read(str(path), 4), None, [0]
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources,
                            config=Config({"KernelManager": ENCRYPTED}),
                            coalesce_streams=True)  # one output a stream, whatever the timing
    finished = threading.Event()

    def start_watching(**_):
        watched = (client.km.provisioner.pid, peak, finished)
        threading.Thread(target=watch_memory, args=watched, daemon=True).start()

    client.on_notebook_start = start_watching  # called when the kernel runs, before the first cell
    try:
        client.execute()
    except Exception as raised:  # whatever a cell raises is reported and never ends the run
        error = raised
    finally:
        finished.set()
    return notebook, error, peak[0]


def watch_memory(pid, peak, finished):
    """Keep the highest resident memory of a process and its children, 20 samples a second."""
    import psutil

    kernel = psutil.Process(pid)
    while not finished.wait(0.05):
        try:
            family = [kernel] + kernel.children(recursive=True)
            peak[0] = max(peak[0], sum(each.memory_info().rss for each in family))
        except psutil.Error:
            pass  # a child ended between the two looks


def store(executed):
    """Write executed notebooks as nbdev_clean would leave them."""
    import nbformat
    from execnb.nbio import nb2str
    from nbdev.clean import _nbdev_clean

    for path, notebook in executed:
        leave_out_widgets(notebook)
        cleaned = json.loads(nbformat.writes(notebook))  # sources as lists of lines
        _nbdev_clean(cleaned)
        write_whole(path, nb2str(cleaned))


WIDGET = "application/vnd.jupyter.widget-view+json"


def leave_out_widgets(notebook):
    """A widget lives in a kernel: stored, it is 50 kB that show an error where none runs.

    What else its output holds, such as a quiz in plain text, stays.
    """
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        for output in list(cell.get("outputs", ())):
            if output.get("data", {}).pop(WIDGET, None) and list(output["data"]) == ["text/plain"]:
                cell["outputs"].remove(output)


def clean(arguments):
    """Remove .venv, caches, print/ and teacher/; your answers in work/ stay"""
    names = (".venv", "build", "dist", "course_lib.egg-info", "__pycache__",
             ".pytest_cache", ".ruff_cache", ".mypy_cache", "print", "teacher")
    folders = [ROOT / name for name in names]
    for top in ("course_lib", "nbs", "tests", "benchmarks"):
        for name in ("__pycache__", ".ipynb_checkpoints"):
            folders += (ROOT / top).rglob(name)
    for folder in folders:
        shutil.rmtree(str(folder), ignore_errors=True)
    return 0


def show_help(arguments):
    """List the tasks"""
    for name, task in TASKS.items():
        print(f"make {name:<12} {task.__doc__}")
    return 0


TASKS = {"lab": lab, "lab-zh": lab_zh, "print": print_chapters, "teacher": teacher,
         "edit": edit, "translations": translations, "run": run, "check": check, "test": test,
         "bench": bench, "clean": clean, "help": show_help}


def main(arguments):
    """Do one task, inside `.venv` where it needs the packages."""
    sys.stdout.reconfigure(errors="replace")  # a Windows console may lack Chinese
    name, rest = (arguments or ["help"])[0], arguments[1:]
    if name not in TASKS:
        stop(f"There is no task {name!r}: choose one of {', '.join(TASKS)}.")
    if name not in ("clean", "help"):
        setup()
        if Path(sys.prefix).resolve() != VENV.resolve():
            return replace_process([str(VENV_PYTHON), str(ROOT / "make.py"), name] + rest)
    return TASKS[name](rest)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as failure:
        stop(f"This command failed, and says above why: {' '.join(map(str, failure.cmd))}")
