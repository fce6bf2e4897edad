"""aics-tlog, an outside verifier of C2SP logs, on the log of a running demo.

Proves, over HTTP and with the outside library's own code: our checkpoint is signed by the log's key and freshly
cosigned by 3 of 4 witnesses; every tile and entry bundle belongs to its root; the entries alone give that root; entries
are included; every checkpoint seen earlier is consistent with it. And that each of these says no when one byte is
changed, so that a yes means something. Last, the first of these by its command line, as a user would.

Does not prove anything about what entries mean, nor that a witness refuses to cosign a fork.
"""

import dataclasses
import json
import sys
import time

from aics_tlog import (
    HttpTileReader,
    MemoryTileReader,
    MerkleTree,
    TileMissingError,
    TileVerificationError,
    VerifiedTileReader,
    WitnessPolicy,
    audit_tiles,
    consistency_proof_from_tiles,
    format_vkey,
    inclusion_proof_from_tiles,
    parse_checkpoint,
    parse_note,
    parse_vkey,
    verify_checkpoint,
    verify_consistency,
    verify_leaf_inclusion,
    vkey_from_ed25519,
)
from aics_tlog.tiles import entry_bundle_path, tile_path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common import call, check, flip, refused

MAX_AGE_S = 600


def stranger(key):
    """Another key under the same name."""
    return vkey_from_ed25519(key.name, Ed25519PrivateKey.generate().public_key(), key_type=key.key_type)


class Keeping:
    """A reader that keeps what it reads, by path."""

    def __init__(self, inner):
        self.inner, self.kept = inner, {}

    def _keep(self, path, data):
        if data is not None:
            self.kept[path] = data
        return data

    def read_tile(self, level, index, width):
        return self._keep(tile_path(level, index, width), self.inner.read_tile(level, index, width))

    def read_entry_bundle(self, index, width):
        return self._keep(entry_bundle_path(index, width), self.inner.read_entry_bundle(index, width))


