"""What fuzz.py sends: request number N of a seed is always the same. Pure.

raw         valid requests, changed byte by byte: is it HTTP at all, and where does it end?
http        well-formed HTTP with any method, path, query, headers and body
start       bodies of start and stop: any JSON, changed valid ones, the engine's own fields in disguise
websocket   upgrades, right ones and odd ones, and then frames that are garbage
auth        nearly the right token; each must be refused
"""

import base64
import json
import random
import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.support.harness import OTHER_TOKEN, TOKEN, TOOLBOX

LIVE = "live"
"""The server of the client with ``OTHER_TOKEN`` that WebSockets are opened to."""
NAMES = ["a", "b", "c", "d"]

_JSON = {"Content-Type": "application/json"}
_START = {"image": TOOLBOX, "args": ["sleep"], "env": {"GREETING": "hello"}, "secrets": ["key"], "mounts": ["scratch"]}
_GOODBYE = b"GET /healthz HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n"


class Shot(NamedTuple):
    """What is sent, and what is known of the answer."""

    category: str
    data: bytes
    to_head: bool = False
    alone: bool = False
    """On a connection of its own: where its answers end is only known when that ends, or nothing more comes."""
    refused: bool = False
    """It has no valid token, and must not get anything."""
    frames: bytes = b""
    """To be sent once the connection is a WebSocket's."""


def shot(seed: str, number: int) -> Shot:
    """Request ``number`` of ``seed``."""
    rng = random.Random(f"{seed}:{number}")  # to be repeatable is its purpose
    make = rng.choices(list(_MAKERS), weights=list(_MAKERS.values()))[0]
    return make(rng)


def request(method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None) -> bytes:
    """An HTTP/1.1 request as it stands; latin-1, so that headers can be any bytes."""
    lines = [f"{method} {target} HTTP/1.1", "Host: proxy", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _bearer(token: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {token}")


def _chunked(rng: random.Random, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    pieces, rest = [], body
    while rest:
        size = rng.randint(1, len(rest))
        pieces.append(b"%x\r\n%b\r\n" % (size, rest[:size]))
        rest = rest[size:]
    head = request(method, target, [*headers, ("Transfer-Encoding", "chunked")])
    return head + b"".join(pieces) + b"0\r\n\r\n"


# ── raw ──────────────────────────────────────────────────────────────────────────────────────────

_BODY = json.dumps(_START).encode()
_UPGRADE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", base64.b64encode(b"0123456789abcdef").decode()),
]
_VALID = [
    request("GET", "/v1/servers", [_bearer(TOKEN)]),
    request("GET", "/v1/servers/a", [_bearer(TOKEN)]),
    request("GET", "/v1/servers/a/logs?tail=5", [_bearer(TOKEN)]),
    request("GET", "/v1/policy", [_bearer(TOKEN)]),
    request("GET", "/readyz"),
    request("POST", "/v1/servers/a/start", [_bearer(TOKEN), *_JSON.items()], _BODY),
    request("POST", "/v1/servers/b/start?dry_run=1", [_bearer(TOKEN), *_JSON.items()], _BODY),
    _chunked(random.Random(0), "POST", "/v1/servers/c/start", [_bearer(TOKEN), *_JSON.items()], _BODY),
    request("POST", "/v1/servers/a/stop", [_bearer(TOKEN), *_JSON.items()], b'{"grace_s": 0}'),
    request("POST", "/v1/servers/a/ticket", [_bearer(TOKEN)]),
    request("GET", "/v1/servers/a/stdio", [_bearer(TOKEN), *_UPGRADE, ("Sec-WebSocket-Protocol", "v5.channel.k8s.io")]),
]
_TOKENS = [
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b"/", b"//", b"/../", b"%2e%2e", b"%00", b"?"),
    *(b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"http://evil.example", b"\xff"),
    *(b"\r\nContent-Length: 0", b"\r\nContent-Length: 4", b"\r\nContent-Length: -1", b"\r\nContent-Length: +7"),
    *(b"\r\nContent-Length: 99999999999999999999", b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: gzip"),
    *(b"\r\nTransfer-Encoding : chunked", b"\r\n folded", b"\r\nHost: other", b"\r\nExpect: 100-continue"),
    *(b"\r\nExpect: miracles", b"\r\nConnection: close", b"\r\nContent-Encoding: gzip", b"\r\nUpgrade: h2c"),
    *(b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"5;ext=\r\n", b"\x1b[31m", b"{", b"}", b'"', b"\\ud800", b"HostConfig"),
]  # fmt: skip


def _raw(rng: random.Random) -> Shot:
    data = bytearray(rng.choice(_VALID))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 8))):
        at, to = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
        to = min(to, at + rng.choice((1, 2, 8, 1000)))
        match rng.randrange(7):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                data[at:at] = rng.randbytes(rng.choice((1, 1, 4, 64)))
            case 2:
                del data[at:to]
            case 3:
                data[at:at] = data[at:to]
            case 4:
                data[at:to] = rng.choice(_TOKENS)
            case 5:
                data[at:at] = rng.choice(_TOKENS) * rng.choice((1, 1, 1, 2, 300))
            case _:
                data += rng.choice(_VALID)
    return Shot("raw", bytes(data) + _GOODBYE, alone=True)


