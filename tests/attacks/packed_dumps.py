"""Compressed dumps and nested bodies that expand without limit must affect only their own report."""
import bz2
import gzip
import io
import lzma
import zipfile

from ck import Server, check, failed

MEMORY_KB_MAX = 700 * 1024

server = Server("[http]\ninflated_bytes_max = \"32 MiB\"\n")
zeros = bytes(256 << 20)
out = io.BytesIO()
with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("a.dmp", zeros)
bombs = {
    "gzip": gzip.compress(zeros, 6),
    "bzip2": bz2.compress(zeros),
    "xz": lzma.compress(zeros, preset=1),
    "zip": out.getvalue(),
    "nested": b"--b\r\n" + b"\r\n\r\n--b\r\n" * 200_000,
}
bombs["gzip twice"] = gzip.compress(bombs["gzip"], 6)
ids = []
for name, bomb in bombs.items():
    answer = server.submit({"ProductName": "P", "Bomb": name}, files=[("upload_file_minidump", "x.dmp", bomb)])
    check(isinstance(answer, str), f"{name} is not taken: {answer}")
    ids.append(answer)
server.wait(ids, seconds=120)
check(server.memory_kb() < MEMORY_KB_MAX, f"the server took {server.memory_kb()} KiB")
check(server.is_running() and server.get("/__lbheartbeat__")[0] == 200, "the server does not answer")
taken = server.memory_kb() >> 10
server.stop()
failed(f"every packed dump ended as a report; the server took {taken} MiB")
