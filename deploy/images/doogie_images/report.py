"""What a build prints: one YAML document whose parts are pasted as they are, or JSON for scripts. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from doogie_client.cli.output import age, printable
from doogie_client.commands.catalogue import Entry
from doogie_images.build import Built
from doogie_images.images import Image
from doogie_images.lock import Change
from doogie_images.rule import RuleField, rule, to_yaml
from doogie_images.update import Plan


def entry(image: Image) -> Entry:
    """The catalogue's entry: commands that run this package mean this image."""
    return Entry(image.package, image.name)


def rule_of(image: Image) -> dict[str, RuleField]:
    """The policy's rule."""
    return rule(image.name, image.id, image.request)


def text(built: Built) -> str:
    """For people, and for pasting: comments, the entry under ``images:``, the rule under ``rules:``."""
    image = built.image
    comments = [f"{image.name} is {image.id}"]
    if built.answer is not None:
        comments.append(f"tools of {built.answer.server}: {', '.join(built.answer.tools) or 'none'}")
    if built.replaced is not None:
        comments.append(f"{built.replaced} had this name; it is still there, for the rule that pins it")
    of_entry = ["for the catalogue of the chat side"]
    asked = image.request.package.version
    if asked not in (None, "latest", image.package.version):
        of_entry.append(f"commands must name this version: {asked} means another one tomorrow")
    of_rule = ["for the policy of the proxy, whose client needs the rule's name in its list as well"]
    if hosts := sorted({mount.source for mount in image.request.mounts.values() if not mount.is_volume}):
        of_rule.append(f"and whose mount_roots must hold {', '.join(hosts)}")
    return "\n".join(
        [
            _comments(comments),
            f"{_comments(of_entry)}images:\n{entry(image).to_yaml()}",
            f"{_comments(of_rule)}rules:\n{to_yaml(rule_of(image))}",
        ]
    )


def as_json(built: Built) -> dict[str, object]:
    """The same for scripts."""
    image, answer = built.image, built.answer
    package = image.package
    catalogued: dict[str, object] = {"package": str(package), "image": image.name}
    if package.executable is not None:
        catalogued["executable"] = package.executable
    if package.with_packages:
        catalogued["with"] = list(package.with_packages)
    return {
        "image": image.name,
        "id": image.id,
        "package": str(package),
        "lock": image.lock_digest,
        "replaced": built.replaced,
        "server": answer.server if answer else None,
        "tools": list(answer.tools) if answer else None,
        "entry": catalogued,
        "rule": rule_of(image),
    }


def plan(found: Plan) -> str:
    """What an update brings, for people."""
    if found.nothing:
        why = f"{found.image.name} is up to date"
        asked = found.request.package
        if asked.exact:
            why += f"; it was built as {asked}, and --latest looks for newer versions"
        return f"{_one_line(why)}\n"
    lines = [f"{found.image.name}:"]
    lines += [f"  {_change(each)}" for each in found.changes]
    if found.new_base:
        lines.append("  the base image is another one now")
    return "".join(f"{_one_line(line)}\n" for line in lines)


def row(image: Image, containers: Sequence[str]) -> tuple[str, ...]:
    """A line of the table."""
    name = image.name if image.names else "(replaced)"
    built = age((datetime.now(UTC) - image.created).total_seconds())
    identity = image.id.removeprefix("sha256:")[:12]
    return name, str(image.package), built, f"{image.size_bytes / 1e6:.0f} MB", ", ".join(containers), identity


def listed(image: Image, containers: Sequence[str]) -> dict[str, object]:
    """An image for scripts."""
    return {
        "id": image.id,
        "names": list(image.names),
        "package": str(image.package),
        "lock": image.lock_digest,
        "created": image.created.isoformat(),
        "size_bytes": image.size_bytes,
        "containers": list(containers),
        "request": image.request.model_dump(mode="json", exclude_defaults=True),
    }


def _change(change: Change) -> str:
    before, after = (", ".join(versions) for versions in (change.before, change.after))
    if not before:
        return f"+ {change.name} {after}"
    return f"- {change.name} {before}" if not after else f"  {change.name} {before} → {after}"


def _comments(lines: Sequence[str]) -> str:
    return "".join(f"# {_one_line(line)}\n" for line in lines)


def _one_line(line: str) -> str:
    return printable(line).replace("\n", " ")
