"""Short ways to documents, plans and policies for the tests of imports."""

import json
from collections.abc import Collection, Mapping, Sequence

from doogie_client.commands import Catalogue
from doogie_client.hosts.document import read_document
from doogie_client.hosts.draft import Answers
from doogie_client.hosts.entry import HostEntry
from doogie_client.hosts.plan import Plan, best_of, plan
from doogie_client.hosts.rule import RuleRequest, to_yaml
from doogie_proxy.policy import Policy
from doogie_proxy.policy_file import parse

CATALOGUE = Catalogue.shipped()
FILESYSTEM = "doogie/mcp-server-filesystem:2026.8.31"
"""The image that the shipped catalogue has for ``@modelcontextprotocol/server-filesystem``."""


def mcp_servers(**servers: object) -> str:
    """A document as Claude Desktop has it."""
    return json.dumps({"mcpServers": servers})


def entry_of(text: str) -> HostEntry:
    """The one server of a document that can be run in one way."""
    [[entry]] = read_document(text)
    return entry


def planned(
    text: str,
    *,
    values: Mapping[str, str | Sequence[str]] | None = None,
    secrets: Mapping[str, str] | None = None,
    granted: Collection[str] | None = (),
) -> Plan:
    """What would become of the one server of a document."""
    [server] = read_document(text)
    return best_of([plan(entry, Answers(values or {}, secrets or {}), CATALOGUE, granted=granted) for entry in server])


def policy_with(rules: Sequence[RuleRequest], image: str = "doogie/built:1") -> Policy:
    """The policy of an operator who takes suggested rules over, and builds what is yet to be built as ``image``.

    Read by the checker of the proxy itself.
    """
    suggested = to_yaml(rules).replace("images: [IMAGE]", f'images: ["{image}"]\n    allow_tags: true')
    names = json.dumps([rule.name for rule in rules])
    return parse(f"version: 1\nclients: {{chat: {{token_sha256: [{'a' * 64}], rules: {names}}}}}\n{suggested}")
