"""Our witness on a log that is not ours: aics-tlog grows it, writes the requests and reads the answers.

Proves that waymark-witness gives valid cosignatures to growth and refresh, serves what it cosigned last, answers each
wrong request with the status that C2SP tlog-witness gives to it (and that aics-witness gives to the same requests), is
moved by none of them, and remembers over a restart.

Does not prove what happens when the machine loses power, nor anything about load.
"""

import sys

from aics_tlog import (
    Checkpoint,
    MerkleTree,
    Note,
    WitnessPolicy,
    format_vkey,
    parse_checkpoint,
    parse_note,
    parse_vkey,
    sign_checkpoint,
    verify_checkpoint,
    vkey_from_ed25519,
)
from aics_witness.protocol import format_add_checkpoint_request, origin_hash, parse_signature_lines, parse_size_body
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common import Daemon, call, check, flip, http

ORIGIN = "outside.example/log"
SIZES = [1, 2, 5, 255, 256, 257, 1000]
KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
LOG_KEY = vkey_from_ed25519(ORIGIN, KEY.public_key())
TREE = MerkleTree(b"entry %d" % i for i in range(1500))
FORK = MerkleTree(b"entry %d" % i if i != 7 else b"another" for i in range(1500))


def signed(tree, size, key=KEY, origin=ORIGIN):
    return sign_checkpoint(Checkpoint(origin, size, tree.root(size)), key, origin)


def request(old, note, proof):
    return format_add_checkpoint_request(old, proof, note.to_bytes())


def growth(tree, old, size):
    """The request that grows the log from one size to another."""
    return request(old, signed(tree, size), tree.consistency_proof(old, size) if 0 < old < size else [])


def wrong_requests(now):
    """Every request that a witness at this size must refuse: what, body, status."""
    good, proof = signed(TREE, 1200), TREE.consistency_proof(now, 1200)
    line = good.signatures[0]
    bad_line = type(line)(name=line.name, key_id=line.key_id, signature=flip(line.signature, 9))
    return [
        ("a fork that is longer", growth(FORK, now, 1200), 422),
        ("a fork of the same size", growth(FORK, now, now), 422),
        ("a changed proof", request(now, good, [flip(proof[0], 0), *proof[1:]]), 422),
        ("no proof", request(now, good, []), 422),
        ("a proof at the same size", request(now, signed(TREE, now), proof), 422),
        ("a stale old size", growth(TREE, 257, 1200), 409),
        ("an old size of 0", growth(TREE, 0, 1200), 409),
        ("an old size that it never saw", growth(TREE, 1100, 1200), 409),
        ("a smaller tree", growth(TREE, 257, 257), 409),
        ("an unknown log", request(0, signed(TREE, 5, origin="unknown.example/log"), []), 404),
        ("another key under the same name", request(now, signed(TREE, 1200, key=OTHER_KEY), proof), 403),
        ("a bad signature", request(now, Note(good.text, (bad_line,)), proof), 403),
        ("an old size beyond the checkpoint", request(1200, signed(TREE, 1100), []), 400),
        ("no checkpoint", b"old 1000\n\n", 400),
        ("an old size with leading zeros", growth(TREE, now, 1200).replace(b"old ", b"old 0"), 400),
    ]


class Witness:
    """A running witness of either kind."""

    def __init__(self, daemon, url, vkey):
        self.daemon, self.url, self.policy = daemon, url, WitnessPolicy(1, (parse_vkey(vkey),), 60)

    def add(self, body):
        return http(f"{self.url}/add-checkpoint", body)

    def judge(self, note):
        verdict = verify_checkpoint(note, LOG_KEY, policy=self.policy, expected_origin=ORIGIN)
        assert verdict.ok and verdict.cosignature_count == 1, verdict

    def latest_size(self):
        """The size of what it says it cosigned last, as a note that meets a policy of this witness alone."""
        status, _, body = http(f"{self.url}/{origin_hash(ORIGIN)}/checkpoint")
        assert status == 200, (status, body)
        note = parse_note(body)
        self.judge(note)
        return parse_checkpoint(note.text).size

    def grow(self, old, size):
        status, _, body = self.add(growth(TREE, old, size))
        assert status == 200, (status, body)
        note = signed(TREE, size)
        self.judge(Note(note.text, note.signatures + tuple(parse_signature_lines(body.decode()))))
        assert self.latest_size() == size

    def refuses(self, now):
        for what, body, expected in wrong_requests(now):
            status, media_type, answer = self.add(body)
            assert status == expected, f"{what}: {status} instead of {expected}: {answer}"
            if status == 409:
                assert media_type == "text/x.tlog.size" and parse_size_body(answer) == now, (what, media_type, answer)
        assert self.latest_size() == now, "a refused request moved it"


def run(bins, scratch):
    ours, theirs = scratch / "our-witness", scratch / "their-witness.json"
    program, log_vkey = bins / "waymark-witness", format_vkey(LOG_KEY)
    call(program, "init", "--dir", ours, "--name", "witness.example", "--operations", "127.0.0.1:0")
    call(program, "log", "add", "--dir", ours, log_vkey)

    def start():
        daemon = Daemon(scratch / "our-witness.log", program, "run", "--dir", ours, "--listen", "127.0.0.1:0")
        line = daemon.said(r"^witness witness\.example (\S+) (http://\S+)$")
        return Witness(daemon, line[2], line[1])

    aics = [sys.executable, "-m", "aics_witness"]
    files = ["-c", theirs, "--db", "their-witness.db", "--key-file", "their-witness.key"]
    their_vkey = call(*aics, "init", *files, "--name", "their.example").strip()
    call(*aics, "add-log", "-c", theirs, "--origin", ORIGIN, "--vkey", log_vkey)

    witness = start()
    with check("our witness: cosigns the growth of an outside log, and a refresh"):
        assert http(f"{witness.url}/{origin_hash(ORIGIN)}/checkpoint")[0] == 404
        for old, size in zip([0, *SIZES], [*SIZES, SIZES[-1]]):
            witness.grow(old, size)
    with check("our witness: refuses forks, stale sizes, unknown logs and bad signatures, each with its status"):
        witness.refuses(SIZES[-1])
    with check("our witness: ends on SIGINT with exit 0"):
        witness.daemon.stop()

    witness = start()
    with check("our witness: remembers over a restart"):
        assert witness.latest_size() == SIZES[-1]
        witness.refuses(SIZES[-1])
        witness.grow(SIZES[-1], 1500)

    daemon = Daemon(scratch / "their-witness.log", *aics, "serve", "-c", theirs, "--listen", "127.0.0.1:0")
    with check("our witness: aics-witness gives the same statuses to the same requests"):
        url = daemon.said(r"listening on (http://\S+)")[1]
        witness = Witness(daemon, url, their_vkey)
        for old, size in zip([0, *SIZES], SIZES):
            witness.grow(old, size)
        witness.refuses(SIZES[-1])
