"""A store with flipped bits must not cause a panic at the start, but a message that names salvage."""
import os
import random
import shutil

from ck import Server, check, failed, folder

s = Server()
ids = [s.submit({"ProductName": "A", "Version": "1", "k": str(k)}) for k in range(8)]
s.wait(ids)
s.stop()
base, data = s.data, os.path.join(folder(), "data")
good = open(base + "/store.redb", "rb").read()
used = [at for at in range(4096, len(good)) if good[at]]
random.seed(5)


def flips(count):
    damaged = bytearray(good)
    for _ in range(count):
        damaged[random.choice(used)] ^= 1 << random.randrange(8)
    return damaged


cases = [("half of it", good[:len(good) // 2]), ("a page less", good[:-4096]), ("no header", bytes(512) + good[512:])]
cases += [(f"one flip, {k}", flips(1)) for k in range(12)] + [(f"20 flips, {k}", flips(20)) for k in range(8)]
refused = 0
for name, content in cases:
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(base, data)
    open(data + "/store.redb", "wb").write(content)
    s = Server(data=data)
    if s.port:
        for i in ids:
            s.get("/api/ProcessedCrash/?crash_id=" + i, s.key)
        s.submit({"ProductName": "A", "Version": "1"})
    s.stop()
    log = open(s.log_path).read()
    refused += s.port is None
    check("panicked" not in log, f"{name}: {log[-400:]}")
    check(s.port or "salvage" in log or "copy" in log, f"{name}: the message does not say what to do: {log[-400:]}")
failed(f"no panic in {len(cases)} damaged stores, {refused} were refused with a message")
