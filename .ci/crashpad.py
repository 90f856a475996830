"""Uploads one minidump with a real crashpad_handler and prints the answer that it stored.

usage: crashpad.py HANDLER URL DUMP FOLDER [ATTACHMENT...]

Builds a Crashpad database with one pending report; the handler uploads it at its start and ends when the
other end of its client socket is closed.
"""
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import uuid

handler, url, dump, folder, *attachments = sys.argv[1:]
for name in ("new", "pending", "completed", "attachments"):
    os.makedirs(os.path.join(folder, name))
with open(os.path.join(folder, "settings.dat"), "wb") as settings:
    # Uploads enabled; no attempt yet; a client id.
    settings.write(struct.pack("<4sIIIq16s", b"sdPC", 1, 1, 0, 0, uuid.uuid4().bytes_le))
report = str(uuid.uuid4())
os.makedirs(os.path.join(folder, "attachments", report))
for path in attachments:
    shutil.copy(path, os.path.join(folder, "attachments", report))
shutil.copyfile(dump, os.path.join(folder, "pending", report + ".dmp"))
with open(os.path.join(folder, "pending", report + ".meta"), "wb") as meta:
    meta.write(struct.pack("<iiqqB7x", 1, 0, 0, int(time.time()), 0))

ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
process = subprocess.Popen(
    [handler, "--database=" + folder, "--url=" + url, "--initial-client-fd=%d" % theirs.fileno(),
     "--shared-client-connection", "--no-rate-limit"],
    pass_fds=[theirs.fileno()],
)
theirs.close()
done = os.path.join(folder, "completed", report + ".meta")
deadline = time.time() + 60
while not os.path.exists(done) and time.time() < deadline and process.poll() is None:
    time.sleep(0.02)
ours.close()
process.wait(timeout=60)
with open(done, "rb") as meta:
    data = meta.read()
uploaded, answer = data[24] & 1, data[32:].decode().strip("\0\n")
if not uploaded:
    sys.exit("the handler did not count the upload as a success")
print(answer.splitlines()[0])
