"""A DP of ours whose codes go to aiosmtpd, an SMTP server that others wrote.

Proves that the server takes our mail as it is, that Python's own parser reads it, that fetching its link changes nothing,
that the link's POST approves the app that asked, which our command line then collects, and that the code in the next mail
works as well. An address that the server refuses is answered like any other. An independent prover of ours speaks STARTTLS
with it, and says nothing to a server whose certificate is by another authority.

Does not prove that a mail provider would not call it spam.
"""

import datetime
import email
import email.policy
import ipaddress
import json
import logging
import re
import socket
import ssl
import subprocess
import urllib.request

from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common import Daemon, call, check, http, until

ORIGIN = "dp.example/log"
ANN, NOBODY = "ann.smith+x@mail.example", "nobody@mail.example"
CODES = """
[codes]
email = "smtp"
[codes.smtp]
host = "127.0.0.1"
port = {port}
security = "none"
from = "codes@dp.example"
"""


class Mailbox:
    """Takes mail for everybody but one, and keeps it."""

    def __init__(self):
        self.mails, self.refused = [], 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == NOBODY:
            self.refused += 1
            return f"550 no such mailbox {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.content))
        return "250 taken"

    def next(self):
        """The next mail: sender, recipients, and the message as Python's parser reads it."""
        until("a mail", lambda: self.mails)
        sender, recipients, content = self.mails.pop(0)
        return sender, recipients, email.message_from_bytes(content, policy=email.policy.default)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_dp(bins, scratch, port):
    """A DP with one witness of ours, its codes by mail: its daemon, its URL, its trust file."""
    waymark_dp, waymark_witness = bins / "waymark-dp", bins / "waymark-witness"
    witness_dir, dp_dir = scratch / "smtp-witness", scratch / "smtp-dp"
    listen = f"127.0.0.1:{free_port()}"
    witness = call(waymark_witness, "init", "--dir", witness_dir, "--name", "w1.example", "--listen", listen).strip()
    of_dp = ["--domain", "dp.example", "--witness", "w1", witness, f"http://{listen}", "--interval-ms", 200]
    log_vkey = call(waymark_dp, "init", "--dir", dp_dir, *of_dp).strip()
    call(waymark_witness, "log", "add", "--dir", witness_dir, log_vkey)
    Daemon(scratch / "smtp-witness.log", waymark_witness, "run", "--dir", witness_dir)
    config = dp_dir / "dp.toml"
    text, found = re.subn(r"(?m)^codes = .*\n", "", config.read_text())
    assert found == 1, text
    config.write_text(text + CODES.format(port=port))
    call(waymark_dp, "config", "propose", "--dir", dp_dir)
    call(waymark_dp, "config", "apply", "--dir", dp_dir)
    assert "email by smtp" in call(waymark_dp, "check-config", "--dir", dp_dir)
    dp = Daemon(scratch / "smtp-dp.log", waymark_dp, "run", "--dir", dp_dir, "--listen", "127.0.0.1:0")
    url = dp.said(r"listening on (http://[^\s,]+), log at")[1]
    until("a checkpoint", lambda: http(f"{url}/log/checkpoint")[0] == 200)
    return dp, url, dp_dir / "trust.toml"


def new_app(bins, folder, csi, url, trust):
    call(bins / "waymark", "recipient", "keygen", "--dir", folder, csi, "--dp", url, "--trust", trust)
    return ["recipient", "prove", "--dir", folder]


