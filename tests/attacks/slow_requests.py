"""One address opens all connections: first silent ones, then ones that send their body slowly."""
import resource
import socket
import time

from ck import DUMP, Server, check, failed

resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
# Systemd and shells start servers with a limit of 1,024 file descriptors.
server = Server(wrap=["sh", "-c", 'ulimit -Sn 1024; exec "$@"', "sh"])
DRIP = (b"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        b'Content-Length: 100000000\r\n\r\n--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n')


def honest(count):
    """Sends this many reports. Returns how many were accepted."""
    taken = 0
    for number in range(count):
        try:
            taken += isinstance(server.submit({"ProductName": "A", "Version": "1"}, DUMP, timeout=10), str)
        except OSError:
            pass
    return taken


def open_connections(count, first_bytes):
    held = []
    for _ in range(count):
        try:
            connection = server.connect()
            connection.sendall(first_bytes)
            held.append(connection)
        except OSError:
            pass
    return held


silent = open_connections(2300, b"")
taken = honest(10)
check(taken > 5, f"beside silent connections {taken} of 10 honest reports got in")
for connection in silent:
    connection.close()

dripping = open_connections(2300, DRIP)
end = time.time() + 8
taken = tried = 0
while time.time() < end:
    for connection in dripping:
        try:
            connection.send(b"A" * 1100)
        except OSError:
            pass
    tried += 5
    taken += honest(5)
    time.sleep(0.5)
# On a busy machine an honest client may be too slow itself, and is closed like the others. It sends again later.
check(taken * 2 > tried, f"beside dripping bodies {taken} of {tried} honest reports got in")
metrics = server.get("/metrics")[2].decode()
check("crashkeep_connections_closed_total 0\n" not in metrics, "nobody counted the closed connections")
check(b"too many connections" in open(server.log_path, "rb").read(), "nobody warned")
for connection in dripping:
    connection.close()

# More uploads of symbols than the server permits, all of them slow.
uploads = []
head = f"PUT /upload/a.sym HTTP/1.1\r\nHost: x\r\nAuth-Token: {server.key}\r\nContent-Length: 100000000\r\n\r\nMODULE "
for _ in range(20):
    connection = server.connect()
    connection.sendall(head.encode())
    uploads.append(connection)
time.sleep(1.5)
symbols = b"MODULE Linux x86_64 0123456789ABCDEF0123456789ABCDEF0 x\nPUBLIC 1000 0 f\n"
status, _, answer = server.ask("PUT", "/upload/x.sym", {"Auth-Token": server.key}, symbols)
check(status in (200, 201), f"beside dripping uploads an honest one is answered {status} {answer[:200]}")
server.stop()
failed(f"honest requests got in ({taken} of {tried} beside dripping ones)")
