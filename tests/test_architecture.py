"""The floors of the house: imports only point down."""

import ast
from pathlib import Path

import pytest
from setuptools import find_packages

PACKAGE = Path(__file__).parents[1] / "keras_softconv"
FLOORS = [
    {"arguments", "compat"},
    {"geometry", "regularizers"},
    {"memory", "weight_sharing"},
    {"initializers", "penalties"},
    {"shrinkage"},
    {"layers"},
    {"diagnostics"},
    {"conversion", "evidence", "optimizers", "path", "plots"},
    {"callbacks"},
]
# What reads the layers that Keras 2 saved names it; it runs with either Keras.
ABOUT_OLD_MODELS = ("locally_connected", "old_layers", "of_old_models")
FLOOR = {module: number for number, floor in enumerate(FLOORS) for module in sorted(floor)}


def imports(source: str) -> set[str]:
    """All modules that a source imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= names if node.module == "keras_softconv" else {node.module}
    return modules


def sources(module: str) -> list[str]:
    """The files of a module or of a folder of modules, which share a floor."""
    paths = [PACKAGE / f"{module}.py", *(PACKAGE / module).glob("*.py")]
    return [path.read_text() for path in paths if path.exists()]


def upward(module: str, source: str) -> set[str]:
    """Other modules of the package, imported from the same floor or above."""
    own = {name.split(".")[1] for name in imports(source) if "keras_softconv." in name}
    own.discard(module)
    return {name for name in own if FLOOR[name] >= FLOOR[module]}


@pytest.mark.parametrize("module", FLOOR)
def test_imports_point_down(module):
    for source in sources(module):
        assert upward(module, source) == set()


def test_every_module_has_a_floor_and_this_test_can_fail():
    modules = {path.stem for path in PACKAGE.iterdir() if path.stem[0] != "_"}
    assert modules - {"py"} == set(FLOOR)
    assert upward("geometry", "from keras_softconv.layers import SoftConv2D") == {"layers"}
    assert upward("layers", "from keras_softconv import callbacks") == {"callbacks"}


def test_setup_installs_every_folder_of_the_package():
    folders = {path.parent for path in PACKAGE.rglob("__init__.py")}
    names = {".".join(f.relative_to(PACKAGE.parent).parts) for f in folders}
    assert set(find_packages(str(PACKAGE.parent), include=["keras_softconv*"])) == names
    source = (PACKAGE.parent / "setup.py").read_text()
    assert 'find_packages(include=["keras_softconv*"])' in source


def test_geometry_knows_neither_keras_nor_tensors():
    for module in ("arguments", "geometry"):
        names = {name.split(".")[0] for name in imports(*sources(module))}
        assert names.isdisjoint({"keras", "tensorflow", "torch", "jax"})


def test_no_backend_is_imported_but_where_the_frameworks_differ():
    # The monitor asks JAX which process it is; compilers and derivatives are each
    # framework's own. Reports have JAX compile what a storage reads, for all layers of
    # the same geometry.
    expected = {
        "gradients": {"jax"},
        "keras3": {"torch"},
        "mesh": {"torch"},
        "keras2": {"tensorflow"},
        "layer": {"tensorflow"},
        "operations": {"tensorflow"},
        "compiled_numbers": {"jax", "tensorflow"},
        "parts": {"jax"},
        "structure_monitor": {"jax"},
        "curvature": {"jax", "tensorflow", "torch"},
    }
    for path in PACKAGE.rglob("*.py"):
        names = {name.split(".")[0] for name in imports(path.read_text())}
        backends = names & {"tensorflow", "torch", "jax"}
        assert backends == expected.get(path.stem, set()), path


def test_callbacks_import_backends_and_tensorboard_only_when_they_need_them():
    for source in sources("callbacks"):
        for node in ast.parse(source).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for name in ("tensorboard", "tensorflow", "jax", "torch", "matplotlib"):
                    assert name not in ast.dump(node)


def test_keras_comes_in_by_one_door():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "compat":
            names = {name.split(".")[0] for name in imports(path.read_text())}
            assert "keras" not in names, path
            if path.stem not in ABOUT_OLD_MODELS:
                assert "Keras 2" not in path.read_text(), path


def test_tensorflow_addons_is_never_imported():
    for path in PACKAGE.rglob("*.py"):
        names = {name.split(".")[0] for name in imports(path.read_text())}
        assert "tensorflow_addons" not in names, path


def test_no_assert_in_the_package():
    for module in FLOOR:
        for source in sources(module):
            nodes = ast.walk(ast.parse(source))
            assert not any(isinstance(node, ast.Assert) for node in nodes)
