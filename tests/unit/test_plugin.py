"""Plugins are found by entry point; a broken one is named and harms nobody."""

import sys
import textwrap
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest

from vpipe.errors import UsageError
from vpipe.plugin import GROUP, Command, Plugin, discover, find_pipeline

GOOD = """
    from pathlib import Path
    from vpipe.plugin import Command, Plugin
    plugin = Plugin(Path("/pipelines/{name}.toml"), {{"{name}": Command("{module}:run", "Runs {name}.")}})
    run = "the command"
    not_a_plugin = 3
    """


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(site: Path, distribution: str, name: str, source: str = GOOD, attribute: str = "plugin") -> EntryPoint:
    """Put a package and its metadata on the path, as an installer does."""
    module = f"plugin_under_test_{distribution}"
    (site / f"{module}.py").write_text(textwrap.dedent(source).format(name=name, module=module))
    info = site / f"{distribution}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}:{attribute}\n")
    sys.modules.pop(module, None)
    (found,) = next(d for d in distributions(path=[str(site)]) if d.name == distribution).entry_points
    return found


def test_installed_plugin_is_found_with_its_pipeline_and_commands(site: Path) -> None:
    install(site, "fine", "counting")
    plugins = discover()
    assert plugins.get("counting").pipeline == Path("/pipelines/counting.toml")
    assert find_pipeline("counting") == Path("/pipelines/counting.toml")
    assert plugins.commands()["counting"].help == "Runs counting."
    assert plugins.commands()["counting"].load() == "the command"


def test_unknown_name_lists_those_that_are_installed(site: Path) -> None:
    plugins = discover([install(site, "fine", "counting")])
    with pytest.raises(UsageError, match="no pipeline is called 'scor'; installed: counting"):
        plugins.get("scor")


@pytest.mark.parametrize(
    ("source", "attribute", "reason"),
    [
        ("raise OSError('no GPU here')", "plugin", "cannot be loaded: OSError: no GPU here"),
        ("import not_there_at_all", "plugin", "cannot be loaded: ModuleNotFoundError"),
        (GOOD, "gone", "cannot be loaded: AttributeError"),
        (GOOD, "not_a_plugin", "is a int, not a vpipe.plugin.Plugin"),
    ],
)
def test_broken_plugin_is_named_with_its_distribution_and_harms_no_other(
    site: Path, source: str, attribute: str, reason: str
) -> None:
    points = [install(site, "fine", "counting"), install(site, "poor", "bad", source, attribute)]
    plugins = discover(points)
    assert list(plugins.found) == ["counting"]
    with pytest.raises(UsageError, match=f"plugin 'bad' of poor 1.2 .*{reason}"):
        plugins.get("bad")


def test_two_distributions_with_one_name_are_both_named(site: Path) -> None:
    plugins = discover([install(site, "one", "counting"), install(site, "two", "counting")])
    with pytest.raises(UsageError, match=r"'counting' is offered by one 1\.2 and two 1\.2"):
        plugins.get("counting")


def test_one_plugin_that_is_listed_twice_is_one_plugin(site: Path) -> None:
    point = install(site, "fine", "counting")
    assert list(discover([point, point]).found) == ["counting"]


def test_first_of_two_plugins_keeps_a_commands_name() -> None:
    first, second = Command("a:b", "first"), Command("c:d", "second")
    plugins = discover([])
    plugins.found["b"] = Plugin(Path(), {"run": second, "zoom": second})
    plugins.found["a"] = Plugin(Path(), {"run": first})
    assert plugins.commands() == {"run": first, "zoom": second}


def test_command_that_cannot_be_loaded_says_which() -> None:
    for target in ("not_there_at_all:run", "vpipe.plugin:gone"):
        with pytest.raises(UsageError, match=f"the command {target} cannot be loaded"):
            Command(target, "").load()
