"""Which Keras the package asks for, when it is installed and when it is imported."""

from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement

from keras_softconv.compat.versions import check_version

GOOD = ("2.15.0", "3.15.0", "3.15.1", "3.16.0", "4.0")
BAD = ("2.4.3", "2.14.0", "3.0.5", "3.8.0", "3.14.1")


def requirement_of(package, extra=None) -> Requirement:
    found = map(Requirement, requires("keras-softconv"))
    (one,) = (
        r for r in found
        if r.name == package and (r.marker is None if extra is None else
                                  r.marker and r.marker.evaluate({"extra": extra}))
    )  # fmt: skip
    return one


@pytest.mark.parametrize("version", GOOD)
def test_good_versions_are_installed_and_imported(version):
    check_version(version)
    assert version in requirement_of("keras").specifier


@pytest.mark.parametrize("version", BAD)
def test_other_versions_are_neither(version):
    with pytest.raises(ImportError, match=f"Received: Keras {version}. `pip install --up"):
        check_version(version)
    assert version not in requirement_of("keras").specifier


def test_the_two_stacks():
    for package in ("tensorflow", "tensorboard"):
        plain, old = requirement_of(package), requirement_of(package, "addons")
        assert "2.15.1" in plain.specifier
        assert "2.21.0" in plain.specifier
        assert "2.16.1" not in plain.specifier
        assert "2.20.0" not in plain.specifier
        assert "2.15.1" in old.specifier
        assert "2.21.0" not in old.specifier
    assert "0.23.0" in requirement_of("tensorflow-addons", "addons").specifier
    assert "2.15.0" in requirement_of("keras", "addons").specifier
