"""A self-signed certificate, made when it is needed with nothing but the standard library.

In: nothing. Out: a certificate for 127.0.0.1 and localhost and its key, as PEM text. An elliptic-curve key (P-256)
whose arithmetic is written out here, slowly and without any guard against being watched: for tests alone.

Sources: SEC 1 (the private key's form), RFC 5280 (the certificate's), FIPS 186-4 (the curve and the signature).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import UTC, datetime, timedelta

__all__ = ["self_signed"]

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None

SEQUENCE, SET, INTEGER, BITS, OCTETS, OID, UTF8, TIME, TRUE = 0x30, 0x31, 2, 3, 4, 6, 0x0C, 0x18, b"\x01\x01\xff"
EC_KEY, CURVE, ECDSA_SHA256 = "1.2.840.10045.2.1", "1.2.840.10045.3.1.7", "1.2.840.10045.4.3.2"
COMMON_NAME, ALTERNATIVE_NAMES, CONSTRAINTS = "2.5.4.3", "2.5.29.17", "2.5.29.19"


def self_signed() -> tuple[str, str]:
    """A certificate and its key, as PEM; the certificate holds for a year from yesterday."""
    key = 1 + secrets.randbelow(N - 1)
    public = b"\x04" + b"".join(part.to_bytes(32) for part in _times(key, G) or ())
    name = _der(SEQUENCE, _der(SET, _der(SEQUENCE, _oid(COMMON_NAME), _der(UTF8, b"decoy"))))
    start = datetime.now(UTC) - timedelta(days=1)
    dates = (f"{moment:%Y%m%d%H%M%S}Z".encode() for moment in (start, start + timedelta(days=366)))
    signed_with = _der(SEQUENCE, _oid(ECDSA_SHA256))
    names = _der(SEQUENCE, _der(0x82, b"localhost"), _der(0x87, bytes((127, 0, 0, 1))))
    extensions = _der(
        SEQUENCE,
        _der(SEQUENCE, _oid(ALTERNATIVE_NAMES), _der(OCTETS, names)),
        _der(SEQUENCE, _oid(CONSTRAINTS), TRUE, _der(OCTETS, _der(SEQUENCE, TRUE))),
    )
    body = _der(
        SEQUENCE,
        _der(0xA0, _integer(2)),
        _integer(1 + secrets.randbelow(2**63)),
        signed_with,
        name,
        _der(SEQUENCE, *(_der(TIME, date) for date in dates)),
        name,
        _der(SEQUENCE, _der(SEQUENCE, _oid(EC_KEY), _oid(CURVE)), _bits(public)),
        _der(0xA3, extensions),
    )
    certificate = _der(SEQUENCE, body, signed_with, _bits(_signature(key, body)))
    private = _der(
        SEQUENCE, _integer(1), _der(OCTETS, key.to_bytes(32)), _der(0xA0, _oid(CURVE)), _der(0xA1, _bits(public))
    )
    return _pem("CERTIFICATE", certificate), _pem("EC PRIVATE KEY", private)


def _plus(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return one or other
    if one[0] == other[0] and (one[1] + other[1]) % P == 0:
        return None
    if one == other:
        slope = (3 * one[0] ** 2 - 3) * pow(2 * one[1], -1, P)
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, P)
    x = (slope**2 - one[0] - other[0]) % P
    return x, (slope * (one[0] - x) - one[1]) % P


def _times(number: int, point: Point) -> Point:
    found: Point = None
    while number:
        if number & 1:
            found = _plus(found, point)
        point, number = _plus(point, point), number >> 1
    return found


def _signature(key: int, message: bytes) -> bytes:
    digest = int.from_bytes(hashlib.sha256(message).digest())
    while True:
        once = 1 + secrets.randbelow(N - 1)
        r = (_times(once, G) or (0, 0))[0] % N
        s = pow(once, -1, N) * (digest + r * key) % N
        if r and s:
            return _der(SEQUENCE, _integer(r), _integer(s))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 128:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes((tag, 128 + len(length))) + length + content


def _integer(value: int) -> bytes:
    return _der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def _bits(content: bytes) -> bytes:
    return _der(BITS, b"\x00", content)


def _oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    content = [40 * first + second]
    for number in rest:
        group = [number & 127]
        while number := number >> 7:
            group.insert(0, 128 | number & 127)
        content += group
    return _der(OID, bytes(content))


def _pem(label: str, content: bytes) -> str:
    text = base64.b64encode(content).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
