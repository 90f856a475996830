"""A valid zip with more than 2,109 entries must be accepted. Its directory used to be counted many times."""
import io
import zipfile

from ck import Server, check, failed

SYMBOLS = b"MODULE Linux x86_64 ABCDEF0123456789ABCDEF01234567890 f.so\nFUNC 1000 10 0 f\n1000 10 1 1\n"


def zip_of(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(entries - 1):
            archive.writestr(f"{number}-symbols.txt", b"x")
        archive.writestr("f.so/ABCDEF0123456789ABCDEF01234567890/f.so.sym", SYMBOLS)
    return out.getvalue()


server = Server()
token = {"Auth-Token": server.key} if server.key else {}
for entries, expected in ((2_125, 201), (10_000, 201), (10_001, 400)):
    status, _, body = server.ask("PUT", "/upload/a.zip", token, zip_of(entries))
    check(status == expected, f"{entries} entries: status {status} instead of {expected}: {body[:200]}")
server.stop()
failed("zips of up to 10,000 entries are taken, larger ones are refused")
