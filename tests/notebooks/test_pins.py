"""The pinned packages install on every Python that the project allows."""

from importlib import metadata
import re
import tomllib

from engine import REPOSITORY
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
import pytest

LINES = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = dict(line.split("==") for line in LINES)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
INSTALLED = {canonicalize_name(found.metadata["Name"]): found for found in metadata.distributions()}


@pytest.mark.parametrize("name", PINS)
def test_a_pinned_package_allows_the_first_python_3_11(name):
    """Debian 12 has Python 3.11.2. A package that is not installed, or in another version, cannot be asked."""
    found = INSTALLED.get(canonicalize_name(name))
    if found is None or found.version.partition("+")[0] != PINS[name]:
        pytest.skip(f"{name} {PINS[name]} is not installed")
    wanted = found.metadata.get("Requires-Python") or ""
    assert "3.11.0" in SpecifierSet(wanted), f"{name}=={PINS[name]} needs Python {wanted}: pin an older version"


def test_the_pins_lie_in_the_ranges_of_the_project():
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    asked = [Requirement(line) for line in (*PROJECT["dependencies"], *extras)]
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    for requirement in asked:
        if requirement.name != "ncdlib":  # an extra that contains another
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_pin_names_one_version():
    assert len(PINS) == len(LINES) and all(re.fullmatch(r"[\w.-]+==[\d.]+", line) for line in LINES)
