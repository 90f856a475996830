"""A store with flipped bits must not end in a panic at the start, but in a message that names salvage."""
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ck import *

s = S('a16')
ids = [s.submit({'ProductName': 'A', 'Version': '1', 'k': str(k)}, None) for k in range(8)]
s.wait(ids)
s.stop()
base = ROOT + '/a16base'
shutil.rmtree(base, ignore_errors=True)
shutil.copytree(s.data, base)
good = open(base + '/store.redb', 'rb').read()
used = [at for at in range(4096, len(good)) if good[at]]
random.seed(5)


def flips(count):
    damaged = bytearray(good)
    for _ in range(count):
        damaged[random.choice(used)] ^= 1 << random.randrange(8)
    return damaged


cases = [('half', good[:len(good) // 2]), ('a page less', good[:-4096]), ('no header', bytes(512) + good[512:])]
cases += [(f'one flip, {k}', flips(1)) for k in range(12)] + [(f'20 flips, {k}', flips(20)) for k in range(8)]
refused = 0
for name, bytes_ in cases:
    shutil.rmtree(s.data)
    shutil.copytree(base, s.data)
    open(s.data + '/store.redb', 'wb').write(bytes_)
    before = os.path.getsize(ROOT + '/a16.log')
    s = S('a16', fresh=False)
    if s.port:
        for i in ids:
            s.get('/api/ProcessedCrash/?crash_id=' + i)
        s.submit({'ProductName': 'A', 'Version': '1'}, None)
    else:
        refused += 1
    s.stop()
    log = open(ROOT + '/a16.log').read()[before:]
    if 'panicked' in log or 'send the report again later' in log:
        print(f'{name}: the server panicked:', log[-400:])
        sys.exit(1)
    if not s.port and 'salvage' not in log and 'copy' not in log:
        print(f'{name}: the message does not say what to do:', log[-400:])
        sys.exit(1)
print(f'refused: no panic in {len(cases)} damaged stores, {refused} were refused with a message')