# ── http ─────────────────────────────────────────────────────────────────────────────────────────

_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "QUERY", "PROPFIND", "X-Y"]
_H2C = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]
_PARTS = [
    *("v1", "v1.41", "v2", "servers", "policy", "healthz", "openapi.json", "containers", "create", "json", "exec"),
    *("start", "stop", "logs", "stdio", "ticket", "images", "volumes", "_ping", "a", "b", "UPPER", "a.b", "-x", "~"),
    *("..", ".", "", "a" * 63, "a" * 64, "a" * 5000),
]  # fmt: skip
_ODD_PARTS = ["%2e%2e", "%00", "a;b", "a\\b", "a b", "\xe9", "*", "a:b", "[", "a,b"]
_PATHS = ["/v1/servers", "/v1/policy", "/healthz", "/readyz", "/openapi.json", "/v1/servers/{}", "/v1/servers/{}/logs"]
_PATHS += ["/v1/servers/{}/start", "/v1/servers/{}/stop", "/v1/servers/{}/ticket", "/v1/servers/{}/stdio"]
_QUERY_NAMES = ["wait", "dry_run", "tail", "takeover", "ticket", "force", "", "a[]", "\xe9"]
_QUERY_VALUES = ["none", "0", "1", "2", "-1", "99999", "999999", "1e3", "", "%00", "%0d%0a", "a+b", "\xe9", "x" * 3000]
_HEADERS = [
    *("X-HTTP-Method-Override", "X-Method-Override", "X-Forwarded-For", "X-Forwarded-Host", "X-Original-URL", "Origin"),
    *("Content-Type", "Content-Encoding", "Accept", "Accept-Encoding", "Cookie", "Expect", "Range", "If-None-Match"),
    *("Referer", "User-Agent", "X-Registry-Auth", "X-Request-Id", "Forwarded", "Via", "TE", "Trailer"),
]  # fmt: skip
_HEADER_VALUES = [
    *("DELETE", "*/*", "application/json", "application/json; charset=utf-16", "text/plain", "multipart/form-data"),
    *("gzip", "br", "deflate", "100-continue", "100-Continue", "miracles", "http://evil.example", "null", "bytes=0-5"),
    *("\xe9\xff", "", "x" * 7000, "x" * 9000, "a\tb", "\x1b[31m", "a=b; c=d", "chunked, gzip", "127.0.0.1"),
]  # fmt: skip


def _text(rng: random.Random, alphabet: str, longest: int) -> str:
    return "".join(rng.choices(alphabet, k=rng.randint(0, longest)))


