import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_client.commands.package import Package, Runner
from doogie_images.naming import image_name, rule_name
from doogie_images.request import Request
from doogie_proxy.policy import Rule
from doogie_proxy.references import ImageRef

NPM_PART = st.from_regex(r"[a-z0-9~-][a-z0-9._~-]{0,20}", fullmatch=True)
NPM_NAMES = st.one_of(NPM_PART, st.tuples(NPM_PART, NPM_PART).map(lambda parts: f"@{parts[0]}/{parts[1]}"))
PYPI_NAMES = st.from_regex(r"[a-z0-9](?:-?[a-z0-9]){0,20}", fullmatch=True)
NPM_VERSIONS = st.from_regex(
    r"[0-9]{1,2}(\.[0-9]{1,2}){2}(-[0-9A-Za-z.-]{1,8})?(\+[0-9A-Za-z.-]{1,8})?", fullmatch=True
)
PYPI_VERSIONS = st.from_regex(
    r"([0-9]!)?[0-9]{1,2}(\.[0-9]{1,2}){0,2}((a|b|rc)[0-9])?(\+[a-z0-9.]{1,6})?", fullmatch=True
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    extras = draw(st.sets(st.sampled_from(["a", "b"])))
    executable = draw(st.sampled_from([None, "run", "x"]))
    beside = tuple(sorted(draw(st.sets(st.sampled_from(["other", "more"])))))
    if draw(st.booleans()):
        package = Package(Runner.NPX, draw(NPM_NAMES), draw(NPM_VERSIONS), (), executable, beside)
    else:
        package = Package(Runner.UVX, draw(PYPI_NAMES), draw(PYPI_VERSIONS), tuple(sorted(extras)), executable, beside)
    system = tuple(sorted(draw(st.sets(st.sampled_from(["git", "ffmpeg"])))))
    return Request(package=package, allow_scripts=draw(st.booleans()), system_packages=system)


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("npx:@scope/pkg@1.2.3", "doogie/npx/scope/pkg:1.2.3"),
        ("npx:pkg@1.2.3", "doogie/npx/pkg:1.2.3"),
        ("uvx:pkg==1.2.3", "doogie/uvx/pkg:1.2.3"),
        ("npx:pkg@1.2.3-beta.1+sha.5", "doogie/npx/pkg:1.2.3-beta.1_sha.5"),
        ("uvx:pkg==1!2.0+cu12", "doogie/uvx/pkg:1-2.0_cu12"),
        ("npx:odd~@1.0.0", f"doogie/npx-hex/{b'odd~'.hex()}:1.0.0"),
        ("npx:@scope/x_@1.0.0", f"doogie/npx-hex/{b'@scope/x_'.hex()}:1.0.0"),
    ],
)
def test_a_name_follows_from_package_and_version(package: str, name: str) -> None:
    parsed = Package.from_text(package)
    assert image_name(parsed, Request(package=parsed)) == name


def test_what_is_built_otherwise_is_called_otherwise() -> None:
    plain = Package.from_text("uvx:pkg==1.0")
    requests = [
        Request(package=plain),
        Request(package=Package.from_text("uvx:pkg[extra]==1.0")),
        Request(package=plain.running("other")),
        Request(package=plain.running(None, ["six"])),
        Request(package=plain, system_packages=("git",)),
        Request(package=plain, allow_scripts=True),
    ]
    names = [image_name(request.package, request) for request in requests]
    assert names[0] == "doogie/uvx/pkg:1.0"
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"doogie/uvx/pkg:1\.0__[0-9a-f]{12}", name) for name in names[1:])


def test_how_a_server_is_run_does_not_change_its_images_name() -> None:
    package = Package.from_text("npx:pkg@1.0.0")
    run = Request(package=package, args=("--x",), env=("A",), tmpfs={"/data": "1MiB"}, memory="1GiB", network="tools")
    assert image_name(package, run) == image_name(package, Request(package=package))


@given(requests(), requests())
def test_two_builds_share_a_name_only_if_they_are_the_same(one: Request, other: Request) -> None:
    same = (one.package, one.allow_scripts, one.system_packages) == (
        other.package,
        other.allow_scripts,
        other.system_packages,
    )
    assert (image_name(one.package, one) == image_name(other.package, other)) == same


@given(requests(), st.sampled_from(["", "x" * 300]))
def test_every_name_is_one_that_docker_and_the_policy_take(request_: Request, suffix: str) -> None:
    package = Package(request_.package.runner, (request_.package.name + suffix)[:214], request_.package.version)
    reference = ImageRef.parse(f"{image_name(package, request_)}@sha256:{'0' * 64}")
    assert len(reference.repo) <= 255
    Rule.model_validate({"name": rule_name(request_.package), "images": [str(reference)]})


def test_a_version_too_long_for_a_tag_still_gets_one() -> None:
    package = Package(Runner.NPX, "pkg", "1.0.0-" + "a" * 200)
    longer = Package(Runner.NPX, "pkg", "1.0.0-" + "a" * 201)
    names = {image_name(each, Request(package=each)) for each in (package, longer)}
    assert len(names) == 2
    assert all(re.fullmatch(r"doogie/npx/pkg:sha256_[0-9a-f]{64}", name) for name in names)
