"""What an import is asked for, and what it reports."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from doogie_client.hosts.entry import ReasonKind
from doogie_client.hosts.jsonc import MAX_CHARS
from doogie_client.service.records import ConfigName
from doogie_contract.models import ResourceName


class ImportRequest(BaseModel):
    """What is to be imported, and what whoever imports knows."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    document: str = Field(
        max_length=MAX_CHARS, repr=False, description="the text of a file, or a line that starts a server"
    )
    name: ConfigName | None = Field(default=None, description="of the configuration, for a document with one server")
    values: dict[str, str | list[str]] = Field(
        default_factory=dict, repr=False, description="of the report's inputs, by id; several for one that is repeated"
    )
    secrets: dict[str, ResourceName] = Field(
        default_factory=dict, description="instead of a value: by an input's id, the secret of the proxy's rule"
    )
    shared: bool = Field(default=False, description="others may use what is created")
    replace: bool = Field(default=False, description="update one's own configurations that have these names")
    atomic: bool = Field(default=False, description="save all servers of the document, or none")
    dry_run: bool = Field(default=False, description="save nothing, and report the same")


class Outcome(StrEnum):
    """What became of one server; in a dry run, what would have."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    NEEDS_INPUT = "needs_input"
    NEEDS_OPERATOR = "needs_operator"


SAVED = frozenset({Outcome.CREATED, Outcome.UPDATED, Outcome.UNCHANGED})


class ImportReason(BaseModel):
    """Why a server was not saved: where in the document, what, and what the operator can be asked for."""

    kind: ReasonKind
    loc: str
    msg: str
    ask: str | None = None


class ImportInput(BaseModel):
    """What is asked for. A secret is not to be shown where it is typed in; its value is never in a report."""

    id: str
    description: str | None = None
    secret: bool = False
    default: str | None = None
    choices: list[str] = Field(default_factory=list)
    repeated: bool = False
    missing: bool = Field(description="without a value for it, the server cannot be saved")
    used: list[str] = Field(description="where in the document")


class ImportedCommand(BaseModel):
    """The command as it is saved, paths and mounts included; ``<id>`` and ``***`` stand for what is not to be shown."""

    command: str
    args: list[str]
    env: list[str] = Field(description="names")
    secrets: list[str]
    mounts: list[str]


class NeedsOperator(BaseModel):
    """What to hand over to the operator of the proxy."""

    build: str | None = Field(default=None, description="the command that makes the missing image")
    rule: str | None = Field(default=None, description="the narrowest rule that admits it, as YAML of a policy file")


class ImportedServer(BaseModel):
    """What became of one server of the document."""

    name: str
    loc: str = Field(description="where in the document")
    outcome: Outcome
    config_id: str | None = None
    reasons: list[ImportReason] = Field(default_factory=list)
    needs_operator: NeedsOperator | None = None
    inputs: list[ImportInput] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    command: ImportedCommand | None = None


class ImportReport(BaseModel):
    """What became of a document's servers, in its order.

    ``saved`` is False after a dry run, and where ``atomic`` was asked for and not all could be: then nothing was saved,
    whatever the outcomes say would have been.
    """

    servers: list[ImportedServer]
    saved: bool
    for_operator: str | None = Field(default=None, description="all of it as one text: a part of a policy file")
    notes: list[str] = Field(default_factory=list)