def _http(rng: random.Random) -> Shot:
    method = rng.choice(_METHODS) if rng.random() < 0.7 else rng.choice(["GET", "POST"])
    if rng.random() < 0.05:
        method = _text(rng, string.ascii_letters + "-!", 20) or "X"
    path = rng.choice(_PATHS).format(rng.choice(NAMES))
    if rng.random() < 0.4:
        parts = rng.choices(_PARTS, k=rng.randint(0, 6))
        if rng.random() < 0.2:
            parts.append(rng.choice(_ODD_PARTS))
        path = "/" + "/".join(parts)
    if rng.random() < 0.05:
        path += _text(rng, string.printable[:95], 40).replace(" ", "")
    if rng.random() < 0.4:
        pairs = [f"{rng.choice(_QUERY_NAMES)}={rng.choice(_QUERY_VALUES)}" for _ in range(rng.randint(1, 3))]
        path += "?" + "&".join(pairs)
    headers = [_bearer(TOKEN)] if rng.random() < 0.8 else []
    count = rng.choice((0, 1, 1, 2, 3, 5)) if rng.random() < 0.98 else rng.randint(50, 90)
    headers += [(rng.choice(_HEADERS), rng.choice(_HEADER_VALUES)) for _ in range(count)]
    if rng.random() < 0.1:
        headers.append((_text(rng, string.ascii_letters + "_-.", 30) or "X", _text(rng, string.printable[:95], 60)))
    switches = method == "CONNECT" or rng.random() < 0.03
    headers += _H2C if switches and method != "CONNECT" else []
    if rng.random() < 0.35:
        body = rng.choice([b"", b"{}", b"[]", _BODY, rng.randbytes(rng.choice((1, 100, 70_000))), b" " * 300_000])
        make = _chunked if rng.random() < 0.3 else lambda _, *rest: request(*rest)
        data = make(rng, method, path, headers, body)
    else:
        data = request(method, path, headers)
    return Shot("http", data, to_head=method == "HEAD", alone=switches)


# ── start ────────────────────────────────────────────────────────────────────────────────────────

_DOCKER: list[tuple[str, Any]] = [
    ("Privileged", True),
    ("HostConfig", {"Privileged": True, "Binds": ["/:/host"]}),
    ("Binds", ["/:/host", "/var/run/docker.sock:/s"]),
    ("Mounts", [{"Type": "bind", "Source": "/", "Target": "/host"}]),
    ("CapAdd", ["ALL"]),
    ("PidMode", "host"),
    ("NetworkMode", "host"),
    ("Devices", [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}]),
    ("SecurityOpt", ["seccomp=unconfined"]),
    ("Entrypoint", ["/bin/sh"]),
    ("User", "0:0"),
    ("VolumesFrom", ["other"]),
    ("RestartPolicy", {"Name": "always"}),
    ("Runtime", "runc"),
    ("Labels", {"io.doogie.sig": "0" * 64}),
]
_DISGUISES: list[Callable[[str], str]] = [
    str,
    str.lower,
    str.upper,
    str.swapcase,
    lambda key: key[0] + f"\\u{ord(key[1]):04x}" + key[2:],
    lambda key: key.replace("i", "\u0131").replace("K", "\u212a"),
    lambda key: key + " ",
    lambda key: "\ufeff" + key,
    lambda key: key + "\\u0000",
]
_STRINGS = [
    "",
    "sleep",
    "--privileged",
    "sleep\n",
    "-v",
    "/:/host",
    "a\0b",
    "\ud800",
    "\u202e",
    "x" * 1025,
    "x" * 9000,
    "😀" * 300,
]
_IMAGES = [TOOLBOX, "doogie-test/toolbox", "doogie-test/toolbox:3", "doogie-test/toolbox:2@sha256:" + "0" * 64]
_IMAGES += ["doogie-test/never-built:1", "alpine", "../x", "a b", "sha256:" + "0" * 64, "x" * 600, "evil.example/a/b:1"]


