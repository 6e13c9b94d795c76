"""What the README and the docstrings show is true."""

import doctest
import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from backends import KERAS_2

import keras_softconv
from keras_softconv import (
    callbacks,
    conversion,
    diagnostics,
    layers,
    optimizers,
    path,
    regularizers,
)

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SOFT_CONVS = [layers.SoftConv1D, layers.SoftConv2D, layers.SoftConv3D]
CONVERSIONS = [getattr(conversion, name) for name in conversion.__all__]
REGULARIZERS = [
    thing
    for name in regularizers.__all__
    if inspect.isclass(thing := getattr(regularizers, name)) and "Structured" not in name
]
PUBLIC = [
    layers.SoftConv2D,
    *(getattr(callbacks, name) for name in callbacks.__all__),
    diagnostics.structure_numbers,
    path.RegularizationPath,
    path.regularization_path,
    *REGULARIZERS,
    *CONVERSIONS,
]
EXAMPLES = [
    *SOFT_CONVS,
    *CONVERSIONS,
    *([] if KERAS_2 else [optimizers.ProximalAdam]),
    regularizers.proximal_step,
]
PAGES = ["docs/addons.md"] if KERAS_2 else ["README.md", "docs/penalties.md"]


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_runs_in_order_and_prints_what_it_says(
    page, tmp_path, monkeypatch, capsys
):
    text = (ROOT / page).read_text()
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
        printed = capsys.readouterr().out
        for expected in re.findall(r"^# prints (.*)$", block, re.MULTILINE):
            assert expected in printed


def test_files_and_commands_of_the_readme_exist():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", README, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target


def test_ci_runs_the_test_command_of_the_readme():
    assert "make test" in README
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


@pytest.mark.parametrize("thing", EXAMPLES, ids=lambda thing: thing.__name__)
def test_docstring_examples(thing):
    tests = doctest.DocTestFinder().find(thing)
    examples = [test for test in tests if test.examples]
    assert examples or thing is conversion.harden
    for test in examples:
        test.globs.update(keras=keras, keras_softconv=keras_softconv, np=np)
        assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_every_argument_is_documented(thing):
    documented = inspect.getdoc(thing)
    for name, parameter in inspect.signature(thing).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            entry = rf"^ +(\w+, )*{name}(, \w+)*:"
            assert re.search(entry, documented, re.MULTILINE), name
