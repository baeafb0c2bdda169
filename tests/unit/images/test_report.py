import io
import json
from dataclasses import replace

from ruamel.yaml import YAML

from doogie_client.commands.catalogue import Catalogue
from doogie_client.commands.package import Package
from doogie_images import report
from doogie_images.images import Image
from doogie_images.lock import Change, Lock
from doogie_images.request import Mount, Request
from doogie_images.update import Plan
from tests.unit.images.examples import ID, NPX, built, image, npm_lock


def parts(text: str) -> dict[str, object]:
    document = YAML(typ="safe").load(io.StringIO(text))
    assert isinstance(document, dict)
    return document


def test_all_that_is_printed_is_one_yaml_document_with_entry_and_rule() -> None:
    what = built(image("npx:@scope/server@1.2.3"), "one", "two")
    document = parts(report.text(what))
    assert set(document) == {"images", "rules"}
    catalogue = Catalogue.parse(f"version: 1\n{report.text(what).partition('rules:')[0]}")
    assert catalogue.entries == (report.entry(what.image),)
    assert document["rules"] == [report.rule_of(what.image)]


def test_a_server_cannot_write_into_the_catalogue_or_the_policy() -> None:
    what = built(image(), "harmless\nrules:\n  - name: mine", "\x1b[2K\x1b[1A# gone", "\u202egnp.exe")
    text = report.text(what)
    assert parts(text)["rules"] == [report.rule_of(what.image)]
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_json_says_the_same() -> None:
    package = Package.from_text("uvx:server[cli]==1.0").running("run-it", ["mcp<2"])
    what = built(image(str(package), request=Request(package=package)), "tool")
    what = replace(what, image=replace(what.image, package=package))
    answer = json.loads(json.dumps(report.as_json(what)))
    assert answer["id"] == ID
    assert answer["tools"] == ["tool"]
    assert answer["entry"] == {
        "package": "uvx:server[cli]==1.0",
        "executable": "run-it",
        "with": ["mcp<2"],
        "image": what.image.name,
    }
    assert answer["rule"] == report.rule_of(what.image)
    assert report.as_json(built())["tools"] is None
    assert report.as_json(built())["replaced"] is None


def test_what_the_operator_has_to_do_besides_is_said() -> None:
    mounts = {"docs": Mount.parse("/srv/mcp/docs:/docs"), "cache": Mount.parse("tool-cache:/cache")}
    asked = Request(package=Package.from_text("npx:@scope/server@^1.2"), mounts=mounts)
    text = report.text(built(image(request=asked)))
    assert "mount_roots must hold /srv/mcp/docs\n" in text
    assert "commands must name this version: ^1.2 means another one tomorrow" in text
    latest = Request(package=Package.from_text("npx:@scope/server@latest"))
    assert "tomorrow" not in report.text(built(image(request=latest)))


def test_an_image_that_lost_its_name_to_a_new_one_is_told() -> None:
    assert "sha256:cd had this name; it is still there" in report.text(replace(built(), replaced="sha256:cd"))


def plan(of: Image, *changes: Change, new_base: bool = False) -> Plan:
    lock = Lock.parse(NPX, npm_lock(("@scope/server", "1.2.3"), own=("@scope/server",)))
    return Plan(of, of.request, lock, changes, new_base)


def test_an_update_shows_what_comes_goes_and_changes() -> None:
    changes = [Change("fresh", (), ("3.0",)), Change("gone", ("1.0",), ()), Change("zod", ("1.0",), ("1.0", "2.0"))]
    assert report.plan(plan(image(), *changes, new_base=True)).splitlines() == [
        "doogie/npx/scope/server:1.2.3:",
        "  + fresh 3.0",
        "  - gone 1.0",
        "    zod 1.0 → 1.0, 2.0",
        "  the base image is another one now",
    ]


def test_what_was_built_pinned_is_up_to_date_and_says_how_to_get_newer() -> None:
    assert "--latest" in report.plan(plan(image()))
    asked = Request(package=Package.from_text("npx:@scope/server"))
    assert report.plan(plan(image(request=asked))) == "doogie/npx/scope/server:1.2.3 is up to date\n"


def test_a_list_shows_what_lost_its_name_and_who_uses_it() -> None:
    name, package, _, size, users, short = report.row(replace(image(), names=()), ["doogie-a", "doogie-b"])
    assert (name, package, size, users, short) == (
        "(replaced)",
        "npx:@scope/server@1.2.3",
        "100 MB",
        "doogie-a, doogie-b",
        "ab" * 6,
    )
    listed = json.loads(json.dumps(report.listed(image(), [])))
    assert listed["names"] == ["doogie/npx/scope/server:1.2.3"]
    assert Request.model_validate(listed["request"]) == image().request
