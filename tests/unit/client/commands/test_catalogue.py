"""The catalogue: which image is which package; a file that is wrong says where."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from doogie_client.commands import Catalogue, CatalogueError, Package
from tests.unit.client.commands.reading import SHIPPED, faults, translated

IMAGES = Path(__file__).parents[4] / "deploy" / "images" / "compose.yaml"

OWN = """\
version: 1
images:
  - package: npx:@modelcontextprotocol/server-filesystem@1.0.0
    image: own/filesystem:1.0.0
  - package: uvx:toolbox==2.0
    image: own/toolbox:2.0
  - package: uvx:toolbox==1.0
    image: own/toolbox:1.0
  - package: uvx:toolbox==2.0
    executable: toolbox-mcp
    with: [pandas, "numpy>=2"]
    image: own/toolbox-mcp:2.0
  - package: uvx:toolbox[extra]==2.0
    image: own/toolbox-extra:2.0
"""


def find(text: str, catalogue: Catalogue, executable: str | None = None, beside: list[str] | None = None) -> str | None:
    entry = catalogue.find(Package.from_text(text).running(executable, beside or []))
    return entry.image if entry else None


def test_the_shipped_entries_are_the_images_that_the_repository_builds() -> None:
    services = YAML(typ="safe").load(IMAGES)["services"].values()
    built = {}
    for service in services:
        args = service["build"]["args"]
        spelled = f"uvx:{args['SERVER']}==" if "PYTHON_BASE" in args else f"npx:{args['SERVER']}@"
        built[f"{spelled}{args['VERSION']}"] = service["image"]
    assert {str(entry.package): entry.image for entry in SHIPPED.entries} == built


def test_the_operators_entries_are_asked_before_the_shipped_ones(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    catalogue = Catalogue.load(own)
    filesystem = "npx:@modelcontextprotocol/server-filesystem"
    assert find(filesystem, catalogue) == "own/filesystem:1.0.0"
    assert find(f"{filesystem}@2026.8.31", catalogue) == "doogie/mcp-server-filesystem:2026.8.31"
    assert find("uvx:mcp-server-time", catalogue) == "doogie/mcp-server-time:2026.10.19"
    assert Catalogue.load() == SHIPPED


@pytest.mark.parametrize(
    ("text", "executable", "beside", "image"),
    [
        ("uvx:toolbox", None, [], "own/toolbox:2.0"),
        ("uvx:toolbox@latest", None, [], "own/toolbox:2.0"),
        ("uvx:toolbox==1.0", None, [], "own/toolbox:1.0"),
        ("uvx:toolbox==1.0.0", None, [], "own/toolbox:1.0"),
        ("uvx:ToolBox", "toolbox", [], "own/toolbox:2.0"),
        ("uvx:toolbox", "toolbox-mcp", ["numpy>=2", "Pandas"], "own/toolbox-mcp:2.0"),
        ("uvx:toolbox[extra]", None, [], "own/toolbox-extra:2.0"),
        ("uvx:toolbox", "toolbox-mcp", [], None),
        ("uvx:toolbox", "other", [], None),
        ("uvx:toolbox[other]", None, [], None),
        ("uvx:toolbox==3.0", None, [], None),
        ("uvx:toolbox>=1", None, [], None),
        ("uvx:toolbox@next", None, [], None),
        ("npx:toolbox", None, [], None),
    ],
)
def test_a_package_is_found_as_a_whole(text: str, executable: str | None, beside: list[str], image: str | None) -> None:
    assert find(text, Catalogue.parse(OWN), executable, beside) == image


def test_a_command_without_a_version_gets_the_catalogues_and_is_told_which() -> None:
    for line in ("uvx mcp-server-time", "uvx mcp-server-time@latest"):
        found = translated(line, SHIPPED)
        assert found.request.image == "doogie/mcp-server-time:2026.10.19"
        assert any("runs as version 2026.10.19" in note for note in found.notes)
    assert translated("uvx mcp-server-time@2026.10.19", SHIPPED).notes == ()


@pytest.mark.parametrize(
    ("line", "ask", "said"),
    [
        ("npx -y foo", "doogie-images build npx:foo", "no image of npx:foo yet"),
        ("npx -y foo@latest", "doogie-images build npx:foo", "no image of npx:foo@latest yet"),
        ("npx -y @a/foo@1.2.3", "doogie-images build npx:@a/foo@1.2.3", "no image of npx:@a/foo@1.2.3 yet"),
        ("npx foo@^1", "doogie-images build 'npx:foo@^1'", "an exact one"),
        ("npx -p foo@1.2.3 bar", "doogie-images build 'npx -y -p foo@1.2.3 bar'", "yet"),
        ("npx -p foo -p tar foo", "doogie-images build 'npx -y -p foo -p tar foo'", "yet"),
        ("uvx 'foo[b]==1.2'", "doogie-images build 'uvx:foo[b]==1.2'", "yet"),
        ("uvx --from foo bar", "doogie-images build 'uvx --from foo bar'", "yet"),
        ("uvx --with 'x>=1' foo", "doogie-images build 'uvx --with \"x>=1\" foo'", "yet"),
        ("uvx mcp-server-time@1.0", "doogie-images build uvx:mcp-server-time==1.0", "there is one of 2026.10.19"),
    ],
)
def test_an_unmapped_package_ends_in_the_one_line_that_mends_it(line: str, ask: str, said: str) -> None:
    (fault,) = faults(line)
    assert (fault.kind, fault.ask) == ("unmapped", ask)
    assert said.replace("an exact one", "the exact one") in fault.msg


def test_the_line_that_mends_it_mends_it() -> None:
    (fault,) = faults("uvx --with 'Pandas>=1' --from 'foo[b]' bar --x")
    assert fault.ask == 'doogie-images build \'uvx --with "pandas>=1" --from "foo[b]" bar\''
    printed = (
        'version: 1\nimages:\n- {package: "uvx:foo[b]==1.0", executable: bar, with: ["pandas>=1"], image: b/foo:1.0}\n'
    )
    assert translated("uvx --with 'Pandas>=1' --from 'foo[b]' bar --x", Catalogue.parse(printed)).request.args == [
        "--x"
    ]


def test_an_entry_is_written_as_it_is_read() -> None:
    entries = Catalogue.parse(OWN).entries
    assert Catalogue.parse("version: 1\nimages:\n" + "".join(entry.to_yaml() for entry in entries)).entries == entries
    assert SHIPPED.entries[0].to_yaml() == (
        "  - package: uvx:mcp-server-time==2026.10.19\n    image: doogie/mcp-server-time:2026.10.19\n"
    )


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("version: 1\nimages: []\nversion: 1\n", ["own.yaml:3: found duplicate key"]),
        ("images: []\n", ["own.yaml:1: version: Field required"]),
        ("version: 2\nimages: []\n", ["own.yaml:1: version: Input should be 1"]),
        ("version: 1\nimage: []\n", ["own.yaml:1: images: Field required", "own.yaml:2: image: unknown key"]),
        ("- a\n", ["own.yaml:1: a catalogue is a mapping that begins with version: 1"]),
        ("", ["own.yaml:1: a catalogue is a mapping that begins with version: 1"]),
        ("version: 1\nimages: [\n", ["own.yaml:3: "]),
        ("version: \0\n", ["own.yaml: not YAML: "]),
        (
            "version: 1\nimages:\n  - package: npx:foo@1.0.0\n    image: a b\n  - image: x\n    pakage: y\n",
            [
                "own.yaml:4: images.0.image: String should match",
                "own.yaml:5: images.1.package: Field required",
                "own.yaml:6: images.1.pakage: unknown key",
            ],
        ),
        (
            "version: 1\nimages:\n  - package: npx:foo\n    image: x\n  - package: uvx:foo>=1\n    image: x\n",
            [
                "own.yaml:3: images.0.package: it needs an exact version, like npx:foo@1.2.3",
                "own.yaml:5: images.1.package: it needs an exact version, like uvx:foo==1.2.3",
            ],
        ),
        (
            "version: 1\nimages:\n  - package: uvx:Foo==1.0\n    image: x\n  - package: uvx:foo==1\n    image: y\n",
            ["own.yaml:5: images.1.package: uvx:foo==1 is in this file twice"],
        ),
        (
            "version: 1\nimages:\n  - package: foo@1.0.0\n    image: x\n",
            ["own.yaml:3: images.0.package: a package is written npx:"],
        ),
        (
            "version: 1\nimages:\n  - package: uvx:foo==1\n    with: [../x]\n    image: x\n",
            ["own.yaml:3: images.0.package: not the name of a PyPI package"],
        ),
    ],
)
def test_a_wrong_file_says_where_and_what(text: str, lines: list[str], tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(CatalogueError) as refused:
        Catalogue.load(own)
    said = [line.removeprefix(f"{tmp_path}/") for line in refused.value.lines]
    assert len(said) == len(lines)
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True)), said


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"nowhere\.yaml: cannot be read"):
        Catalogue.load(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"version: \xff")
    with pytest.raises(CatalogueError, match=r"latin\.yaml: cannot be read"):
        Catalogue.load(tmp_path / "latin.yaml")
