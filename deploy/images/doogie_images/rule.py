"""The narrowest policy rule under which what was built can be started as it was asked for. Pure.

It admits this one image by its id, each argument of the command and no other, the variables by name, under the limits
that the smoke test ran under. What it leaves open, the order of the arguments, is the policy's own measure.
"""

import io

from ruamel.yaml import YAML

from doogie_images.errors import NotWanted
from doogie_images.naming import rule_name
from doogie_images.request import Request

MAX_PATTERN_CHARS = 512
MAX_PATTERN_ARG_BYTES = 1024
"""The policy's own limits; a test holds them together."""

_SPECIAL = frozenset("\\.+*?()|[]{}^$#&-~")
"""What Rust's ``regex`` gives a meaning (its ``escape`` function)."""

RuleField = str | int | bool | list[str] | dict[str, "RuleField"]


def rule(image: str, image_id: str, request: Request) -> dict[str, RuleField]:
    """The rule as the policy file has it; ``image`` is ``repository:tag``.

    Raises:
        NotWanted: an argument that no pattern can admit.
    """
    fields: dict[str, RuleField] = {"name": rule_name(request.package), "images": [f"{image}@{image_id}"]}
    if request.args:
        patterns = list(dict.fromkeys(map(pattern, request.args)))
        fields["args"] = {"max": len(request.args), "patterns": patterns}
    if request.env:
        fields["env"] = {"allow": list(request.env)}
    if request.tmpfs:
        fields["tmpfs"] = dict(request.tmpfs)
    if request.mounts:
        fields["mounts"] = {
            name: {
                "volume" if mount.is_volume else "host": mount.source,
                "target": mount.target,
                **({} if mount.read_only else {"read_only": False}),
            }
            for name, mount in request.mounts.items()
        }
    if request.network != "none":
        fields["network"] = request.network
    if request.memory != Request.model_fields["memory"].default:
        fields["resources"] = {"memory": request.memory}
    return fields


def pattern(argument: str) -> str:
    """A pattern that matches this argument and nothing else.

    Raises:
        NotWanted: it would be too long.
    """
    text = "".join(f"\\{character}" if character in _SPECIAL else character for character in argument)
    if len(text) > MAX_PATTERN_CHARS or len(argument.encode()) > MAX_PATTERN_ARG_BYTES:
        raise NotWanted(
            f"an argument of {len(argument)} characters ({argument[:20]!r}…) is longer than a policy's patterns: build "
            "without it, and put it into args.prefix of the rule"
        )
    return text


def to_yaml(fields: dict[str, RuleField]) -> str:
    """The rule as it stands below ``rules:``, indented by two spaces, with a newline at its end."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # the stub only knows None
    yaml.width = 10_000
    yaml.allow_unicode = False
    text = io.StringIO()
    yaml.dump(fields, text)
    first, *others = text.getvalue().splitlines(keepends=True)
    return "".join([f"  - {first}", *(f"    {line}" for line in others)])
