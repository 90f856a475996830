"""Requests with many regular expressions, as parameters or in the search box, must be refused at low cost."""
import threading
import urllib.parse

from ck import Server, check, failed

s = Server("[access]\nrequests_per_minute = 100000\nanonymous_per_minute = 100000\n")
s.wait([s.submit({"ProductName": "A", "Version": "1", "Comments": "word"}) for _ in range(10)])


def quote(text):
    return urllib.parse.quote(text, safe="@")


same = "+".join([quote("sig@\\w{16}")] * 1850)
different = "&".join("signature=" + quote("@\\w{%d}" % n) for n in range(9, 450))
requests = {
    "in the search box": "/api/SuperSearch/?q=" + same,
    "different ones in the search box": "/api/SuperSearch/?q=" + "+".join(quote("sig@\\w{%d}" % n) for n in range(9, 400)),
    "as parameters": "/api/SuperSearch/?" + different,
    "wildcards": "/api/SuperSearch/?" + "&".join("signature=" + quote("~*a%d*b" % n) for n in range(450)),
    "as parameters of the page": "/search/?" + different,
    "in the box of the page": "/search/?q=" + same,
}
before = s.memory_kb()
for name, path in requests.items():
    was = s.processor_seconds()
    status = s.get(path, s.key)[0]
    took = s.processor_seconds() - was
    check(took < 2, f"{name}: {took:.1f} s of the processor")
    check(status == 400 or path.startswith("/search/"), f"{name}: status {status}")
# Equal patterns are compiled only once.
path = "/api/SuperSearch/?" + "&".join(["signature=" + quote("@\\w{16}")] * 490)
threads = [threading.Thread(target=lambda: s.get(path, s.key)) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
grown = (s.memory_kb() - before) // 1024
is_alive = s.is_running() and s.get("/__lbheartbeat__")[0] == 200
s.stop()
check(is_alive and grown < 300, f"the server grew by {grown} MiB, alive: {is_alive}")
failed(f"refused, and the server grew by {grown} MiB")
