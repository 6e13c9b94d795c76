"""Metadata of the package; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$',
    (ROOT / "keras_softconv" / "__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
)[1]

PLOTS = ["matplotlib>=3.8"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings-python>=1.16"]
EXAMPLES = [*PLOTS, "scikit-learn>=1.4"]
EXPERIMENTS = ["mlxtend>=0.23", "statsmodels>=0.14"]
BACKENDS = ["jax>=0.6", "torch>=2.6"]
# The last TensorFlow Addons, and what it runs with: on Python 3.11 and no later one. That
# TensorBoard asks for `pkg_resources`, which setuptools has no more.
ADDONS = [
    "keras==2.15.*",
    "setuptools<81",
    "tensorboard==2.15.*",
    "tensorflow==2.15.*",
    "tensorflow-addons==0.23.*",
    "tqdm>=4.60",
]
TEST = [
    "covertable>=3",
    "hypothesis>=6.100",
    "pytest>=8.2",
    "pytest-xdist>=3.6",
    "ruff==0.17.6",
]
# Coverage, and mutation testing by `tests/mutants.py`.
COVERAGE = ["cosmic-ray>=8.4", "coverage>=7.10", "pytest-cov>=7"]


def excluded(major: str, minors: range) -> str:
    """What to add to a requirement that is to leave out these minor versions."""
    return "".join(f", !={major}.{minor}.*" for minor in minors)


setup(
    name="keras-softconv",
    version=VERSION,
    description=(
        "Keras layers between dense and convolutional: weight sharing and locality "
        "as penalties instead of rules"
    ),
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["keras_softconv*"]),
    package_data={"keras_softconv": ["py.typed"]},
    python_requires=">=3.11",
    # Today's, or all three of 2.15, which the extra `addons` asks for; nothing between.
    install_requires=[
        "keras>=2.15" + excluded("3", range(15)),
        "tensorboard>=2.15" + excluded("2", range(16, 21)),
        "tensorflow>=2.15" + excluded("2", range(16, 21)),
    ],
    extras_require={
        "addons": ADDONS,
        "backends": BACKENDS,
        "coverage": COVERAGE,
        "docs": DOCS,
        "examples": EXAMPLES,
        "experiments": EXAMPLES + EXPERIMENTS,
        "plots": PLOTS,
        "test": EXAMPLES + EXPERIMENTS + TEST,
    },
    classifiers=[
        "Development Status :: 5 - Production/Stable",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
