"""The answers are those of npm 11, uv 0.13, pip 23 and BuildKit, as they were recorded."""

import json

import pytest

from doogie_client.commands.package import Package
from doogie_images.answers import build_failure, last_words, not_resolved

MEMORY = Package.from_text("npx:@modelcontextprotocol/server-memory@9.9.9")
TIME = Package.from_text("uvx:mcp-server-time==9.9")


def npm(code: str, summary: str, detail: str = "") -> dict[str, str]:
    return {"answer.json": json.dumps({"error": {"code": code, "summary": summary, "detail": detail}})}


def test_an_npm_version_that_does_not_exist_is_told_with_the_newest() -> None:
    answer = npm("ETARGET", "No matching version found for @modelcontextprotocol/server-memory@9.9.9.")
    why, _ = not_resolved(MEMORY, {**answer, "newest": '"2026.8.31"\n'})
    assert why.endswith("npm has no @modelcontextprotocol/server-memory@9.9.9: the newest version is 2026.8.31")


def test_the_newest_version_of_ours_says_nothing_about_a_dependency_that_is_missing() -> None:
    why, _ = not_resolved(MEMORY, {**npm("ETARGET", "No matching version found for zod@99."), "newest": '"2026.8.31"'})
    assert why.endswith("npm has no zod@99")


def test_an_npm_package_that_does_not_exist_is_named() -> None:
    detail = "The requested resource '@scope/nothing@*' could not be found or you do not have permission to access it."
    why, said = not_resolved(MEMORY, npm("E404", "Not Found - GET https://registry.example/@scope%2fnothing", detail))
    assert "npm has no package @scope/nothing" in why
    assert "Not Found" in said


def test_a_pypi_version_that_does_not_exist_is_told_with_the_newest() -> None:
    said = (
        "error: No solution found when resolving dependencies\n  cause: Because there is no version of "
        "mcp-server-time==9.9 and you require mcp-server-time==9.9, we can conclude that your requirements are "
        "unsatisfiable.\n"
    )
    why, _ = not_resolved(TIME, {"answer.txt": said, "newest": "mcp-server-time==2026.10.19\n"})
    assert why.endswith("PyPI has no mcp-server-time==9.9: the newest version is 2026.10.19")


def test_a_pypi_package_that_does_not_exist_is_named() -> None:
    said = "  cause: Because mcp-server-tine was not found in the package registry and you require mcp-server-tine, …"
    assert "PyPI has no package mcp-server-tine" in not_resolved(TIME, {"answer.txt": said})[0]


def test_a_package_without_a_wheel_is_named_with_what_would_build_it() -> None:
    said = (
        "error: No solution found when resolving dependencies\n  cause: Because all versions of docopt have no usable "
        "wheels and you require docopt, …\n\nhint: Wheels are required for `docopt` because building from source is "
        "disabled for all packages (i.e., with `--no-build`)\n"
    )
    why, detail = not_resolved(TIME, {"answer.txt": said})
    assert "docopt has no wheel" in why
    assert "--allow-scripts" in why
    assert detail == said


@pytest.mark.parametrize(
    ("files", "setting"),
    [
        (npm("EAI_AGAIN", "request to https://registry.example/x failed, reason: getaddrinfo EAI_AGAIN"), "NETWORK"),
        (npm("SELF_SIGNED_CERT_IN_CHAIN", "request to https://registry.example/x failed"), "CA"),
        (npm("UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "unable to get local issuer certificate"), "CA"),
    ],
)
def test_no_network_and_no_trust_are_told_by_the_setting_that_mends_them(files: dict[str, str], setting: str) -> None:
    assert f"DOOGIE_BUILD_{setting}" in not_resolved(MEMORY, files)[0]


@pytest.mark.parametrize(
    ("said", "setting"),
    [
        ("error: Failed to fetch: https://x/\n  cause: invalid peer certificate: UnknownIssuer\n", "CA"),
        ("error: Failed to fetch: https://x/\n  cause: client error (Connect)\n  cause: dns error\n", "NETWORK"),
    ],
)
def test_so_they_are_where_uv_says_it(said: str, setting: str) -> None:
    assert f"DOOGIE_BUILD_{setting}" in not_resolved(TIME, {"answer.txt": said})[0]


@pytest.mark.parametrize("files", [{}, {"answer.json": "<html>"}, {"answer.json": '{"error": []}'}, npm("EX", "other")])
def test_an_answer_that_nobody_expected_is_shown_as_it_is(files: dict[str, str]) -> None:
    why, said = not_resolved(MEMORY, files)
    assert why.endswith("npm did not resolve it")
    assert said.strip() in ("", "<html>", '{"error": []}', "EX other")
    assert not_resolved(TIME, {"answer.txt": "error: other"}) == ("uv did not resolve it", "error: other")


NO_BASE = """\
#3 [internal] load metadata for docker.io/library/python:3.13-slim
#3 ERROR: failed to do request: Head "https://registry.example/v2/": dial tcp: lookup registry.example: no such host
------
 > [internal] load metadata for docker.io/library/python:3.13-slim:
------
ERROR: failed to solve: failed to do request: Head "https://registry.example/v2/": no such host
"""


def test_a_base_image_that_is_not_to_be_had_is_named_with_the_setting() -> None:
    why, said = build_failure(NO_BASE)
    assert "docker.io/library/python:3.13-slim" in why
    assert "DOOGIE_PYTHON_BASE" in why
    assert "no such host" in said


FAILED_STEP = """\
#8 [install 2/2] RUN uv pip sync
#8 0.241 first
#9 [other] RUN true
#9 0.100 not of that step
#8 3.735 E: Unable to locate package nosuchthing
#8 ERROR: process "/bin/sh -c …" did not complete successfully: exit code: 100
------
 > [install 2/2] RUN uv pip sync:
: Unable to locate package nosuchthing
------
ERROR: failed to solve: exit code: 100
"""


def test_of_a_step_that_failed_its_own_last_words_are_shown() -> None:
    assert build_failure(FAILED_STEP) == (
        "a step of the build failed",
        "first\nE: Unable to locate package nosuchthing",
    )


def test_a_step_that_failed_for_want_of_a_network_is_told_so() -> None:
    log = FAILED_STEP.replace("first", "Retrying … [Errno -3] Temporary failure in name resolution: /simple/uv/")
    assert "DOOGIE_BUILD_NETWORK" in build_failure(log)[0]


def test_a_step_that_wrote_nothing_is_told_by_its_end() -> None:
    log = '#8 [a] RUN false\n#8 ERROR: process "false" did not complete: exit code: 1\nERROR: failed to solve\n'
    assert build_failure(log) == ("a step of the build failed", 'process "false" did not complete: exit code: 1')


def test_a_log_without_a_step_is_shown_from_its_end() -> None:
    assert build_failure("ERROR: no builder") == ("docker buildx failed", "ERROR: no builder")
    assert build_failure("") == ("docker buildx failed", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("#12 1.234 added 93 packages", "added 93 packages"),
        ("#5 [2/2] RUN x", "[2/2] RUN x"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_progress_shows_a_line_without_its_numbers(line: str, words: str) -> None:
    assert last_words(line) == words
