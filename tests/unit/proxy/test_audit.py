"""The audit log: one line for each decision, and what is never in it."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from doogie_contract.models import StartRequest
from doogie_contract.problems import ProblemDetail, ProblemError, ProblemType
from doogie_proxy.audit import Decision, audit_file
from doogie_proxy.identity import Keyring
from doogie_proxy.log import AUDIT_LOGGER
from doogie_proxy.policy import Rule
from doogie_proxy.policy_file import ConfigurationError

KEYRING = Keyring([b"k" * 32])
REQUEST = StartRequest(
    image="time:1",
    args=["--token=planted", "-v"],
    env={"TZ": "planted", "A": "planted"},
    secrets=["github"],
    mounts=["docs", "cache"],
)


def rule(audit: str = "shown") -> Rule:
    return Rule.model_validate({"name": "r", "images": ["time:1"], "allow_tags": True, "args": {"audit": audit}})


def written(decision: Decision, *, times: int = 1, problem: Exception | None = None) -> list[dict[str, object]]:
    with capture_logs() as lines:
        for _ in range(times):
            decision.write("refused" if problem else "allowed", problem)
    return [dict(line) for line in lines]


def test_a_decision_is_written_once_with_all_that_is_known() -> None:
    decision = Decision("start")
    decision.note(client="chat", rule="a")
    decision.note(rule="b")
    assert written(decision, times=3) == [
        {
            "event": "audit",
            "log_level": "info",
            "outcome": "allowed",
            "action": "start",
            "client": "chat",
            "rule": "b",
        }
    ]


def test_a_request_is_written_with_the_names_of_its_variables_and_no_value() -> None:
    decision = Decision("start")
    decision.note_request(REQUEST.model_copy(update={"args": ["-v"]}), [rule(), rule()], KEYRING)
    [line] = written(decision)
    assert {key: line[key] for key in ("image", "args", "args_hashed", "env", "secrets", "mounts")} == {
        "image": "time:1",
        "args": ["-v"],
        "args_hashed": False,
        "env": ["A", "TZ"],
        "secrets": ["github"],
        "mounts": ["docs", "cache"],
    }
    assert "planted" not in repr(line)


def test_one_rule_that_has_arguments_hashed_is_enough() -> None:
    decision = Decision("start")
    decision.note_request(REQUEST, [rule(), rule("hashed"), rule()], KEYRING)
    [line] = written(decision)
    assert line["args"] == [KEYRING.sign("audit", arg) for arg in REQUEST.args]
    assert line["args_hashed"] is True
    assert "planted" not in repr(line)


def test_what_stood_in_the_way_is_written_with_the_problem() -> None:
    errors = [ProblemDetail(loc="rules.a", msg="takes no arguments"), ProblemDetail(loc="rules.b", msg="nor this")]
    [line] = written(Decision("start"), problem=ProblemError(ProblemType.POLICY_DENIED, "denied", errors))
    assert line["outcome"] == "refused"
    assert line["problem"] == ProblemType.POLICY_DENIED.slug
    assert line["why"] == ["rules.a: takes no arguments", "rules.b: nor this"]


def test_a_problem_without_errors_is_written_with_what_it_says() -> None:
    [line] = written(Decision("start"), problem=ProblemError(ProblemType.QUOTA_EXCEEDED, "2 servers run"))
    assert line["why"] == ["2 servers run"]
    assert "problem" not in written(Decision("stop"))[0]


def test_a_refusal_that_is_no_problem_is_written_with_what_it_says() -> None:
    [line] = written(Decision("reload"), problem=ConfigurationError(["policy.yaml:1: a", "policy.yaml:2: b"]))
    assert line["why"] == ["policy.yaml:1: a\npolicy.yaml:2: b"]
    assert "problem" not in line


WRITER = """
import os, sys
from pathlib import Path
import structlog
from doogie_proxy import log
from doogie_proxy.audit import Decision, audit_file

file = Path(sys.argv[1])
log.configure("error", "console")
Decision("before").write("allowed")
with audit_file(file):
    Decision("stop").write("allowed")
    structlog.get_logger("doogie_proxy.app").error("something_else")
Decision("after").write("failed")
with audit_file(None):
    Decision("without").write("failed")
"""


def test_the_audit_file_has_the_audit_log_as_json_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    done = subprocess.run([sys.executable, "-c", WRITER, file], check=True, capture_output=True, text=True)
    [line] = [json.loads(line) for line in file.read_text().splitlines()]
    assert (line["event"], line["action"], line["outcome"], line["level"]) == ("audit", "stop", "allowed", "info")
    assert line["timestamp"]
    assert [action for action in ("before", "stop", "after", "without") if action in done.stdout] == [
        "before",
        "stop",
        "after",
        "without",
    ]


def test_an_audit_file_that_is_rotated_away_is_opened_anew(tmp_path: Path) -> None:
    file, rotated = tmp_path / "audit.log", tmp_path / "audit.log.1"
    program = WRITER.replace('structlog.get_logger("doogie_proxy.app").error("something_else")', ROTATION)
    subprocess.run([sys.executable, "-c", program, file], check=True, capture_output=True, text=True)
    assert [json.loads(text)["action"] for text in rotated.read_text().splitlines()] == ["stop"]
    assert [json.loads(text)["action"] for text in file.read_text().splitlines()] == ["ping"]


ROTATION = """
    while not file.read_text():
        pass
    file.rename(str(file) + ".1")
    Decision("ping").write("allowed")
"""


def test_an_audit_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    handlers = list(logging.getLogger(AUDIT_LOGGER).handlers)
    with (
        pytest.raises(ConfigurationError, match=r"audit file: .*No such file"),
        audit_file(tmp_path / "absent" / "audit.log"),
    ):
        pass
    assert logging.getLogger(AUDIT_LOGGER).handlers == handlers
