"""No repr, string or validation error of a configuration shows a value of its environment."""

from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ValidationError

from doogie_client.commands.command import MASK, ServerCommand
from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, ServerConfig

SECRET = "hunter2"
COMMAND = {"command": f"docker run -e T={SECRET}", "args": [f"--token={SECRET}"], "env": {"TOKEN": SECRET}}


def record() -> ConfigRecord:
    now = datetime.now(UTC)
    config = ServerConfig.model_validate(COMMAND)
    return ConfigRecord(id="1", name="n", server_name="n", user_id="u", config=config, created_at=now, updated_at=now)


@pytest.mark.parametrize(
    "model",
    [
        ServerCommand.model_validate(COMMAND),
        ServerConfig.model_validate(COMMAND),
        NewConfig(name="n", config=ServerConfig.model_validate(COMMAND)),
        ConfigUpdate.model_validate(COMMAND),
        record(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_no_secret_is_in_a_repr(model: BaseModel) -> None:
    for text in (repr(model), str(model), f"{model}", repr([model]), repr({"k": model})):
        assert SECRET not in text
        assert "TOKEN" in text  # names stay readable


@pytest.mark.parametrize("model", [ServerCommand, ServerConfig, ConfigUpdate])
@pytest.mark.parametrize(
    "wrong",
    [
        {"env": {"TOKEN": f"{SECRET}\0"}},
        {"env": {f"not a name {SECRET}": SECRET}},
        {"env": {"TOKEN": [SECRET]}},
        {"env": SECRET},
        {"args": SECRET},
        {"args": [[SECRET]]},
        {"command": [SECRET]},
        {"unknown": SECRET},
    ],
)
def test_no_secret_is_in_a_validation_error(model: type[BaseModel], wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(wrong)
    for line in str(caught.value).splitlines():
        assert SECRET not in line or line == f"env.not a name {SECRET}.[key]"  # a name, and where the fault is


def test_a_masked_record_has_no_values_and_all_else() -> None:
    real = record()
    masked = real.masked()
    assert masked.config.env == {"TOKEN": MASK}
    assert real.config.env == {"TOKEN": SECRET}
    assert masked.model_copy(update={"config": real.config}) == real
    assert masked.config.model_copy(update={"env": real.config.env}) == real.config


@pytest.mark.parametrize("text", ["\0", "x" * 2001])
def test_a_description_that_cannot_be_stored_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ConfigUpdate(description=text)


@pytest.mark.parametrize("wrong", [{"command": ""}, {"args": ["x"] * 513}])
def test_an_update_is_held_to_the_bounds_of_a_command(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConfigUpdate.model_validate(wrong)
    with pytest.raises(ValidationError):
        ServerConfig.model_validate(wrong)
