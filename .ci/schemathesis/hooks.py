"""What schemathesis needs to get beyond 401 and `malformed`: signatures, and bodies that are almost right.

Every request is signed as it is about to leave: by a recipient key drawn for this run, and by the MSP's key where the operation
takes that. The formats are those of docs/FORMATS.md, sections 23 and 28, written anew from the document.
"""

import base64
import hashlib
import json
import os
import pathlib
import random
import re
import secrets
import time
import urllib.parse

import requests.auth
import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st

ORIGIN = os.environ["WAYMARK_ORIGIN"]
MSP = os.environ["WAYMARK_MSP"]
# The pattern that the description gives for a log's name.
LOG = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,255}")
VECTORS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "vectors"
BY_MSP = ("/v1/lookups", "/v1/imports")

recipient_key = Ed25519PrivateKey.generate()
msp_key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(pathlib.Path(os.environ["WAYMARK_MSP_KEY"]).read_text().strip()))


def public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def short(part):
    """opaque<0..255>"""
    return bytes([len(part)]) + part


def as_recipient(method, path, body):
    """Waymark-Recipient: section 23."""
    now, nonce = int(time.time() * 1000), secrets.token_bytes(16)
    fields = short(method.encode()) + short(path.encode()) + hashlib.sha256(body).digest() + now.to_bytes(8, "big") + nonce
    signed = short(b"waymark/1 request recipient") + short(ORIGIN.encode()) + fields
    sig = recipient_key.sign(signed).hex()
    return {"Waymark-Recipient": f"key={public(recipient_key)}; time={now}; nonce={nonce.hex()}; sig={sig}"}


def as_msp(method, path, media_type, body):
    """RFC 9421 in the profile of section 28."""
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
    names = ("@method", "@path", "content-type", "content-digest", "waymark-origin")
    values = (method, path, media_type, digest, ORIGIN)
    now = int(time.time())
    parameters = (
        "(" + " ".join(f'"{name}"' for name in names) + ")"
        f';created={now};expires={now + 300};nonce="{secrets.token_hex(16)}";keyid="{MSP}/{public(msp_key)}"'
        ';alg="ed25519";tag="waymark"'
    )
    base = "".join(f'"{name}": {value}\n' for name, value in zip(names, values)) + f'"@signature-params": {parameters}'
    signature = base64.b64encode(msp_key.sign(base.encode())).decode()
    return {
        "Waymark-Origin": ORIGIN,
        "Content-Digest": digest,
        "Signature-Input": f"waymark={parameters}",
        "Signature": f"waymark=:{signature}:",
    }


class Signed(requests.auth.AuthBase):
    def __call__(self, request):
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        url = urllib.parse.urlsplit(request.url)
        path, media_type = url.path, request.headers.get("Content-Type")
        # Of ten requests one is not signed, and one over another body.
        chance = random.randrange(10)
        body = body + b" " if chance == 1 else body
        if chance == 0 or len(path.encode()) > 255:
            return request
        request.headers.update(as_recipient(request.method, path, body))
        if path in BY_MSP and isinstance(media_type, str) and not url.query:
            request.headers.update(as_msp(request.method, path, media_type.strip(), body))
        return request


schemathesis.auth.set_from_requests(Signed())


@schemathesis.hook
def map_body(context, body):
    """Nine of ten look-ups that name some log are for the one that is there. What is no log's name stays: it must be refused."""
    if isinstance(body, dict) and isinstance(body.get("log"), str) and LOG.fullmatch(body["log"]) and random.randrange(10) > 0:
        return {**body, "log": ORIGIN}
    return body


def vectors(name, find):
    return [bytes.fromhex(text) for text in find(json.loads((VECTORS / f"{name}.json").read_text()))]


def almost(seeds):
    """One of these, often with a byte changed, cut off or put in."""

    def spoil(seed, how, at, byte):
        at %= len(seed)
        return {
            "as it is": seed,
            "changed": seed[:at] + bytes([byte]) + seed[at + 1 :],
            "cut off": seed[:at],
            "put in": seed[:at] + bytes([byte]) + seed[at:],
        }[how]

    how = st.sampled_from(["as it is", "changed", "cut off", "put in"])
    return st.builds(spoil, st.sampled_from(seeds), how, st.integers(0, 1 << 16), st.integers(0, 255))


def hexes(value):
    """All long hex strings in a file of vectors."""
    if isinstance(value, str):
        return [value] if len(value) > 200 and all(c in "0123456789abcdef" for c in value) else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in hexes(part)]


events = almost(vectors("events", hexes))
changes = st.one_of(almost(vectors("experimental-requests", hexes)), events)
csi = st.one_of(
    st.from_regex(r"tel:\+[1-9][0-9]{6,14}", fullmatch=True), st.from_regex(r"mailto:[a-z]{1,9}@[a-z]{1,9}\.example", fullmatch=True)
)
history = st.builds(lambda c, v: short(c.encode()) + v.to_bytes(4, "big"), csi, st.sampled_from([0, 1, 2**32 - 1]))
imports = st.lists(changes, min_size=1, max_size=5).map(lambda items: b"".join(len(i).to_bytes(4, "big") + i for i in items))
for media_type, strategy in {
    "application/vnd.waymark.change": changes,
    "application/vnd.waymark.event": events,
    "application/vnd.waymark.history": st.one_of(history, st.binary(max_size=300)),
    "application/vnd.waymark.import": st.one_of(imports, st.binary(max_size=300)),
    "application/vnd.waymark.provider": almost(vectors("entries", hexes)),
}.items():
    schemathesis.openapi.media_type(media_type, strategy)
    schemathesis.serializer(media_type)(lambda context, value: value if isinstance(value, bytes) else str(value).encode())
