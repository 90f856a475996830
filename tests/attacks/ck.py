"""Shared code of the attacks: a server on a fresh directory, requests to it, and a verdict.

An attack ends with failed(why) if the server withstood it, and with worked(why) if it did not.
"""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
PROGRAM = os.path.abspath(os.environ.get("CRASHKEEP", PROJECT / "target/release/crashkeep"))
FIXTURES = PROJECT / "tests/fixtures"
DUMP = FIXTURES / "dumps/linux-x86_64-acmed_null_read.dmp"
FORM = "application/x-www-form-urlencoded"

_folders = []


def folder():
    """Returns a new folder, which is deleted when the attack ends."""
    path = tempfile.mkdtemp(prefix="attack-")
    _folders.append(path)
    return path


def _end(code, verdict, why):
    for path in _folders:
        shutil.rmtree(path, ignore_errors=True)
    print(f"{verdict}: {why}")
    sys.exit(code)


def failed(why):
    _end(0, "withstood", why)


def worked(why):
    _end(1, "THE ATTACK WORKED", why)


def check(is_withstood, why):
    """Continues if the server withstood a step. Otherwise ends the attack with worked(why)."""
    if not is_withstood:
        worked(why)


def cli(data, *arguments):
    """Runs a command on a data directory. Returns exit code, output, and errors."""
    done = subprocess.run([PROGRAM, *arguments, "--data", data], capture_output=True, text=True,
                          cwd=os.path.dirname(data))
    return done.returncode, done.stdout.strip(), done.stderr.strip()


class Server:
    """A server on `data`, or on a fresh directory. `key` is its local key; None if it has none."""

    def __init__(self, config="", data=None, arguments=(), wrap=(), env=None):
        place = folder()
        self.data = data or os.path.join(place, "data")
        file = os.path.join(place, "appliance.toml")
        pathlib.Path(file).write_text(config)
        self.log = open(os.path.join(place, "log"), "wb")
        self.log_path = self.log.name
        self.process = subprocess.Popen(
            [*wrap, PROGRAM, "serve", "--data", self.data, "--listen", "127.0.0.1:0", "--config", file, *arguments],
            stdout=subprocess.PIPE, stderr=self.log, env={**os.environ, **(env or {})}, cwd=place)
        self.first = self.process.stdout.readline().decode()
        found = re.search(r"http://[\d.]+:(\d+)", self.first)
        self.port = int(found.group(1)) if found else None
        file = os.path.join(self.data, "local-key")
        self.key = pathlib.Path(file).read_text().strip() if os.path.exists(file) else None

    def ask(self, method, path, headers=None, body=None, timeout=60):
        """Sends a request. Returns the status, the headers with lower-case names, and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, read

    def get(self, path, token=None, timeout=60, **headers):
        if token:
            headers["Auth-Token"] = token
        return self.ask("GET", path, headers, timeout=timeout)

    def form(self, path, fields, token=None, **headers):
        headers["Content-Type"] = FORM
        if token:
            headers["Auth-Token"] = token
        return self.ask("POST", path, headers, urllib.parse.urlencode(fields))

    def submit(self, annotations, dump=None, files=(), timeout=60):
        """Posts a report. Returns the crash id, or status and body. `files` are (name, file name, bytes)."""
        boundary = "-----attack"
        body = b""
        for key, value in annotations.items():
            value = value.encode() if isinstance(value, str) else value
            body += f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n'.encode() + value + b"\r\n"
        files = list(files)
        if dump:
            files.append(("upload_file_minidump", "x.dmp", pathlib.Path(dump).read_bytes()))
        for name, file_name, content in files:
            body += (f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\n'
                     "Content-Type: application/octet-stream\r\n\r\n").encode() + content + b"\r\n"
        body += f"--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        status, _, answer = self.ask("POST", "/submit", kind, body, timeout=timeout)
        found = re.search(rb"CrashID=bp-(\S+)", answer)
        return found.group(1).decode() if found else (status, answer)

    def wait(self, ids, token=None, seconds=60):
        """Waits until all crashes are processed."""
        end = time.time() + seconds
        for crash in ids:
            while True:
                status, _, answer = self.get(f"/api/CrashState/?crash_id={crash}", token or self.key)
                if status == 200 and json.loads(answer)["state"] in ("processed", "failed"):
                    break
                if time.time() > end:
                    worked(f"{crash} is not processed after {seconds} s")
                time.sleep(0.1)

    def wait_found(self, query, count, token=None, seconds=60):
        """Waits until a search finds this many crashes."""
        end = time.time() + seconds
        while True:
            status, _, answer = self.get(f"/api/SuperSearch/?{query}", token or self.key)
            if status == 200 and json.loads(answer)["total"] == count:
                return
            if time.time() > end:
                worked(f"{query} finds {answer[:200]} after {seconds} s, not {count}")
            time.sleep(0.1)

    def account(self, name, role):
        """Creates an account while the server runs. Returns a token of it."""
        check(cli(self.data, "user", "add", name, "--role", role)[0] == 0, f"no account {name}")
        return cli(self.data, "token", "create", "--user", name)[1]

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def memory_kb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1))

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def is_running(self):
        return self.process.poll() is None

    def stop(self):
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode
