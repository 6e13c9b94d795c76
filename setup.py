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
EXAMPLES = [*PLOTS, "scikit-learn>=1.4"]
BACKENDS = ["jax>=0.6", "torch>=2.6"]
TEST = ["hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.6", "ruff==0.17.6"]

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
    install_requires=["keras>=3.14", "tensorflow>=2.21", "tensorboard>=2.21"],
    extras_require={
        "backends": BACKENDS,
        "examples": EXAMPLES,
        "plots": PLOTS,
        "test": EXAMPLES + TEST,
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
