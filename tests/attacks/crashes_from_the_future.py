"""Crashes that were received while the clock was ahead must not stop retention for the others."""
import http.client
import json
import os
import re
import threading
import time

from ck import Server, check, failed, folder

LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
if not os.path.exists(LIBRARY):
    failed("not tried: faketime is not installed")
BODY = b'--x\r\nContent-Disposition: form-data; name="ProductName"\r\n\r\nA\r\n--x--\r\n'


def start(data, offset):
    env = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME": offset, "LD_PRELOAD": LIBRARY}
    return Server("[retention]\nprocessed_days = 30\n", data=data, env=env)


def metric(s, name):
    return int(re.search(r"^crashkeep_%s (\d+)" % name, s.get("/metrics")[2].decode(), re.M).group(1))


def fill(s, count):
    def some():
        connection = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60)
        for _ in range(count // 4):
            connection.request("POST", "/submit", BODY, {"Content-Type": "multipart/form-data; boundary=x"})
            connection.getresponse().read()
    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while metric(s, "queued") or metric(s, "processing"):
        time.sleep(0.2)


data = os.path.join(folder(), "data")
for offset, count in (("+1y", 1000), ("+0", 200)):
    s = start(data, offset)
    fill(s, count)
    s.stop()
s = start(data, "+100d")
# A jump of a hundred days needs confirmation by a person.
for _ in range(300):
    if json.loads(s.get("/__heartbeat__")[2]).get("warnings"):
        break
    time.sleep(0.1)
s.form("/status/retention", {}, s.key)
for _ in range(300):
    if metric(s, "processed") <= 1000:
        break
    time.sleep(0.1)
left = metric(s, "processed")
s.stop()
check(left == 1000, f"{left} crashes are left, not the 1,000 of the future alone")
failed("the 200 old crashes are deleted, the 1,000 of the future stay")
