"""What the README and the docstrings show is true."""

import doctest
import importlib
import inspect
import pkgutil
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
OF_KERAS_3 = [
    "README.md",
    "docs/index.md",
    # These train for long.
    *(
        pytest.param(f"docs/{name}.md", marks=pytest.mark.slow)
        for name in ("penalties", "tensorboard", "tutorial")
    ),
]
PAGES = ["docs/addons.md"] if KERAS_2 else OF_KERAS_3
FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)
NUMBER = r"(-?\d+(?:\.\d+)?)"
ABOUT = re.compile(rf"(?:about )?{NUMBER} \(± {NUMBER}\)")


def documented() -> dict[str, str]:
    """The docstrings of the package that have examples, by the names of their owners."""
    found = {}
    for module in pkgutil.walk_packages(keras_softconv.__path__, "keras_softconv."):
        left_out = "compat", *(["optimizers"] if KERAS_2 else [])
        if module.name.split(".")[1] in left_out:
            continue  # other versions of Keras
        if KERAS_2 and module.name.endswith(".of_old_models"):
            continue  # the layers that Keras 3 has no longer
        tests = doctest.DocTestFinder().find(importlib.import_module(module.name))
        found |= {
            test.name: test.docstring
            for test in tests
            if test.examples or FENCED.search(test.docstring)
        }
    return found


EXAMPLES = documented()


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_runs_in_order_and_prints_what_it_says(
    page, tmp_path, monkeypatch, capsys
):
    text = (ROOT / page).read_text()
    monkeypatch.chdir(tmp_path)
    blocks = FENCED.findall(text)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
        printed = capsys.readouterr().out
        for expected in re.findall(r"^# prints (.*)$", block, re.MULTILINE):
            assert says(printed, expected), (expected, printed)


def says(printed: str, expected: str) -> bool:
    """Whether this stands there; for `about 0.93 (± 0.02)` any number so near will do."""
    texts = ABOUT.split(expected)  # text, number, error, text, ...
    pattern = NUMBER.join(map(re.escape, texts[::3]))
    ranges = [*zip(map(float, texts[1::3]), map(float, texts[2::3]), strict=True)]
    return any(
        all(
            abs(float(number) - near) <= error + 1e-9
            for number, (near, error) in zip(found.groups(), ranges, strict=True)
        )
        for found in re.finditer(pattern, printed)
    )


@pytest.mark.parametrize(
    ("printed", "expected", "is_said"),
    [
        ("a 0.94\n", "a about 0.93 (± 0.02)", True),
        ("a 0.96\n", "a about 0.93 (± 0.02)", False),
        ("b 0.93\n", "a about 0.93 (± 0.02)", False),
        ("1.5 -2 x\n", "about 1.4 (± 0.1) -1 (± 1) x", True),
        ("1.5 -2 x\n", "about 1.4 (± 0.1) 1 (± 1) x", False),
        ("[1, 2]\n", "[1, 2]", True),
        ("[1, 3]\n", "[1, 2]", False),
    ],
)
def test_numbers_have_to_be_as_near_as_a_page_says(printed, expected, is_said):
    assert says(printed, expected) == is_said


def test_files_and_commands_of_the_readme_exist():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", README, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target


def test_ci_runs_the_test_command_of_the_readme():
    assert "make test" in README
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def make_model() -> keras.Model:
    soft = layers.SoftConv2D(3, 3, name="soft")
    model = keras.Sequential([keras.Input((6, 6, 1)), soft], name="model")
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)  # or Keras traces its steps twice
    return model


def namespace_of_examples() -> dict:
    """What the examples of docstrings take for granted."""
    model, rng = make_model(), np.random.default_rng(0)
    inputs, targets = (
        rng.normal(size=(8, size, size, channels)).astype("float32")
        for size, channels in ((6, 1), (4, 3))
    )
    return {
        **{name: getattr(keras_softconv, name) for name in keras_softconv.__all__},
        **vars(keras_softconv.plots),
        **{name: getattr(callbacks, name) for name in callbacks.__all__},
        "keras": keras,
        "keras_softconv": keras_softconv,
        "np": np,
        "make_model": make_model,
        "model": model,
        "layer": model.get_layer("soft"),
        **dict.fromkeys(("x", "x_val"), inputs),
        **dict.fromkeys(("y", "y_val"), targets),
    }


def ring_of(name) -> list[pytest.MarkDecorator]:
    """Examples of callbacks and paths train models."""
    trains = name.split(".")[1] in ("callbacks", "path")
    return [pytest.mark.slow] if trains else []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=ring_of(name)) for name in EXAMPLES]
)
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, namespace = EXAMPLES[name], namespace_of_examples()
    if FENCED.search(text):
        for block in FENCED.findall(text):
            exec(compile(inspect.cleandoc(block), name, "exec"), namespace)
    else:
        test = doctest.DocTestParser().get_doctest(text, namespace, name, None, 0)
        assert doctest.DocTestRunner().run(test).failed == 0


def test_what_one_begins_with_has_an_example():
    begin = [
        *(f"layers.soft_conv{rank}d.SoftConv{rank}D" for rank in (1, 2, 3)),
        *("conversion.of_models.soften", "conversion.of_layers.from_conv"),
        "diagnostics.report.structure_report",
        *("plots.maps.shades", "path.path.regularization_path"),
        *(f"callbacks.{module_of(one)}.{one}" for one in callbacks.__all__),
    ]
    assert {f"keras_softconv.{name}" for name in begin} <= set(EXAMPLES)


def module_of(name: str) -> str:
    return getattr(callbacks, name).__module__.rpartition(".")[2]


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_every_argument_is_documented(thing):
    documented = inspect.getdoc(thing)
    for name, parameter in inspect.signature(thing).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            entry = rf"^ +(\w+, )*{name}(, \w+)*:"
            assert re.search(entry, documented, re.MULTILINE), name
