"""A DP of ours whose only witness is aics-witness.

Proves that an unmodified outside witness cosigns our log from its second entry on, while mappings are issued by the
command line: each checkpoint published carries its valid cosignature and extends the one before, our own clients accept
it, nothing is published while the witness is away, and the witness has kept no evidence against us.

Does not prove that any other witness would, nor anything about policies of several.
"""

import json
import signal
import sys
import time

from aics_tlog import (
    HttpTileReader,
    VerifiedTileReader,
    WitnessPolicy,
    consistency_proof_from_tiles,
    parse_note,
    parse_vkey,
    verify_checkpoint,
    verify_consistency,
)
from aics_witness.protocol import origin_hash

from common import Daemon, call, check, http, until

ORIGIN = "dp.example/log"
PEOPLE = ["+49 151 123 456 42", "+49 151 123 456 43", "someone@mail.example"]


class Log:
    """The DP's log as an outside client follows it: each checkpoint cosigned, each an extension of the last."""

    def __init__(self, url, log_vkey, witness_vkey):
        self.url = url
        self.key, self.policy = parse_vkey(log_vkey), WitnessPolicy(1, (parse_vkey(witness_vkey),), 60)
        self.reader = HttpTileReader(url, proxies={}, timeout=10)
        self.size, self.root = 0, None

    def judge(self, note):
        verdict = verify_checkpoint(parse_note(note), self.key, policy=self.policy, expected_origin=ORIGIN)
        assert verdict.ok and verdict.cosignature_count == 1, verdict
        return verdict

    def follow(self):
        """Reads the checkpoint, checks it against the one before and returns its size."""
        now = self.judge(self.reader.read_checkpoint())
        assert now.size >= self.size, "the log went back"
        if self.size:
            verified = VerifiedTileReader(self.reader, now.size, now.root)
            proof = consistency_proof_from_tiles(verified, self.size, now.size)
            assert verify_consistency(self.size, now.size, self.root, now.root, proof), (self.size, now.size)
        self.size, self.root = now.size, now.root
        return now.size


def run(bins, scratch):
    waymark, waymark_dp = bins / "waymark", bins / "waymark-dp"
    aics = [sys.executable, "-m", "aics_witness"]
    config, dp_dir = scratch / "aics-witness.json", scratch / "dp"
    trust = dp_dir / "trust.toml"

    def serve(listen):
        daemon = Daemon(scratch / "aics-witness.log", *aics, "serve", "-c", config, "--listen", listen)
        said = daemon.said(r"listening on (http://(\S+)) ")
        return daemon, said[1], said[2]

    def provider(domain, *options):
        call(waymark, "msp", "keygen", "--dir", scratch / domain, "--domain", domain, "--origin", ORIGIN, *options)
        call(waymark_dp, "provider", "add", "--dir", dp_dir, scratch / domain / f"{domain}.provider")

    files = ["-c", config, "--db", "aics-witness.db", "--key-file", "aics-witness.key"]
    witness_vkey = call(*aics, "init", *files, "--name", "w1.example").strip()
    witness, witness_url, address = serve("127.0.0.1:0")
    of_dp = ["--domain", "dp.example", "--witness", "w1", witness_vkey, witness_url, "--interval-ms", 200]
    log_vkey = call(waymark_dp, "init", "--dir", dp_dir, *of_dp, "--codes", "folder", "--operations", "127.0.0.1:0").strip()
    call(*aics, "add-log", "-c", config, "--origin", ORIGIN, "--vkey", log_vkey)
    witness.process.send_signal(signal.SIGHUP)
    witness.said(r"reloaded .*: 1 log")
    dp = Daemon(scratch / "dp.log", waymark_dp, "run", "--dir", dp_dir, "--listen", "127.0.0.1:0")
    said = dp.said(r"listening on (http://[^\s,]+), log at (http://\S+)")
    dp_url, log = said[1], Log(said[2], log_vkey, witness_vkey)
    at_dp = ["--dp", dp_url, "--trust", trust]

    def has_provider(domain):
        return domain.encode() in http(f"{dp_url}/v1/providers")[2]

    with check("aics-witness: cosigns our log's first checkpoint"):
        until("a checkpoint", lambda: http(f"{log.url}/checkpoint")[0] == 200)
        log.follow()

    with check("aics-witness: cosigns our log as mappings are issued"):
        provider("chat.example", "--publishes")
        until("the provider to be logged", lambda: has_provider("chat.example"))
        follows = ["--log-url", log.url, "--trust", trust, "--listen", "127.0.0.1:0"]
        msp = Daemon(scratch / "msp.log", waymark, "msp", "serve", "--dir", scratch / "chat.example", *follows)
        msp_url = msp.said(r"listening on (http://\S+)")[1]
        for number, csi in enumerate(PEOPLE):
            app = ["--dir", scratch / f"app{number}"]
            call(waymark, "recipient", "keygen", *app, csi, *at_dp)
            call(waymark, "recipient", "prove", *app, "--codes", dp_dir / "codes")
            to = ["--msp", "chat.example", "--msp-url", msp_url, "--account", f"mimi://chat.example/u/{number}"]
            before = log.size
            call(waymark, "recipient", "issue", *app, *to, "--tag", "default")
            assert log.follow() > before, "issued, and the log has not grown"

    with check("aics-witness: our client counts its cosignature under what it looks up"):
        for csi in PEOPLE:
            call(waymark, "lookup", csi, *at_dp)
        call(waymark, "lookup", "+49 151 999 999 99", *at_dp, code=4)
        status, _, note = http(f"{witness_url}/{origin_hash(ORIGIN)}/checkpoint")
        assert status == 200 and log.judge(note).size == log.follow()

    with check("our log: publishes nothing while aics-witness is away, and goes on when it is back"):
        witness.stop()
        before = log.follow()
        provider("late.example")
        time.sleep(3)
        assert log.follow() == before, "published without a quorum"
        assert not has_provider("late.example")
        serve(address)
        until("the log to go on", lambda: log.follow() > before and has_provider("late.example"), seconds=40)

    with check("aics-witness: has kept no evidence against our log"):
        assert json.loads(call(*aics, "evidence", "-c", config)) == []

    with check("our DP and MSP: end on SIGINT with exit 0, and fsck finds no fault"):
        msp.stop()
        dp.stop()
        call(waymark_dp, "fsck", "--dir", dp_dir)
