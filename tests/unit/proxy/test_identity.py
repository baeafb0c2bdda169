"""Signed labels: what they prove, and that nothing else proves it."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from doogie_contract.models import StartRequest
from doogie_proxy.admission import Admitted
from doogie_proxy.identity import (
    LABEL_CLIENT,
    LABEL_LIFETIME,
    LABEL_SIG,
    PREFIX,
    Identity,
    IdentityError,
    Keyring,
    same_spec,
    spec_mac,
)
from doogie_proxy.policy import Lifetime, Stdio
from doogie_proxy.spec import ImageConfig, create_body
from tests.unit.proxy.strategies import SECRETS, admissions, hex_digests, requests, texts
from tests.unit.proxy.strategies import images as image_configs

IMAGE_ID = "sha256:" + "d" * 64
OLD, NEW = b"o" * 32, b"n" * 32
KEYRING = Keyring([OLD])

IDENTITY = Identity(
    instance="default",
    client="chat",
    server="time",
    rule="time",
    image="mcp/time:1",
    spec="5" * 64,
    plan="6" * 64,
    lifetime=Lifetime(),
    stdio=Stdio(replay="none"),
)
LABELS = IDENTITY.to_labels(KEYRING, IMAGE_ID)

owners = st.from_regex(r"[a-z0-9][a-z0-9_]{0,31}", fullmatch=True)
names = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True)
identities = st.builds(
    Identity,
    instance=owners,
    client=owners,
    server=names,
    rule=names,
    image=st.just("mcp/time:1"),
    spec=hex_digests,
    plan=hex_digests,
    lifetime=st.builds(Lifetime, stop_grace_s=st.integers(0, 300)),
    stdio=st.builds(Stdio, replay=st.sampled_from(["engine-log", "none"])),
)


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def test_the_labels_are_those_that_are_documented() -> None:
    assert {key.removeprefix(PREFIX) for key in LABELS} == {
        *("instance", "client", "server", "rule", "image", "spec", "plan", "lifetime", "stdio", "sig")
    }
    assert all(key.startswith("io.doogie.") for key in LABELS)


@given(identity=identities, image_id=hex_digests.map("sha256:{}".format))
def test_an_identity_is_read_back_from_its_labels(identity: Identity, image_id: str) -> None:
    assert Identity.from_labels(identity.to_labels(KEYRING, image_id), KEYRING, image_id) == identity


@given(key=st.sampled_from(sorted(LABELS)), value=st.text(max_size=80))
def test_changing_any_label_breaks_the_signature(key: str, value: str) -> None:
    assume(value != LABELS[key])
    with pytest.raises(IdentityError):
        Identity.from_labels({**LABELS, key: value}, KEYRING, IMAGE_ID)


@pytest.mark.parametrize("key", sorted(LABELS))
def test_removing_any_label_breaks_the_signature(key: str) -> None:
    with pytest.raises(IdentityError):
        Identity.from_labels({name: value for name, value in LABELS.items() if name != key}, KEYRING, IMAGE_ID)


@given(key=st.text(min_size=1).map((PREFIX + "{}").format), value=st.text(min_size=1))
def test_adding_a_label_of_ours_breaks_the_signature(key: str, value: str) -> None:
    assume(key not in LABELS)
    with pytest.raises(IdentityError):
        Identity.from_labels({**LABELS, key: value}, KEYRING, IMAGE_ID)


@given(one=st.sampled_from(sorted(LABELS)), other=st.sampled_from(sorted(LABELS)))
def test_swapping_two_labels_breaks_the_signature(one: str, other: str) -> None:
    assume(LABELS[one] != LABELS[other])
    with pytest.raises(IdentityError):
        Identity.from_labels({**LABELS, one: LABELS[other], other: LABELS[one]}, KEYRING, IMAGE_ID)


@given(st.text(max_size=80))
def test_labels_copied_to_a_container_of_another_image_prove_nothing(image_id: str) -> None:
    assume(image_id != IMAGE_ID)
    with pytest.raises(IdentityError, match="signature does not verify"):
        Identity.from_labels(LABELS, KEYRING, image_id)


def test_labels_of_other_software_do_not_matter() -> None:
    labels = {**LABELS, "com.docker.compose.project": "x", "io.doogieX": "y", "": ""}
    assert Identity.from_labels(labels, KEYRING, IMAGE_ID) == IDENTITY


def test_labels_without_a_signature_prove_nothing() -> None:
    for labels in ({}, {LABEL_SIG: ""}, {LABEL_CLIENT: "chat"}, {LABEL_SIG: KEYRING.sign("spec", "[{},null]")}):
        with pytest.raises(IdentityError, match="signature does not verify"):
            Identity.from_labels(labels, KEYRING, IMAGE_ID)


def test_signed_labels_of_another_version_are_refused_as_such() -> None:
    labels = replace(IDENTITY, lifetime=Lifetime.model_construct(detached_ttl_s=0)).to_labels(KEYRING, IMAGE_ID)
    assert '"detached_ttl_s":0' in labels[LABEL_LIFETIME]
    with pytest.raises(IdentityError, match="of another version"):
        Identity.from_labels(labels, KEYRING, IMAGE_ID)


def test_a_label_under_our_prefix_that_an_image_bakes_in_is_not_taken_for_ours() -> None:
    """Else the container would run on for ever after a restart of the proxy, owned by nobody."""
    assert Identity.from_labels({**LABELS, PREFIX + "baked": ""}, KEYRING, IMAGE_ID) == IDENTITY


@given(admitted=admissions, image=image_configs)
def test_no_label_that_an_image_bakes_in_hides_a_container_from_its_owner(
    admitted: Admitted, image: ImageConfig
) -> None:
    labels = create_body(
        admitted, replace(image, volumes=(), workdir="/"), LABELS, {secret["file"]: "x" for secret in SECRETS.values()}
    )["Labels"]
    # The engine adds what the body does not set.
    inherited = {**image.labels, **labels}
    assert Identity.from_labels(inherited, KEYRING, IMAGE_ID) == IDENTITY


def test_the_signature_is_the_same_in_every_release() -> None:
    """Else an upgrade would disown every running server; a change here needs a way to read the old ones."""
    signature = replace(IDENTITY, stdio=Stdio()).to_labels(KEYRING, IMAGE_ID)[LABEL_SIG]
    assert signature == "1d09b7591f92afa805d14ff9afd5fb2d8ef37ccb9352ea1acc6bb80f21dc608e"


@given(one=identities, other=identities)
def test_two_servers_never_share_a_container_name(one: Identity, other: Identity) -> None:
    assume((one.instance, one.client, one.server) != (other.instance, other.client, other.server))
    assert one.container_name != other.container_name


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_key_signs_and_all_verify() -> None:
    rotating = Keyring([NEW, OLD])
    assert rotating.verify("p", "m", KEYRING.sign("p", "m"))
    assert rotating.sign("p", "m") == Keyring([NEW]).sign("p", "m")
    assert not KEYRING.verify("p", "m", rotating.sign("p", "m"))
    assert Identity.from_labels(LABELS, rotating, IMAGE_ID) == IDENTITY


def test_a_key_that_was_taken_away_proves_nothing_any_more() -> None:
    with pytest.raises(IdentityError, match="signature does not verify"):
        Identity.from_labels(LABELS, Keyring([NEW]), IMAGE_ID)


@given(purpose=texts, message=texts, other_purpose=texts, other_message=texts)
def test_a_signature_is_for_one_purpose_and_one_message(
    purpose: str, message: str, other_purpose: str, other_message: str
) -> None:
    signature = KEYRING.sign(purpose, message)
    assert KEYRING.verify(purpose, message, signature)
    same = (purpose, message) == (other_purpose, other_message)
    assert KEYRING.verify(other_purpose, other_message, signature) is same


@given(st.text())
def test_no_made_up_signature_verifies(signature: str) -> None:
    assert not KEYRING.verify("labels", "m", signature)


def test_a_key_file_holds_one_key_a_line(tmp_path: Path) -> None:
    file = tmp_path / "signing.key"
    file.write_text(f"{NEW.hex()}\n\n{OLD.hex()}\n")
    keyring = Keyring.load(file)
    assert keyring.sign("p", "m") == Keyring([NEW]).sign("p", "m")
    assert keyring.verify("p", "m", KEYRING.sign("p", "m"))


def test_a_new_key_is_one_that_is_accepted_and_another_each_time(tmp_path: Path) -> None:
    file = tmp_path / "signing.key"
    keys = {Keyring.new_key() for _ in range(10)}
    file.write_text("\n".join(keys))
    assert len(keys) == 10
    Keyring.load(file)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "at least one signing key is needed"),
        ("\n \n", "at least one signing key is needed"),
        ("a" * 63, "key 1 is not 64 or more lower-case hex digits"),
        ("a" * 65, "key 1 is not 64 or more lower-case hex digits"),
        ("A" * 64, "key 1 is not 64 or more lower-case hex digits"),
        ("g" * 64, "key 1 is not 64 or more lower-case hex digits"),
        ("a" * 64 + "\nsecret\n", "key 2 is not 64 or more lower-case hex digits"),
        ("é" * 64, "ascii"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "signing.key"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=error) as caught:
        Keyring.load(file)
    assert "secret" not in str(caught.value)


def test_a_key_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Keyring.load(tmp_path / "absent")


# ── requests ─────────────────────────────────────────────────────────────────────────────────────


@given(one=requests, other=requests)
def test_the_hash_of_a_request_is_equal_only_for_equal_requests(one: StartRequest, other: StartRequest) -> None:
    assert (spec_mac(KEYRING, one) == spec_mac(KEYRING, other)) is (one == other)
    assert same_spec(KEYRING, one, spec_mac(KEYRING, other)) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (StartRequest(image="a", args=["b", "c"]), StartRequest(image="a", args=["b c"])),
        (StartRequest(image="a", args=["b"]), StartRequest(image="a", env={"b": ""})),
        (StartRequest(image="a", env={"A": "1", "B": "2"}), StartRequest(image="a", env={"A": "2", "B": "1"})),
        (StartRequest(image="a", args=['","']), StartRequest(image="a", args=["", ""])),
        (StartRequest(image="a", args=["\u00e9"]), StartRequest(image="a", args=["e\u0301"])),
        (StartRequest(image="a"), StartRequest(image="a:latest")),
    ],
)
def test_requests_that_look_alike_have_different_hashes(one: StartRequest, other: StartRequest) -> None:
    assert not same_spec(KEYRING, one, spec_mac(KEYRING, other))


def test_the_order_of_variables_does_not_matter_and_that_of_arguments_does() -> None:
    def mac(args: list[str], env: dict[str, str]) -> str:
        return spec_mac(KEYRING, StartRequest(image="a", args=args, env=env))

    assert mac([], {"A": "1", "B": "2"}) == mac([], {"B": "2", "A": "1"})
    assert mac(["a", "b"], {}) != mac(["b", "a"], {})


def test_a_request_is_recognised_after_the_key_was_replaced() -> None:
    request = StartRequest(image="a", env={"TOKEN": "x"})
    mac = spec_mac(KEYRING, request)
    assert same_spec(Keyring([NEW, OLD]), request, mac)
    assert not same_spec(Keyring([NEW]), request, mac)


@given(st.text(min_size=6, alphabet="ghijklmnopqrstuvwxyz"))
def test_the_labels_reveal_no_value_of_the_environment(secret: str) -> None:
    request = StartRequest(image="a", env={"TOKEN": secret})
    labels = replace(IDENTITY, spec=spec_mac(KEYRING, request)).to_labels(KEYRING, IMAGE_ID)
    assume(all(secret not in value for value in LABELS.values()))
    assert all(secret not in value for value in labels.values())


def test_the_hash_of_a_request_cannot_be_guessed_without_the_key() -> None:
    request = StartRequest(image="a", env={"PIN": "1234"})
    assert spec_mac(KEYRING, request) != spec_mac(Keyring([NEW]), request)
