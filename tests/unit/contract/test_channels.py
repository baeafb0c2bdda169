"""The framing of ``v5.channel.k8s.io``."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_contract.channels import (
    Channel,
    ChannelError,
    CloseCode,
    ExitStatus,
    decode,
    decode_exit_status,
    encode,
    encode_close,
    encode_exit_status,
)

KNOWN = {0: "stdin", 1: "stdout", 2: "stderr", 3: "status", 4: "resize", 255: "close"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=10,
)
status_like = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["Success", "Failure"]) | json_values,
        "message": st.text() | json_values,
        "details": json_values
        | st.fixed_dictionaries(
            {"causes": st.lists(st.fixed_dictionaries({"reason": st.just("ExitCode"), "message": json_values}))}
        ),
    },
)


def test_channel_numbers_are_those_of_kubernetes() -> None:
    assert {int(channel): channel.name.lower() for channel in Channel} == KNOWN


def test_close_codes_are_those_the_protocol_promises() -> None:
    assert {code.name: int(code) for code in CloseCode} == {
        "NORMAL": 1000,
        "UNSUPPORTED_DATA": 1003,
        "ABNORMAL": 1006,
        "INVALID_DATA": 1007,
        "MESSAGE_TOO_BIG": 1009,
        "SERVICE_RESTART": 1012,
        "HALF_CLOSE_UNAVAILABLE": 4405,
        "TAKEN_OVER": 4409,
        "REVOKED": 4403,
        "EXITED_NON_ZERO": 4500,
        "ENGINE_LOST": 4503,
    }


@given(channel=st.sampled_from(Channel), payload=st.binary())
def test_what_was_encoded_is_decoded(channel: Channel, payload: bytes) -> None:
    frame = decode(encode(channel, payload))
    assert (frame.channel, bytes(frame.payload)) == (channel, payload)


@given(payload=st.binary())
def test_every_kind_of_buffer_is_encoded_alike(payload: bytes) -> None:
    assert encode(Channel.STDIN, bytearray(payload)) == encode(Channel.STDIN, memoryview(payload)) == b"\0" + payload


@given(message=st.binary(min_size=1))
def test_any_message_is_decoded_losslessly_or_refused_for_its_channel(message: bytes) -> None:
    if message[0] in KNOWN:
        frame = decode(message)
        assert encode(frame.channel, frame.payload) == message
    else:
        with pytest.raises(ChannelError, match=f"unknown channel {message[0]}; known"):
            decode(message)


def test_an_empty_message_is_refused() -> None:
    with pytest.raises(ChannelError, match="first byte must be the channel"):
        decode(b"")


def test_a_payload_is_not_copied() -> None:
    message = b"\1" + bytes(1000)
    assert decode(message).payload.obj is message


def test_half_closing_stdin_is_two_bytes() -> None:
    assert encode_close(Channel.STDIN) == b"\xff\x00"


def test_success_is_a_kubernetes_status_without_a_code() -> None:
    message = encode_exit_status(0, "ignored")
    assert message[0] == Channel.STATUS
    assert json.loads(message[1:]) == {"metadata": {}, "status": "Success"}


def test_a_failure_is_a_kubernetes_status_with_the_code_as_a_cause() -> None:
    assert json.loads(encode_exit_status(137, "killed")[1:]) == {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": "killed",
        "details": {"causes": [{"reason": "ExitCode", "message": "137"}]},
    }


def test_an_unknown_code_is_an_internal_error() -> None:
    assert json.loads(encode_exit_status(None, "engine lost")[1:]) == {
        "metadata": {},
        "status": "Failure",
        "reason": "InternalError",
        "message": "engine lost",
    }


@given(code=st.none() | st.integers(-(2**31), 2**31), message=st.text())
def test_an_exit_status_survives_the_round_trip(code: int | None, message: str) -> None:
    frame = decode(encode_exit_status(code, message))
    assert frame.channel is Channel.STATUS
    assert decode_exit_status(frame.payload) == ExitStatus(code, "" if code == 0 else message)


def test_a_status_of_kubernetes_itself_is_read() -> None:
    text = (
        '{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code",'
        '"reason":"NonZeroExitCode","details":{"causes":[{"reason":"Other"},{"reason":"ExitCode","message":"3"}]}}'
    )
    assert decode_exit_status(text.encode()) == ExitStatus(3, "command terminated with non-zero exit code")


@given(payload=st.binary() | status_like.map(lambda value: json.dumps(value).encode()))
def test_any_payload_is_read_as_a_status_or_refused_as_none(payload: bytes) -> None:
    try:
        status = decode_exit_status(payload)
    except ChannelError:
        return
    assert isinstance(status.message, str)
    assert status.code is None or isinstance(status.code, int)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b'"Success"',
        b"{}",
        b"[" * 100_000,
        b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":1e999}]}}',
        b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"many"}]}}',
        b'{"status":"Failure","details":{"causes":5}}',
    ],
)
def test_what_is_not_a_status_is_refused(payload: bytes) -> None:
    with pytest.raises(ChannelError, match=r"not a metav1\.Status"):
        decode_exit_status(payload)