def run(ready, earlier, scratch):
    """`ready` is what the demo wrote, `earlier` a folder of checkpoints that it published."""
    log_key = parse_vkey(ready["log_vkey"])
    witnesses = tuple(parse_vkey(w["vkey"]) for w in ready["witnesses"])
    policy = WitnessPolicy(quorum=3, witnesses=witnesses, max_age_seconds=MAX_AGE_S)
    reader = HttpTileReader(ready["log_url"], proxies={}, timeout=10)
    raw = reader.read_checkpoint()
    note = parse_note(raw)
    head = parse_checkpoint(note.text)
    size, root = head.size, head.root
    assert size > 256, f"the log has {size} entries only: no tile is full"
    tiles = Keeping(reader)
    edges = sorted({0, 1, 2, 254, 255, 256, 257, size // 2, size - 2, size - 1} & set(range(size)))

    def judge(note, key=log_key, policy=policy, origin=ready["origin"], **kwargs):
        return verify_checkpoint(note, key, policy=policy, expected_origin=origin, **kwargs)

    with check("aics-tlog: checkpoint, signed and freshly cosigned by 3 of 4 witnesses"):
        verdict = judge(note)
        assert verdict.ok, verdict.error
        assert verdict.size == size and verdict.root == root and verdict.cosignature_count >= 3

    with check("aics-tlog: crawl of all tiles and entry bundles"):
        report = audit_tiles(tiles, size, root)
        assert report.bundles == (size + 255) // 256 and report.tiles > report.bundles, report

    verified = VerifiedTileReader(tiles, size, root)
    entries = [verified.entry(i) for i in range(size)]
    tree = MerkleTree(entries)

    with check("aics-tlog: root recomputed from the entries alone"):
        assert tree.root() == root

    with check("aics-tlog: inclusion, first, last and around the tile boundary"):
        for i in edges:
            proof = inclusion_proof_from_tiles(verified, i, size)
            assert verify_leaf_inclusion(entries[i], i, size, proof, root), i
            assert proof == tree.inclusion_proof(i), i

    with check("aics-tlog: consistency of every checkpoint seen while the log grew"):
        last, seen = 0, sorted(earlier.iterdir())
        assert len(seen) >= 3, f"only {len(seen)} were seen"
        for path in seen:
            verdict = judge(parse_note(path.read_bytes()))
            assert verdict.ok, verdict.error
            assert last <= verdict.size <= size, "the log went back"
            last = verdict.size
            proof = consistency_proof_from_tiles(verified, last, size)
            assert verify_consistency(last, size, verdict.root, root, proof), last

    # From here on everything is wrong in one place, and must be refused.

    with check("aics-tlog: refuses a note with any one byte changed"):
        # With every cosignature that is there asked for, so that each line matters.
        names = judge(note).witnesses
        present = WitnessPolicy(len(names), tuple(w for w in witnesses if w.name in names), MAX_AGE_S)
        assert judge(note, policy=present).ok
        for at in range(len(raw)):
            try:
                forged = parse_note(flip(raw, at))
            except ValueError:
                continue
            assert not judge(forged, policy=present).ok, f"byte {at}"

    strangers = tuple(stranger(w) for w in witnesses)

    with check("aics-tlog: refuses witnesses that it does not know, and too few that it knows"):
        for known in (0, 2):
            verdict = judge(note, policy=dataclasses.replace(policy, witnesses=witnesses[:known] + strangers[known:]))
            assert verdict.log_ok and not verdict.ok and verdict.cosignature_count <= known

    with check("aics-tlog: refuses another log key, another origin, and a stale checkpoint"):
        assert not judge(note, key=stranger(log_key)).ok
        assert not judge(note, origin="other.example/log").ok
        verdict = judge(note, now=int(time.time()) + MAX_AGE_S + 2)
        assert not verdict.ok and len(verdict.stale) >= 3

    with check("aics-tlog: refuses each tile and entry bundle with one byte changed, or missing"):
        kept = dict(tiles.kept)
        audit_tiles(MemoryTileReader(kept), size, root)
        for path, data in kept.items():
            for at in (0, len(data) // 2, len(data) - 1):
                refused(TileVerificationError, audit_tiles, MemoryTileReader(kept | {path: flip(data, at)}), size, root)
            without = {other: kept[other] for other in kept if other != path}
            refused(TileMissingError, audit_tiles, MemoryTileReader(without), size, root)

    with check("aics-tlog: refuses an entry, an index or an inclusion proof that is changed"):
        for i in edges:
            entry, proof = entries[i], tree.inclusion_proof(i)
            changed = [proof[:at] + [flip(hash_, at)] + proof[at + 1 :] for at, hash_ in enumerate(proof)]
            for wrong in [*changed, proof[:-1], proof + [root]]:
                assert not verify_leaf_inclusion(entry, i, size, wrong, root), i
            for at in range(len(entry)):
                assert not verify_leaf_inclusion(flip(entry, at), i, size, proof, root), i
            assert not verify_leaf_inclusion(entry, i ^ 1, size, proof, root), i
            assert not verify_leaf_inclusion(entry, i, size, proof, flip(root, 31)), i

    with check("aics-tlog: refuses a consistency proof or an old root that is changed"):
        for old in edges[1:]:
            old_root, proof = tree.root(old), tree.consistency_proof(old)
            assert verify_consistency(old, size, old_root, root, proof), old
            changed = [proof[:at] + [flip(hash_, at)] + proof[at + 1 :] for at, hash_ in enumerate(proof)]
            for wrong in [*changed, proof[:-1]]:
                assert not verify_consistency(old, size, old_root, root, wrong), old
            for wrong in (flip(old_root, 0), tree.root(old - 1)):
                assert not verify_consistency(old, size, wrong, root, proof), old

    with check("aics-tlog: its command line accepts the checkpoint, and refuses it with unknown witnesses"):
        key_file, policy_file = scratch / "log.vkey", scratch / "policy.json"
        key_file.write_text(ready["log_vkey"] + "\n")
        program = [sys.executable, "-m", "aics_tlog", "verify-checkpoint", "--tiles", ready["log_url"]]
        options = ["--vkey-file", key_file, "--policy-file", policy_file, "--origin", ready["origin"]]
        for keys, code in ((witnesses, 0), (strangers, 1)):
            document = {"quorum": 3, "witnesses": [format_vkey(k) for k in keys], "max_checkpoint_age": MAX_AGE_S}
            policy_file.write_text(json.dumps(document))
            verdict = json.loads(call(*program, *options, code=code))
            assert verdict["ok"] == (code == 0), verdict
