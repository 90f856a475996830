"""In a data directory that other users may enter, no file may be readable by them."""
import gzip
import os

from ck import DUMP, FIXTURES, Server, check, failed, folder

os.umask(0o022)
data = os.path.join(folder(), "data")
os.makedirs(data, 0o755)
s = Server(data=data)
for packed in (FIXTURES / "symbols/acmed").glob("*/acmed.sym.gz"):
    status = s.ask("PUT", "/upload/acmed.sym", {"Auth-Token": s.key}, gzip.decompress(packed.read_bytes()))[0]
    check(status < 300, f"the symbols were not taken: {status}")
s.wait([s.submit({"ProductName": "A", "Version": "1", "Comments": "my password"}, DUMP)])
s.wait_found("product=A", 1)
check(os.listdir(data + "/symbols-mapped"), "no symbols were used")
readable = []
for place, folders, files in os.walk(data):
    paths = [os.path.join(place, name) for name in folders + files]
    readable += [path for path in paths if os.lstat(path).st_mode & 0o077]
s.stop()
check(not readable, f"others may read {readable[:5]}")
failed("nothing is readable by others")
