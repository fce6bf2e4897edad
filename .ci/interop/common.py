"""What the interop checks share: one line a check, programs that are stopped again, waiting with a bound.

Proves nothing by itself.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request

_counts = {"ok": 0, "FAILED": 0}
# What is to be stopped when the run leaves this block, and it leaves it when it is told to stop.
daemons = contextlib.ExitStack()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def tell(name, fault=None):
    """Counts a check and prints its line."""
    if isinstance(fault, Exception):
        traceback.print_exception(fault)
    elif fault:
        print(fault, file=sys.stderr)
    verdict = "FAILED" if fault else "ok"
    _counts[verdict] += 1
    print(f"interop: {name}: {verdict}", flush=True)


@contextlib.contextmanager
def check(name):
    """Runs a block as one check: it passes unless something is raised."""
    try:
        yield
    except Exception as e:
        tell(name, e)
    else:
        tell(name)


def failed():
    return _counts["FAILED"]


def summary():
    """Prints the counts and returns the exit code."""
    print(f"interop checks: {_counts['ok']} passed, {_counts['FAILED']} failed", flush=True)
    return 1 if failed() else 0


def refused(error, call, *args):
    """Requires that a call raises this error, and no other."""
    try:
        result = call(*args)
    except error:
        return
    raise AssertionError(f"accepted, and must not be: {call.__name__} returned {result!r}")


def flip(data, at):
    """The same bytes, one of them changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http(url, body=None):
    """GET, or POST if there is a body: status, media type, body."""
    try:
        with _http.open(urllib.request.Request(url, data=body), timeout=10) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.headers.get_content_type(), e.read()


def until(what, is_so, seconds=20):
    """Waits for something and returns it; fails when the time is up."""
    deadline = time.monotonic() + seconds
    while not (found := is_so()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.05)
    return found


def call(*command, seconds=30, code=0, **kwargs):
    """Runs a program to its end, which must be with this exit code, and returns its stdout."""
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, **kwargs)
    assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Daemon:
    """A program in the background, its stdout and stderr in one file. `daemons` kills it unless it was stopped."""

    def __init__(self, log, *command):
        self.log, self.name = log, os.path.basename(command[0])
        with open(log, "ab") as out:
            self._from = out.tell()
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        daemons.callback(self._kill)

    def _kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def output(self):
        """What it has said since it was started."""
        with open(self.log, "rb") as out:
            out.seek(self._from)
            return out.read().decode(errors="replace")

    def until(self, what, is_so):
        """Waits for something that this program brings about."""

        def look():
            found = is_so()
            assert found or self.process.poll() is None, f"{self.name} ended with {self.process.returncode}"
            return found

        return until(f"{self.name}: {what}", look)

    def said(self, pattern):
        """Waits until it has said something, and returns the match."""
        return self.until(pattern, lambda: re.search(pattern, self.output(), re.M))

    def stop(self):
        """Interrupts it and requires that it ends well."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(20)
        assert code == 0, f"{self.name} ended with {code} after SIGINT"