def post(url, value):
    """POST of JSON, since `http` of the other checks names no media type."""
    request = urllib.request.Request(url, json.dumps(value).encode(), {"content-type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return answer.status, json.loads(answer.read())


def certificate(folder):
    """A self-signed certificate for 127.0.0.1 that is its own authority: the files with it and with its key."""
    folder.mkdir()
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay.example")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = builder.add_extension(x509.SubjectAlternativeName([address]), False).sign(key, hashes.SHA256())
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


def start_prover(bins, folder, port, ca):
    """A prover whose relay speaks STARTTLS with a certificate by this authority: its daemon and its URL."""
    waymark = bins / "waymark"
    call(waymark, "prover", "keygen", "--dir", folder, "--domain", "prover.example", "--origin", ORIGIN)
    config = folder / "prover.toml"
    text = CODES.format(port=port).replace('"none"', f'"starttls"\nca_file = "{ca}"')
    config.write_text(re.sub(r"(?m)^codes = .*\n", "", config.read_text()) + text)
    log = folder.with_suffix(".log")
    prover = Daemon(log, waymark, "prover", "serve", "--dir", folder, "--listen", "127.0.0.1:0")
    return prover, prover.said(r"listening on (http://\S+)")[1]


def enter_code(command, mailbox):
    """Runs an app that asks for a code and types the one of the next mail: what it said."""
    pipe = subprocess.PIPE
    words = [str(word) for word in command]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as app:
        code = re.search(r"(?m)^\s+(\d{6})\s*$", mailbox.next()[2].get_content())[1]
        said, _ = app.communicate(f"{code}\n", timeout=20)
    assert app.returncode == 0, said
    return said


def run(bins, scratch):
    mailbox, port = Mailbox(), free_port()
    server = Controller(mailbox, hostname="127.0.0.1", port=port)
    server.start()
    try:
        check_mail(bins, scratch, mailbox, port)
    finally:
        server.stop()


def check_mail(bins, scratch, mailbox, port):
    dp, url, trust = start_dp(bins, scratch, port)
    prove = new_app(bins, scratch / "smtp-ann", ANN, url, trust)
    waiting = Daemon(scratch / "smtp-app.log", bins / "waymark", *prove, "--link")
    with check("aiosmtpd: takes our mail, and Python's parser reads it"):
        sender, recipients, mail = mailbox.next()
        assert (sender, recipients) == ("codes@dp.example", [ANN]), (sender, recipients)
        assert mail["to"].addresses[0].addr_spec == ANN and mail["from"].addresses[0].addr_spec == sender
        assert mail["auto-submitted"] == "auto-generated" and mail["date"].datetime and not mail.defects
        text = mail.get_content()
        assert "dp.example" in text and "Do not share" in text and text.count("://") == 1, text
    with check("aiosmtpd: fetching the link of a mail changes nothing"):
        link, challenge, secret = re.search(r"(http://\S+/confirm)#([0-9a-f]{32})\.([0-9a-f]{32})\s", text).groups()
        reference = waiting.said(r"reference ([0-9a-f]{6})")[1]
        assert challenge.startswith(reference) and reference in text.replace(challenge, "")
        for path in ("", ".js", ".css"):
            status, _, body = http(link + path)
            assert status == 200 and secret.encode() not in body
        assert waiting.process.poll() is None, "the app has gone on without anybody's doing"
    with check("aiosmtpd: the link's POST approves the app that asked, once"):
        confirm = f"{url}/v1/challenges/{challenge}/confirm"
        assert post(confirm, {"secret": secret}) == (200, {"status": "approved"})
        assert waiting.process.wait(20) == 0, waiting.output()
        assert "attested by dp.example" in waiting.output() and ANN not in waiting.output()
        assert (scratch / "smtp-ann" / "attestation").exists()
    with check("aiosmtpd: the code of the next mail works as well"):
        assert "attested by dp.example" in enter_code([bins / "waymark", *prove], mailbox)
    with check("aiosmtpd: an address that it refuses is answered like any other, and named in no log"):
        to_nobody = new_app(bins, scratch / "smtp-nobody", NOBODY, url, trust)
        # No code is entered, so it ends with 1: after the challenge was started.
        call(bins / "waymark", *to_nobody, code=1, stdin=subprocess.DEVNULL)
        until("the server to refuse", lambda: mailbox.refused)
        dp.said(r"the relay refuses the mail")
        assert mailbox.refused == 1 and not mailbox.mails
        for canary in (NOBODY, ANN, secret, challenge):
            assert canary not in dp.output(), canary
    check_starttls(bins, scratch, [bins / "waymark", *prove, "--prover"])
    with check("our DP: ends on SIGINT with exit 0 after mail"):
        dp.stop()


def check_starttls(bins, scratch, prove_at):
    (cert, key), (other, _) = certificate(scratch / "relay"), certificate(scratch / "other-relay")
    # The second check makes it fail; its traceback would look like a fault of ours.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    mailbox, port = Mailbox(), free_port()
    server = Controller(mailbox, hostname="127.0.0.1", port=port, tls_context=tls, require_starttls=True)
    server.start()
    try:
        with check("aiosmtpd: takes a prover's mail over STARTTLS, and its code works"):
            prover, url = start_prover(bins, scratch / "smtp-prover", port, cert)
            assert "attested by prover.example" in enter_code([*prove_at, url], mailbox)
            prover.stop()
        with check("aiosmtpd: gets no mail where its certificate is by another authority"):
            prover, url = start_prover(bins, scratch / "smtp-wary-prover", port, other)
            call(*prove_at, url, code=1, stdin=subprocess.DEVNULL)
            # It is tried again, as after any fault of a connection: an operator may mend the certificate meanwhile.
            prover.said(r"a code was put off and is tried again")
            assert not mailbox.mails
            prover.stop()
    finally:
        server.stop()
