"""The list of problems: a client may rely on every name and status in it."""

import pytest

from doogie_contract.problems import URN_PREFIX, Problem, ProblemDetail, ProblemError, ProblemType

PROMISED = {
    "bad-request": 400,
    "unauthenticated": 401,
    "policy-denied": 403,
    "host-not-allowed": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "request-timeout": 408,
    "spec-conflict": 409,
    "stdio-busy": 409,
    "body-too-large": 413,
    "unsupported-media-type": 415,
    "invalid-request": 422,
    "image-unavailable": 424,
    "upgrade-required": 426,
    "quota-exceeded": 429,
    "headers-too-large": 431,
    "internal-error": 500,
    "engine-error": 502,
    "engine-unavailable": 503,
    "shutting-down": 503,
    "engine-timeout": 504,
}
"""Once released, a name keeps its meaning and its status: change this table only by adding to it."""


def test_the_names_and_their_statuses_are_stable() -> None:
    assert {problem.slug: problem.status for problem in ProblemType} == PROMISED


def test_no_two_problems_share_a_urn_or_a_title() -> None:
    assert len({problem.urn for problem in ProblemType}) == len(ProblemType)
    assert len({problem.title for problem in ProblemType}) == len(ProblemType)


@pytest.mark.parametrize("problem", ProblemType, ids=lambda problem: problem.slug)
def test_a_urn_leads_back_to_its_problem(problem: ProblemType) -> None:
    assert problem.urn == f"urn:doogie:problem:{problem.slug}"
    assert ProblemType.from_urn(problem.urn) is problem


@pytest.mark.parametrize("urn", ["", "about:blank", URN_PREFIX, URN_PREFIX + "of-a-later-version", "not-found"])
def test_an_unknown_urn_is_no_problem_of_this_version(urn: str) -> None:
    assert ProblemType.from_urn(urn) is None


def test_a_problem_has_the_members_of_rfc_9457_and_our_two() -> None:
    error = ProblemError(ProblemType.POLICY_DENIED, "no rule", [ProblemDetail(loc="rules.time", msg="no arguments")])
    assert error.to_problem("abc").model_dump() == {
        "type": "urn:doogie:problem:policy-denied",
        "title": "The policy does not allow this",
        "status": 403,
        "detail": "no rule",
        "request_id": "abc",
        "errors": [{"loc": "rules.time", "msg": "no arguments"}],
    }


def test_a_problem_survives_the_wire() -> None:
    problem = ProblemError(ProblemType.NOT_FOUND, "no server x").to_problem("abc")
    assert Problem.model_validate_json(problem.model_dump_json()) == problem


def test_a_problem_of_a_later_version_is_still_read() -> None:
    text = '{"type":"urn:x","title":"t","status":499,"detail":"d","request_id":"r","retry_after_s":3}'
    assert Problem.model_validate_json(text).status == 499


def test_a_problem_error_says_what_it_is_in_a_traceback() -> None:
    assert str(ProblemError(ProblemType.NOT_FOUND, "no server x")) == "not-found: no server x"
