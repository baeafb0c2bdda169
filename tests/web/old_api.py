"""The old backend's API, as its routes, schemas and front end show it, and where this one answers otherwise.

Source: ThreatFlux/DoogieBot, backend/app/api/routes/mcp.py, backend/app/schemas/mcp.py, frontend/services/mcp.ts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from tests.support.harness import Json

CONFIG: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "user_id": (str,),
    "name": (str,),
    "command": (str,),
    "args": (list,),
    "env": (dict,),
    "enabled": (bool,),
    "created_at": (datetime,),
    "updated_at": (datetime,),
}
"""``MCPServerConfigResponse``."""
STATUS: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "name": (str,),
    "enabled": (bool,),
    "status": (str,),
    "container_id": (str, type(None)),
    "error_message": (str, type(None)),
}
"""``MCPServerStatus``."""
EXPORT: dict[str, tuple[type, ...]] = {"mcpServers": (dict,)}
"""``MCPConfigJSON``."""
ERROR: dict[str, tuple[type, ...]] = {"detail": (str,)}
"""Every error."""

NEW = {"name": "server", "command": "docker", "args": ["run", "-i", "--rm", "doogie-test/toolbox:2", "sleep"]}
"""What the page "new" sends; it leaves ``env`` out where there is none."""


@dataclass(frozen=True)
class Exchange:
    """A request of the old front end, or of another user of the old API, and how it was answered.

    Args:
        sentence: what is asked for, for people.
        method, path: below ``/api/v1/mcp``; ``{id}`` is a configuration of the admin's.
        status: of the answer.
        fields: of its JSON, with their types; None: no body.
        many: an array of them.
        token: whose; ``alice`` is a user.
        state: of the configuration before: stored (``stopped``), ``running`` or ``disabled``; None: there is none.
        body: sent as JSON.
        values: what fields must be.
    """

    sentence: str
    method: str
    path: str
    status: int
    fields: Mapping[str, tuple[type, ...]] | None
    many: bool = False
    token: str | None = "admin"
    state: str | None = "stopped"
    body: Json = None
    values: Mapping[str, object] = field(default_factory=dict)


UNKNOWN = "00000000-0000-4000-8000-000000000000"

EXCHANGES = [
    Exchange("create", "POST", "/configs", 200, CONFIG, state=None, body={**NEW, "enabled": True},
             values={"name": "server", "command": "docker", "enabled": True, "user_id": "admin"}),
    Exchange("create with an environment", "POST", "/configs", 200, CONFIG, state=None,
             body={**NEW, "env": {"GREETING": "hello"}, "enabled": False}, values={"enabled": False}),
    Exchange("create with what must be given alone", "POST", "/configs", 200, CONFIG, state=None,
             body={"name": "server", "args": NEW["args"]}, values={"command": "docker", "enabled": True, "env": {}}),
    Exchange("create with env null", "POST", "/configs", 200, CONFIG, state=None, body={**NEW, "env": None},
             values={"env": {}}),
    Exchange("create as a user", "POST", "/configs", 403, ERROR, state=None, token="alice", body=NEW),
    Exchange("create as nobody", "POST", "/configs", 401, ERROR, state=None, token=None, body=NEW),
    Exchange("create without a name", "POST", "/configs", 422, ERROR, state=None, body={"args": NEW["args"]}),
    Exchange("create without arguments", "POST", "/configs", 422, ERROR, state=None, body={**NEW, "args": []}),
    Exchange("create with arguments that are no list", "POST", "/configs", 422, ERROR, state=None,
             body={**NEW, "args": "run"}),
    Exchange("list", "GET", "/configs", 200, CONFIG, many=True, values={"name": "server"}),
    Exchange("list of a user", "GET", "/configs", 200, CONFIG, many=True, token="alice"),
    Exchange("list as nobody", "GET", "/configs", 401, ERROR, token=None),
    Exchange("get", "GET", "/configs/{id}", 200, CONFIG, values={"name": "server"}),
    Exchange("get an unknown one", "GET", f"/configs/{UNKNOWN}", 404, ERROR),
    Exchange("get someone else's", "GET", "/configs/{id}", 404, ERROR, token="alice"),
    Exchange("rename", "PUT", "/configs/{id}", 200, CONFIG, body={"name": "renamed"}, values={"name": "renamed"}),
    Exchange("change arguments", "PUT", "/configs/{id}", 200, CONFIG, body={"args": [*NEW["args"][:-1], "exit", "3"]},
             values={"args": ["run", "-i", "--rm", "doogie-test/toolbox:2", "exit", "3"], "name": "server"}),
    Exchange("disable", "PUT", "/configs/{id}", 200, CONFIG, body={"enabled": False}, values={"enabled": False}),
    Exchange("change nothing", "PUT", "/configs/{id}", 200, CONFIG, body={}, values={"name": "server"}),
    Exchange("change an unknown one", "PUT", f"/configs/{UNKNOWN}", 404, ERROR, body={"name": "renamed"}),
    Exchange("change as a user", "PUT", "/configs/{id}", 403, ERROR, token="alice", body={"name": "renamed"}),
    Exchange("delete", "DELETE", "/configs/{id}", 204, None),
    Exchange("delete a running one", "DELETE", "/configs/{id}", 204, None, state="running"),
    Exchange("delete an unknown one", "DELETE", f"/configs/{UNKNOWN}", 404, ERROR),
    Exchange("delete as a user", "DELETE", "/configs/{id}", 403, ERROR, token="alice"),
    Exchange("status of a stopped one", "GET", "/configs/{id}/status", 200, STATUS,
             values={"status": "stopped", "container_id": None, "error_message": None, "enabled": True}),
    Exchange("status of a running one", "GET", "/configs/{id}/status", 200, STATUS, state="running",
             values={"status": "running"}),
    Exchange("status of a disabled one", "GET", "/configs/{id}/status", 200, STATUS, state="disabled",
             values={"status": "stopped", "enabled": False}),
    Exchange("status of an unknown one", "GET", f"/configs/{UNKNOWN}/status", 404, ERROR),
    Exchange("start", "POST", "/configs/{id}/start", 200, STATUS, values={"status": "running"}),
    Exchange("start a running one", "POST", "/configs/{id}/start", 200, STATUS, state="running",
             values={"status": "running"}),
    Exchange("start a disabled one", "POST", "/configs/{id}/start", 400, ERROR, state="disabled"),
    Exchange("start an unknown one", "POST", f"/configs/{UNKNOWN}/start", 404, ERROR),
    Exchange("start as a user", "POST", "/configs/{id}/start", 403, ERROR, token="alice"),
    Exchange("stop", "POST", "/configs/{id}/stop", 200, STATUS, state="running",
             values={"status": "stopped", "container_id": None}),
    Exchange("stop a stopped one", "POST", "/configs/{id}/stop", 200, STATUS, values={"status": "stopped"}),
    Exchange("stop an unknown one", "POST", f"/configs/{UNKNOWN}/stop", 404, ERROR),
    Exchange("stop as a user", "POST", "/configs/{id}/stop", 403, ERROR, token="alice"),
    Exchange("restart", "POST", "/configs/{id}/restart", 200, STATUS, state="running", values={"status": "running"}),
    Exchange("restart a stopped one", "POST", "/configs/{id}/restart", 200, STATUS, values={"status": "running"}),
    Exchange("restart a disabled one", "POST", "/configs/{id}/restart", 200, STATUS, state="disabled",
             values={"status": "stopped"}),
    Exchange("restart an unknown one", "POST", f"/configs/{UNKNOWN}/restart", 404, ERROR),
    Exchange("restart as a user", "POST", "/configs/{id}/restart", 403, ERROR, token="alice"),
    Exchange("export", "GET", "/configs/export/json", 200, EXPORT),
]  # fmt: skip


class Difference(NamedTuple):
    """Where this API answers otherwise, on purpose; a test of ``test_old_api.py`` shows each ``new``."""

    call: str
    old: str
    new: str
    why: str
    test: str


DIFFERENCES = [
    Difference(
        "start, restart",
        "500 for whatever went wrong",
        "403 `policy-denied`, 422 `command-refused`, 424 `image-unavailable`, 429 `quota-exceeded`, 502 to 504 for the "
        "proxy and the engine; 500 `server-failed` only where the server itself failed",
        "a refusal is not the app's failure, and says who can mend it",
        "test_a_start_that_the_policy_denies_is_no_500",
    ),
    Difference(
        "stop, restart, export",
        "500: the last version calls a class that it does not import",
        "200",
        "the old one was broken",
        "test_the_old_api_is_answered_alike",
    ),
    Difference(
        "`GET /configs/json`, which the front end asks for",
        "404: taken for the id of a configuration",
        "200, the export",
        "the old one was broken",
        "test_the_export_is_where_the_front_end_asks_for_it",
    ),
    Difference(
        "create, change",
        "200 for any command; an option that was not understood was dropped when it started",
        "422 `command-refused` with every fault",
        "who wrote it is told at once, and nothing is dropped",
        "test_a_command_that_cannot_run_is_refused_when_it_is_saved",
    ),
    Difference(
        "create",
        "422 for a command other than `docker`",
        "`npx`, `uvx`, a whole line and an image's name too",
        "they are translated",
        "test_other_commands_than_docker_are_taken",
    ),
    Difference(
        "create, change",
        "two configurations may have one name",
        "409 `name-taken`",
        "a name is what tools and exports are found by",
        "test_a_name_is_taken_once",
    ),
    Difference(
        "create, change",
        "unknown fields are ignored",
        "422 `invalid-request`",
        "a misspelt field would be lost in silence",
        "test_an_unknown_field_is_refused",
    ),
    Difference(
        "every answer with `env`",
        "values as they are, `null` where there are none",
        "each value is `***`, `{}` where there are none; `***` sent back leaves a value as it is",
        "secrets do not leave the service again",
        "test_values_of_an_environment_are_never_shown",
    ),
    Difference(
        "export",
        "commands with their environments, to be run on the desktop",
        "`doogie stdio NAME` for each, which reaches the server that runs here",
        "no secret and no Docker on the desktop",
        "test_the_export_holds_no_command_and_no_secret",
    ),
    Difference(
        "list, get, status",
        "one's own only, for admins too",
        "users: their own and shared ones; admins: all",
        "servers can be shared, and outlive the admin who made them",
        "test_users_see_what_is_shared_and_admins_all",
    ),
    Difference(
        "change",
        "what runs is left running with the old command",
        "it is stopped when it is disabled or its command changes",
        "what runs is what is stored",
        "test_a_change_of_the_command_stops_what_runs",
    ),
    Difference(
        "delete",
        "204 although the server could not be stopped; it ran on, unknown to all",
        "the error of the stop, and the configuration is kept",
        "nothing is orphaned",
        "test_a_failed_stop_keeps_the_configuration",
    ),
    Difference(
        "status",
        "also `created`, as the engine says",
        "`running`, `stopped` or `error`; the finer `state` is beside it",
        "the front end knows three",
        "test_the_vocabulary_of_status_is_the_front_ends",
    ),
    Difference(
        "every error",
        '`{"detail": …}` as application/json; for 422 `detail` is a list',
        "problem+json (RFC 9457); `detail` is always a string, `errors` has the places",
        "one form for all, and `detail` can be shown as it is",
        "test_an_error_is_a_problem_whose_detail_is_text",
    ),
    Difference(
        "every answer with times",
        "without an offset",
        "with one (RFC 3339)",
        "a time without one is read in the browser's zone",
        "test_times_have_an_offset",
    ),
    Difference(
        "any call from another origin",
        "CORS for configured origins",
        "403 `host-not-allowed`",
        "serve the front end from the same origin, or say so in the reverse proxy",
        "test_another_origin_is_refused",
    ),
]
