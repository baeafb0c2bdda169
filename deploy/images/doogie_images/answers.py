"""What npm, uv and BuildKit said when something did not work, as one sentence that says what would be right. Pure."""

import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from doogie_client.commands.package import Package, Runner

_NO_NETWORK = re.compile(
    r"EAI_AGAIN|ENOTFOUND|ENETUNREACH|ECONNREFUSED|ETIMEDOUT|ECONNRESET|name resolution|dns error|could not resolve"
    r"|network is unreachable|connection refused|timed out|tcp connect error|Temporary failure resolving",
    re.IGNORECASE,
)
_NO_TRUST = re.compile(
    r"CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT|UNABLE_TO_[A-Z_]*(?:CERT|ISSUER|SIGNATURE)[A-Z_]*|UnknownIssuer"
    r"|certificate verify failed|invalid peer certificate|self.signed certificate",
    re.IGNORECASE,
)
_FAILED_STEP = re.compile(r"^#(?P<number>\d+) ERROR: (?P<why>.*)", re.MULTILINE)
_BASE_STEP = re.compile(r"\[internal\] load metadata for (?P<image>\S+)")
_ONLY_SOURCE = re.compile(
    r"^hint: Wheels are required for `(?P<name>[^`]+)` because building from source", re.MULTILINE
)
_NOT_ON_PYPI = re.compile(r"\b(?P<name>[a-z0-9][a-z0-9.-]*) was not found in the package registry")
_NO_VERSION = re.compile(r"there (?:is no version of|are no versions of) (?P<what>[^ ,]+)")
_WRITTEN = re.compile(r"\d+\.\d+ (?P<text>.*)")
_NUMBERS = re.compile(r"^#\d+ (?:\d+\.\d+ )?")
_SHOWN_LINES = 20


class _NpmError(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    code: str = ""
    summary: str = ""
    detail: str = ""


class _NpmAnswer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    error: _NpmError


def not_resolved(package: Package, files: Mapping[str, str]) -> tuple[str, str]:
    """Why the stage ``lock`` has no lock file: one sentence, and the tool's own words."""
    newest = files.get("newest", "")
    if package.runner is Runner.UVX:
        said = files.get("answer.txt", "")
        why = _pypi(package, said, newest)
    else:
        error = _npm_error(files.get("answer.json", ""))
        said = f"{error.code} {error.summary}"
        why = _npm(package, error, newest)
    return why, said


def _npm_error(answer: str) -> _NpmError:
    try:
        return _NpmAnswer.model_validate_json(answer).error
    except ValidationError:
        return _NpmError(summary=answer)


def _npm(package: Package, error: _NpmError, newest: str) -> str:
    if error.code == "E404":
        missing = re.search(r"'(?P<what>@?[^'@]+)@[^']*'", error.detail)
        name = missing["what"] if missing else package.name
        return f"npm has no package {name}: is its name spelled right, and is it public?"
    if error.code == "ETARGET":
        wanted = error.summary.removeprefix("No matching version found for ").removesuffix(".")
        return _no_version("npm", package, wanted, newest.strip().strip('"'))
    return way_out(f"{error.code} {error.summary}") or "npm did not resolve it"


def _pypi(package: Package, said: str, newest: str) -> str:
    if wheel := _ONLY_SOURCE.search(said):
        return (
            f"{wheel['name']} has no wheel for this Python and platform, and building it would run its code: "
            "--allow-scripts allows that in the build container, which has no compiler"
        )
    if missing := _NOT_ON_PYPI.search(said):
        return f"PyPI has no package {missing['name']}: is its name spelled right, and is it public?"
    if version := _NO_VERSION.search(said):
        return _no_version("PyPI", package, version["what"], newest.strip().rpartition("==")[2])
    return way_out(said) or "uv did not resolve it"


def _no_version(registry: str, package: Package, wanted: str, newest: str) -> str:
    of_ours = re.match(re.escape(package.name) + r"(?![A-Za-z0-9._-])", wanted) is not None
    return f"{registry} has no {wanted}" + (f": the newest version is {newest}" if of_ours and newest else "")


def way_out(said: str) -> str | None:
    """What an operator can do about it, where the reason lies outside of the package."""
    if _NO_TRUST.search(said):
        return (
            "the registry's certificate is not trusted in the build container: "
            "name the bundle that this machine trusts in DOOGIE_BUILD_CA"
        )
    if _NO_NETWORK.search(said):
        return (
            "the build container does not reach the registry: is this machine online? "
            "Where bridged containers have no DNS, DOOGIE_BUILD_NETWORK=host builds over the host's network"
        )
    return None


def build_failure(log: str) -> tuple[str, str]:
    """Why BuildKit's plain log ends in an error: one sentence, and the end of what the step that failed wrote."""
    failed = _FAILED_STEP.search(log)
    if failed is None:
        return way_out(log) or "docker buildx failed", "\n".join(log.splitlines()[-_SHOWN_LINES:])
    # A step's lines begin with its number: first what it is, then what it wrote, each with the seconds.
    own = [line.removeprefix(start) for line in log.splitlines() if line.startswith(start := f"#{failed['number']} ")]
    if base := _BASE_STEP.match(own[0]):
        return (
            f"the base image {base['image']} is not to be had: set DOOGIE_PYTHON_BASE and DOOGIE_NODE_BASE to images "
            "that this engine has or can pull; `make images` in a checkout makes some where no registry answers"
        ), failed["why"]
    said = "\n".join(written["text"] for line in own if (written := _WRITTEN.fullmatch(line)))
    shown = "\n".join(said.splitlines()[-_SHOWN_LINES:]) or failed["why"]
    return way_out(said) or "a step of the build failed", shown


def last_words(line: str) -> str:
    """What a line of BuildKit's plain log says, without its numbers."""
    return _NUMBERS.sub("", line)
