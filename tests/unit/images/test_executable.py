import pytest

from doogie_client.commands.package import Package
from doogie_images.errors import NoExecutable
from doogie_images.executable import Executables, choose


def npx(executable: str | None = None) -> Package:
    return Package.from_text("npx:@scope/server@1.0.0").running(executable)


def uvx(executable: str | None = None) -> Package:
    return Package.from_text("uvx:mcp-server==1.0").running(executable)


def test_the_only_program_is_the_server_whatever_its_name() -> None:
    assert choose(npx(), {"@scope/server": {"anything": "dist/index.js"}}) == "anything"
    assert choose(uvx(), {"mcp_server": {"run-it": "/server/bin/run-it"}}) == "run-it"


def test_of_several_the_one_of_the_packages_own_name_is_the_server() -> None:
    assert choose(npx(), {"@scope/server": {"other": "a.js", "server": "b.js"}}) == "server"
    assert choose(uvx(), {"MCP.Server": {"other": "a", "mcp_server": "b"}}) == "mcp_server"


def test_several_names_of_one_file_are_one_program() -> None:
    assert choose(npx(), {"@scope/server": {"b-name": "x.js", "a-name": "x.js"}}) == "a-name"


def test_several_programs_of_other_names_are_an_error_that_lists_them() -> None:
    with pytest.raises(NoExecutable, match="it has cli, serve; name one with --executable"):
        choose(npx(), {"@scope/server": {"serve": "a.js", "cli": "b.js"}, "other": {"server": "c.js"}})


def test_a_library_is_an_error() -> None:
    without: list[Executables] = [{}, {"@scope/server": {}}, {"other": {"server": "a.js"}}]
    for found in without:
        with pytest.raises(NoExecutable, match="no program to run"):
            choose(npx(), found)


def test_a_program_that_was_asked_for_may_be_of_a_package_beside_it() -> None:
    found = {"mcp-server": {"mcp-server": "a"}, "beside": {"tool": "b"}}
    assert choose(uvx("tool"), found) == "tool"
    with pytest.raises(NoExecutable, match="no program 'nothing': it has mcp-server"):
        choose(uvx("nothing"), found)


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", "a b", "", "x\n", "$(id)"])
def test_a_name_that_a_path_or_shell_could_misread_is_no_program(name: str) -> None:
    with pytest.raises(NoExecutable):
        choose(npx(), {"@scope/server": {name: "a.js"}})
