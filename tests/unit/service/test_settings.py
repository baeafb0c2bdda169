from pathlib import Path

import pytest
from pydantic import ValidationError

from doogie_client.service.run_dir import RunDir
from doogie_client.service.settings import ServiceSettings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOOGIE_CHAT_RUN_DIR", "/run/chat")
    monkeypatch.setenv("DOOGIE_CHAT_CALL_TIMEOUT_S", "1.5")
    settings = ServiceSettings()
    assert (settings.run_dir, settings.call_timeout_s) == (Path("/run/chat"), 1.5)
    monkeypatch.setenv("DOOGIE_CHAT_CALL_TIMEOUT_S", "0")
    with pytest.raises(ValidationError, match="call_timeout_s"):
        ServiceSettings()


def test_applications_with_different_databases_do_not_meet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = (ServiceSettings(database_url=f"postgresql:///{name}").run_dir for name in "ab")
    assert first != second
    assert first == ServiceSettings(database_url="postgresql:///a").run_dir
    RunDir(first)  # is not too long
    here = ServiceSettings().run_dir
    monkeypatch.chdir(tmp_path)
    assert ServiceSettings().run_dir != here, "doogie-chat.db is another file there"
    assert ServiceSettings(database_url="postgresql:///a").run_dir == first
