"""What of a command is shown, and that what was shown can be sent back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_client.commands.catalogue import Catalogue
from doogie_client.commands.command import MASK
from doogie_client.commands.translate import translate
from doogie_client.service.records import ConfigRecord, ConfigStatus, ConfigUpdate, ServerConfig, Status, StatusFault
from doogie_client.web.display import ASK_AN_ADMIN, require_values, restored, shown, shown_status
from doogie_client.web.problems import Refusal

SECRET = "planted-secret"


def record_of(config: ServerConfig) -> ConfigRecord:
    return ConfigRecord.model_validate(
        {
            "id": "1",
            "name": "x",
            "server_name": "x",
            "user_id": "a",
            "config": config,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
        }
    )


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        (["run", "-e", f"A={SECRET}", "mcp/x"], ["run", "-e", "A=***", "mcp/x"]),
        (["run", f"-eA={SECRET}", "mcp/x"], ["run", "-eA=***", "mcp/x"]),
        (["run", f"--env=A={SECRET}", "mcp/x"], ["run", "--env=A=***", "mcp/x"]),
        (["run", "-ie", f"A={SECRET}", "mcp/x"], ["run", "-ie", "A=***", "mcp/x"]),
        (["run", "--env", f"env={SECRET}", "mcp/x"], ["run", "--env", "env=***", "mcp/x"]),
        (["run", "-e", "A=", "mcp/x"], ["run", "-e", "A=***", "mcp/x"]),
        (["run", "-e", "A", "mcp/x"], ["run", "-e", "A", "mcp/x"]),
        (["run", "mcp/x", "-e", "A=not-docker's"], ["run", "mcp/x", "-e", "A=not-docker's"]),
    ],
)
def test_a_value_among_the_arguments_is_masked(args: list[str], seen: list[str]) -> None:
    config = ServerConfig(args=args, env={"B": SECRET})
    assert shown(config, wholly=True) == ServerConfig(args=seen, env={"B": MASK})
    assert restored(ConfigUpdate(args=seen), record_of(config)).args == args


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (f"docker run -i -e A={SECRET} mcp/x", "docker run -i -e A=*** mcp/x"),
        (f'docker run -e "A={SECRET} and more" mcp/x', 'docker run -e "A=***" mcp/x'),
        (f"docker run -e A=b -e B=bc-{SECRET} -e C=b{SECRET} mcp/x", "docker run -e A=*** -e B=*** -e C=*** mcp/x"),
        (rf"docker run -e A={SECRET}\ and\ more mcp/x", "docker ***"),
        (f"A={SECRET} npx -y some-server", "A=*** npx -y some-server"),
    ],
)
def test_a_value_in_a_line_is_masked_and_the_line_can_be_sent_back(line: str, seen: str) -> None:
    config = ServerConfig(command=line)
    assert shown(config, wholly=True).command == seen
    assert restored(ConfigUpdate(command=seen), record_of(config)).command == line
    assert restored(ConfigUpdate(command="docker run mcp/y"), record_of(config)).command == "docker run mcp/y"


def test_a_line_that_is_changed_needs_its_values() -> None:
    record = record_of(ServerConfig(command=f"docker run -e A={SECRET} mcp/x"))
    with pytest.raises(Refusal, match="send the value"):
        restored(ConfigUpdate(command="docker run -e A=*** mcp/y"), record)


def test_other_arguments_can_be_changed_beside_a_masked_value() -> None:
    record = record_of(ServerConfig(args=["run", "-e", f"A={SECRET}", "mcp/x", "one"]))
    update = ConfigUpdate(args=["run", "-i", "--env=A=***", "mcp/x", "two"])
    assert restored(update, record).args == ["run", "-i", f"--env=A={SECRET}", "mcp/x", "two"]


def test_a_mask_without_a_stored_value_is_refused() -> None:
    record = record_of(ServerConfig(args=["run", "-e", f"A={SECRET}", "mcp/x"]))
    with pytest.raises(Refusal) as caught:
        restored(ConfigUpdate(args=["run", "-e", "B=***", "mcp/x"]), record)
    assert [error.loc for error in caught.value.errors] == ["body.args.1"]
    with pytest.raises(Refusal):
        require_values(ServerConfig(args=["run", "-e", "B=***", "mcp/x"]))
    require_values(ServerConfig(args=["run", "-e", "B=x", "mcp/x", "***"]))


@pytest.mark.parametrize(
    "update",
    [
        ConfigUpdate(),
        ConfigUpdate(name="y"),
        ConfigUpdate(env={"A": "***"}),
        ConfigUpdate(args=None),
        ConfigUpdate(args=["x"]),
    ],
)
def test_an_update_without_masked_values_stays_as_it_is(update: ConfigUpdate) -> None:
    mended = restored(update, record_of(ServerConfig(args=["run", "-e", f"A={SECRET}", "mcp/x"])))
    assert mended == update
    assert mended.model_fields_set == update.model_fields_set


values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
names = st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,4}\Z")
flags = st.tuples(st.sampled_from(["-e", "--env", "-e=", "--env="]), names, values)


@given(st.lists(flags, max_size=4), st.lists(values, max_size=2))
def test_what_was_shown_means_the_same_when_it_is_sent_back(
    given_: list[tuple[str, str, str]], args: list[str]
) -> None:
    words = ["run", "-i"]
    for flag, name, value in given_:
        assignment = f"{name}={value}"
        words += [flag.removesuffix("=") + "=" + assignment] if flag.endswith("=") else [flag, assignment]
    config = ServerConfig(args=[*words, "mcp/x", *args])
    seen = shown(config, wholly=True)
    for position, (word, masked) in enumerate(zip(config.args, seen.args, strict=True)):
        assert masked == word or masked.endswith("=***"), position
    if any("***" in value for _, _, value in given_) or len({name for _, name, _ in given_}) < len(given_):
        return  # not told apart from a mask; the last of two counts
    assert restored(ConfigUpdate(args=seen.args), record_of(config)).args == config.args


def test_to_who_may_only_call_it_a_command_is_its_program() -> None:
    for config, command, args in (
        (ServerConfig(command="npx", args=["-y", "server", SECRET], env={"A": SECRET}), "npx", [MASK]),
        (ServerConfig(command=f"npx -y server {SECRET}", env={"A": SECRET}), "npx ***", []),
        (ServerConfig(command="mcp/x"), "mcp/x", []),
    ):
        seen = shown(config, wholly=False)
        assert (seen.command, seen.args) == (command, args)
        assert SECRET not in seen.model_dump_json()


def test_a_servers_last_words_are_for_whom_its_log_is() -> None:
    status = ConfigStatus(
        id="1",
        name="x",
        enabled=True,
        status=Status.ERROR,
        error_message=SECRET,
        faults=[StatusFault(loc="a", msg=SECRET)],
    )
    assert shown_status(status, wholly=True) is status
    seen = shown_status(status, wholly=False)
    assert (seen.error_message, seen.faults) == (ASK_AN_ADMIN, [])


def test_a_masked_command_still_translates() -> None:
    config = ServerConfig(args=["run", "-i", "-e", f"A={SECRET}", "mcp/x"])
    assert translate(shown(config, wholly=True), Catalogue.shipped()).request.env == {"A": MASK}
