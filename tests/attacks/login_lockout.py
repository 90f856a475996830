"""Requests of one client must not prevent logins through the same proxy, and guesses of tokens must be limited."""
import time

from ck import Server, check, failed

for config in ("", '[http]\ntrusted_proxies = "127.0.0.1"\n'):
    server = Server(config)
    admin = server.account("adm", "admin")
    visitor = {"X-Forwarded-For": "203.0.113.9", "Host": "crashes.example.org"}
    for _ in range(150):
        server.get("/search/", **visitor)
        server.get("/login/", **visitor)
    other = {"X-Forwarded-For": "198.51.100.7", "Host": "crashes.example.org"}
    status = server.get("/login/", **other)[0]
    check(status == 200, f"the form is not shown: {status}")
    status = server.form("/login/", {"token": admin, "next": "/"}, **other)[0]
    check(status == 303, f"a right token is answered {status} ({config!r})")
    if time.gmtime().tm_sec > 50:
        time.sleep(61 - time.gmtime().tm_sec)
    statuses = [server.get("/api/SuperSearch/", f"{n:032x}", **visitor)[0] for n in range(60)]
    check(429 in statuses, "60 wrong tokens in a row, and all were looked up")
    status = server.get("/api/SuperSearch/", admin, **visitor)[0]
    check(status == 200, f"a token that was right before is answered {status}")
    server.stop()
failed("visitors keep nobody out; wrong tokens are bounded")
