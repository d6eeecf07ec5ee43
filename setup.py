"""How the package is built: settings.ini has its names, constraints.txt the tested versions."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
settings = ConfigParser()
settings.read(HERE / "settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]

ON_LINUX_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
ELSEWHERE = "sys_platform != 'linux' or platform_machine != 'x86_64'"

torch = [
    "torch",  # modules to count and to trace, on the meta device too
    "transformers",  # architectures behind a model name or a config
    "safetensors",  # checkpoints written and read in the notebooks
]
tensorflow = [
    f"tensorflow-cpu; {ON_LINUX_X86}",  # Keras's engine; this build leaves out the GPU libraries
    f"tensorflow; {ELSEWHERE}",  # other systems have one build only
    "keras",  # the layers themselves, and the named models
]
course = torch + tensorflow + [
    "jupyterlab",  # where the notebooks are read
    "ipykernel",  # runs their cells
    "ipywidgets",  # sliders
    "matplotlib",  # figures
    "numpy",  # each layer's forward pass, from scratch
    "pandas",  # .to_dataframe()
    "scikit-learn",  # the digits that chapters train on
    "peft",  # LoRA and IA3 as practitioners insert them
    "platformdirs",  # where the record of solved exercises lies on each system
    "filelock",  # two kernels may write that record at once
    "jsonschema",  # what a quiz file has to look like
    "pooch",  # data sets, downloaded once and checked by sha256
    "requests",  # a download that goes on where it stopped; pooch brings it
    "joblib",  # experiments in parallel processes; scikit-learn brings it
    "tqdm",  # progress of downloads and experiments
]
bench = [
    "torchinfo",  # the most used summary
    "fvcore",  # parameter and FLOP counts
    "lightning",  # ModelSummary
    "calflops",  # FLOPs of transformers
]
dev = course + bench + [
    "scipy",  # Keras's spectrogram layers, which the tests build
    "nbdev",  # notebooks to modules, and clean notebooks
    "nbval",  # notebooks as tests
    "polib",  # PO files: translations
    "colorspacious",  # a palette as the colour-blind see it
    "pytest",  # all other tests
    "pytest-xdist",  # two at a time
    "playwright",  # JupyterLab in a real browser
    "ruff",  # lint
    "mypy",  # types
    "psutil",  # memory of a kernel
    "setuptools",  # builds the wheel that a test installs
    "wheel",
]

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    keywords=settings["keywords"],
    license="Apache-2.0",
    license_files=["LICENSE", "LICENSE.prose"],
    python_requires=f">={settings['min_python']}",
    packages=find_packages(include=["course_lib", "course_lib.*"]),
    package_data={"course_lib": ["py.typed", "*.pyi", "_data/**/*"]},
    include_package_data=False,
    install_requires=[],  # the base package reads checkpoints with the standard library alone
    extras_require={
        "torch": torch, "tensorflow": tensorflow, "course": course, "bench": bench, "dev": dev,
    },
    entry_points={"console_scripts": settings["console_scripts"].splitlines()},
    zip_safe=False,
)
