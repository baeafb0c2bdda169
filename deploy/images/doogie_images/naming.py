"""Names that follow from what is built: of the image, and of its policy rule. Pure.

    npx:@scope/name@1.2.3         doogie/npx/scope/name:1.2.3
    uvx:name==1.2.3               doogie/uvx/name:1.2.3
    uvx:name[extra]==1.2.3        doogie/uvx/name:1.2.3__<12 hex digits>      what differs from the plain one, hashed

Nothing else has the same name: ``+`` of a version is ``_`` there and ``!`` is ``-``, which PyPI's versions do not have;
a package whose name is no repository's is ``doogie/npx-hex/<its bytes>``.
"""

import hashlib
import json
import re

from doogie_client.commands.package import Package, Runner
from doogie_images.request import Request

_REPOSITORY_PART = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_NOT_IN_RULE_NAMES = re.compile(r"[^a-z0-9_.-]+", re.ASCII)
_MAX_RULE_NAME_CHARS = 63
_MAX_REPOSITORY_CHARS = 200
"""Docker's own limit is 255, with a registry's host before it."""


def repository(package: Package) -> str:
    """The repository of all images of a package."""
    parts = package.name.removeprefix("@").split("/")
    if all(_REPOSITORY_PART.fullmatch(part) for part in parts) and len(package.name) <= _MAX_REPOSITORY_CHARS:
        return "/".join(["doogie", package.runner, *parts])
    name = package.name.encode()
    hexadecimal = name.hex() if len(name) <= _MAX_REPOSITORY_CHARS // 2 else hashlib.sha256(name).hexdigest()
    return f"doogie/{package.runner}-hex/{hexadecimal}"


def tag(package: Package, request: Request) -> str:
    """The tag of one exact version, with a hash of what else makes the image another than the plain one."""
    version = (package.version or "").replace("+", "_")
    if package.runner is Runner.UVX:
        version = version.replace("!", "-")
    variant = _variant(package, request)
    text = version + (f"__{variant}" if variant else "")
    return text if _TAG.fullmatch(text) else f"sha256_{hashlib.sha256(text.encode()).hexdigest()}"


def image_name(package: Package, request: Request) -> str:
    """``repository:tag``."""
    return f"{repository(package)}:{tag(package, request)}"


def rule_name(package: Package) -> str:
    """What the rule is called, within the policy's limits. Versions of one package share it: one replaces another."""
    text = _NOT_IN_RULE_NAMES.sub(".", f"{package.runner}.{package.name.removeprefix('@')}")
    if package.executable is not None:
        text += "." + _NOT_IN_RULE_NAMES.sub("-", package.executable.lower())
    if len(text) <= _MAX_RULE_NAME_CHARS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: _MAX_RULE_NAME_CHARS - 9]}.{digest}"


def _variant(package: Package, request: Request) -> str:
    """12 hex digits for everything that changes the image's content, but its version; empty for the plain one."""
    differs = {
        "extras": package.extras,
        "executable": package.executable,
        "with": package.with_packages,
        "system_packages": request.system_packages,
        "allow_scripts": request.allow_scripts,
    }
    plain = {name: value for name, value in differs.items() if value}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12] if plain else ""
