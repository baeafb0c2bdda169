import pytest

from doogie_client.service.sql.database import parse_url, shown
from doogie_client.service.store import StoreMisconfigured


@pytest.mark.parametrize(
    ("given", "driver", "named"),
    [
        ("postgresql://u:pw@h/db", "postgresql+asyncpg", "postgresql://u:***@h/db"),
        ("postgres://u:pw@h:5433/db?sslmode=verify-full", "postgresql+asyncpg", "postgresql://u:***@h:5433/db"),
        ("postgresql+asyncpg://u:pw@/db?host=/run/postgresql", "postgresql+asyncpg", "postgresql://u:***@/db"),
        ("sqlite:///data/doogie.db", "sqlite+aiosqlite", "sqlite:///data/doogie.db"),
        ("sqlite+aiosqlite:////srv/doogie.db", "sqlite+aiosqlite", "sqlite:////srv/doogie.db"),
    ],
)
def test_a_database_is_chosen_by_its_url_and_named_without_password(given: str, driver: str, named: str) -> None:
    url = parse_url(given)
    assert url.drivername == driver
    assert shown(url) == named


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "is none"),
        ("doogie.db", "is none"),
        ("postgresql://u:hunter2@h:port/db", "is none"),
        ("mysql://u:hunter2@h/db", "begins with mysql"),
        ("postgresql+psycopg://u:hunter2@h/db", r"begins with postgresql\+psycopg"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///doogie.db?mode=ro", "takes no options"),
        ("sqlite://doogie.db", "needs a file"),
    ],
)
def test_a_wrong_url_is_refused_without_quoting_its_password(given: str, why: str) -> None:
    with pytest.raises(StoreMisconfigured, match=why) as caught:
        parse_url(given)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
