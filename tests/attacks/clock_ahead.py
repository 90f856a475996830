"""A clock that is years ahead must not make retention delete everything."""
import json
import os
import re
import time

from ck import Server, check, failed, folder

LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
if not os.path.exists(LIBRARY):
    failed("not tried: faketime is not installed")


def start(data, offset):
    return Server(data=data, env={"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME": offset, "LD_PRELOAD": LIBRARY})


data = os.path.join(folder(), "data")
s = Server(data=data)
s.wait([s.submit({"ProductName": "A", "Version": "1", "k": str(k)}) for k in range(5)])
s.stop()
for offset in ("-2y", "+0", "+2y", "+0"):
    s = start(data, offset)
    # The first pass of retention runs at the start.
    for _ in range(100):
        heartbeat = json.loads(s.get("/__heartbeat__")[2])
        if offset != "+2y" or heartbeat.get("warnings"):
            break
        time.sleep(0.1)
    left = int(re.search(rb"^crashkeep_processed (\d+)", s.get("/metrics")[2], re.M).group(1))
    s.stop()
    check(left == 5, f"with the clock {offset} {left} of 5 crashes are left")
    told = "retention" in str(heartbeat.get("warnings"))
    check(told or offset != "+2y", f"the heartbeat does not say that retention stopped itself: {heartbeat}")
failed("all crashes are there, and the heartbeat said why")
