"""The documentation says what the program does: keys, commands, targets, exit codes."""

import importlib.util
import re
from pathlib import Path

import pytest

from federation.errors import BadInput, ChorusError, Lost, Refused, TooFew
from flows.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_key_of_the_configuration_is_documented_as_it_is():
    spec = importlib.util.spec_from_file_location("configuration", ROOT / "docs" / "configuration.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == module.page()
    assert "or stop (`drop`, `refuse`) |" in page
    assert "runs leave behind, from where the command is typed |" in page
    for model in module.SECTIONS.values():
        for name, field in model.model_fields.items():
            assert field.description or name == "kind", f"{model.__name__}.{name} has no description"


@pytest.mark.parametrize("command", [command.callback.__name__ for command in app.registered_commands])
def test_every_command_is_in_the_readme(command):
    assert f"`chorus {command}`" in README


@pytest.mark.parametrize(
    "target", re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
)
def test_every_make_target_is_in_the_readme(target):
    assert f"`{target}`" in README


@pytest.mark.parametrize("error", [ChorusError, BadInput, Refused, TooFew, Lost])
def test_every_exit_code_is_in_the_readme(error):
    assert re.search(rf"\b{error.exit_code} [a-z]", README)


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