def _any_json(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(9 if depth < 5 else 6)
    match kind:
        case 0:
            return rng.choice([None, True, False])
        case 1:
            return rng.choice([0, 1, -1, 2**31, 2**63, 2**64, 10**400, rng.randint(-1000, 1000)])
        case 2:
            return rng.choice([0.0, -0.0, 1.5, 1e308, 5e-324, 10.0])
        case 3 | 4:
            return rng.choice(_STRINGS)
        case 5:
            return _text(rng, string.printable, 30)
        case 6 | 7:
            keys = rng.choices([*_START, "grace_s", *_STRINGS], k=rng.randint(0, 5))
            return {key: _any_json(rng, depth + 1) for key in keys}
        case _:
            return [_any_json(rng, depth + 1) for _ in range(rng.randint(0, 5))]


def _changed(rng: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = dict(_START)
    for _ in range(rng.randint(0, 2)):
        match rng.randrange(8):
            case 0:
                body["image"] = rng.choice(_IMAGES)
            case 1:
                body["args"] = rng.choices([*_STRINGS, "sleep", "echo-lines"], k=rng.choice((0, 1, 2, 130)))
            case 2:
                body["env"] = {rng.choice(["GREETING", "PATH", "LD_PRELOAD", "A=B", "", "KEY"]): rng.choice(_STRINGS)}
            case 3:
                body["secrets"] = rng.choices(["key", "none", "../key", ""], k=rng.randint(0, 3))
            case 4:
                body["mounts"] = rng.choices(["scratch", "none", "/", "/:/host"], k=rng.randint(0, 3))
            case 5:
                body.pop(rng.choice(list(body)), None)
            case 6:
                body[rng.choice([*_START, "grace_s", "more"])] = _any_json(rng, 3)
            case _:
                body["env"] = {"GREETING": rng.choice(["1", "2", "😀" * 32_768, "x" * 32_769])}
    return body


def _start_text(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.3:
        return json.dumps(_any_json(rng)).encode()
    text = json.dumps(_changed(rng), ensure_ascii=rng.random() < 0.5)
    if kind < 0.55:
        key, value = rng.choice(_DOCKER)
        member = f'"{rng.choice(_DISGUISES)(key)}": {json.dumps(value)}'
        text = "{" + (f"{member}, {text[1:]}" if rng.random() < 0.5 else f"{text[1:-1]}, {member}}}")
    elif kind < 0.65:
        text = rng.choice(
            [
                "\ufeff" + text,
                text + " {}",
                text.replace('"args"', '"image": "alpine", "args"'),
                text.replace('"sleep"', "NaN"),
                '{"a":' * 500 + text + "}" * 500,
                "[" * 100_000,
                text.replace(",", ",,"),
                text[: rng.randrange(len(text))],
                text + " " * 262_144,
            ]
        )
    return text.encode("utf-8", errors="surrogatepass")


def _start(rng: random.Random) -> Shot:
    if rng.random() < 0.12:
        body = json.dumps(rng.choice([{}, {"grace_s": 0}, {"grace_s": 1}, _any_json(rng)])).encode()
        target = f"/v1/servers/{rng.choice(NAMES)}/stop"
    else:
        body = _start_text(rng)
        target = f"/v1/servers/{rng.choice(NAMES)}/start" + rng.choice(["", "", "?dry_run=1", "?wait=none"])
    headers = [_bearer(TOKEN), *_JSON.items()]
    return Shot("start", (_chunked(rng, "POST", target, headers, body) if rng.random() < 0.1 else
                          request("POST", target, headers, body)))  # fmt: skip


# ── websocket ────────────────────────────────────────────────────────────────────────────────────


def _frame(rng: random.Random) -> bytes:
    payload = rng.choice(
        [
            b"",
            b"\0line\n",
            b"\0" + rng.randbytes(40),
            rng.randbytes(rng.choice((1, 2, 125, 126, 2000))),
            b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}',
            b"\xff\0",
            b"\x04" + b'{"Width":1}',
            rng.choice([999, 1000, 1005, 1006, 1015, 2999, 4409, 65535]).to_bytes(2) + b"bye",
            b"\0" + b"x" * rng.choice((65_000, 65_536, 65_537, 70_000)),
            "é".encode() * 5 + b"\xc3",
        ]
    )
    opcode = rng.choice((1, 1, 2, 2, 2, 2, 0, 8, 9, 10, 3, 7, 11, 15))
    first = (
        (0x80 if rng.random() < 0.9 else 0) | (rng.choice((0x40, 0x20, 0x10)) if rng.random() < 0.05 else 0) | opcode
    )
    masked = rng.random() < 0.95
    told = len(payload) if rng.random() < 0.93 else rng.choice((0, 5, 2**16, 2**31, 2**63 - 1, 2**64 - 1))
    mark = 0x80 if masked else 0
    if told < 126 and rng.random() < 0.95:
        length = bytes([mark | told])
    elif told < 65_536:
        length = bytes([mark | 126]) + told.to_bytes(2)
    else:
        length = bytes([mark | 127]) + told.to_bytes(8)
    if not masked:
        return bytes([first]) + length + payload
    mask = rng.randbytes(4)
    stream = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked_payload = (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(len(payload))
    return bytes([first]) + length + mask + masked_payload


def _websocket(rng: random.Random) -> Shot:
    headers = [*_UPGRADE, ("Sec-WebSocket-Protocol", rng.choice(["v5.channel.k8s.io", "mcp", "mcp, x", "x", ""]))]
    headers.append(_bearer(OTHER_TOKEN))
    if rng.random() < 0.3:
        at = rng.randrange(len(headers))
        match rng.randrange(3):
            case 0:
                del headers[at]
            case 1:
                headers.append(headers[at])
            case _:
                headers[at] = (headers[at][0], rng.choice(["", "12", "8, 13", "h2c", "keep-alive", "short", "\xe9"]))
    if rng.random() < 0.3:
        headers.append(("Sec-WebSocket-Extensions", rng.choice(["permessage-deflate", "x-webkit-deflate-frame", ";;"])))
    if rng.random() < 0.2:
        headers.append(("Origin", "http://evil.example"))
    frames = b"".join(_frame(rng) for _ in range(rng.choice((0, 1, 2, 3, 6, 40))))
    if rng.random() < 0.1:
        frames = rng.randbytes(rng.randint(1, 4000))
    data = request("GET", f"/v1/servers/{LIVE}/stdio{rng.choice(['', '?takeover=1', '?takeover=1'])}", headers)
    if rng.random() < 0.3:
        data, frames = data + frames, b""  # before it is known that this is a WebSocket
    return Shot("websocket", data, alone=True, frames=frames)


# ── auth ─────────────────────────────────────────────────────────────────────────────────────────


def _nearly(rng: random.Random, token: str) -> str:
    at = rng.randrange(len(token))
    changed = rng.choice(
        [
            token[:at] + token[at + 1 :],
            token[:at] + rng.choice(string.ascii_letters + string.digits) + token[at:],
            token[:at] + chr(ord(token[at]) ^ 1) + token[at + 1 :],
            token[:at] + token[at].swapcase() + token[at + 1 :],
            token[:at],
            token + token,
            token + " " + token,
            f'"{token}"',
            token + ",",
            token + "\xa0",
            base64.b64encode(token.encode()).decode(),
            "x" * rng.choice((511, 512, 513, 5000)),
            _text(rng, string.printable[:94], 60),
        ]
    )
    return changed if changed.strip(" \t") not in (TOKEN, OTHER_TOKEN) else ""


def _auth(rng: random.Random) -> Shot:
    method, path = rng.choice([("GET", "/v1/servers"), ("GET", "/v1/policy"), ("GET", f"/v1/servers/{LIVE}")])
    if rng.random() < 0.5:
        name = rng.choice([LIVE, *NAMES])
        method, path = rng.choice(
            [("GET", "logs"), ("POST", "ticket"), ("POST", "stop"), ("POST", "start"), ("GET", "stdio")]
        )
        path = f"/v1/servers/{name}/{path}"
    token = rng.choice([TOKEN, OTHER_TOKEN])
    match rng.randrange(6):
        case 0:
            headers = []
        case 1:
            scheme = rng.choice(["Basic", "Token", "Digest", "", "Bearer\t", "Bearer:"])
            headers = [("Authorization", f"{scheme} {token}")]
        case 2:
            headers = [(rng.choice(["Proxy-Authorization", "X-Authorization", "Cookie", "Authorization2"]), token)]
        case 3:
            headers = [_bearer(_nearly(rng, token)), _bearer(token)]
        case _:
            headers = [("Authorization", f"{rng.choice(['Bearer', 'bearer', 'BEARER'])} {_nearly(rng, token)}")]
    if path.endswith("stdio") or rng.random() < 0.1:
        path += f"?ticket={_text(rng, string.ascii_letters, 43)}"
    body = _BODY if path.endswith("start") else None
    return Shot("auth", request(method, path, [*headers, *_JSON.items()], body), refused=True)


CATEGORIES = ("raw", "http", "start", "websocket", "auth")
_MAKERS: dict[Callable[[random.Random], Shot], int] = {_raw: 30, _http: 25, _start: 25, _websocket: 8, _auth: 12}
