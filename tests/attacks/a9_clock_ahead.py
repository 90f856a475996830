"""A clock that is years ahead must not have retention delete everything."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ck import *

LIB = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1'
if not os.path.exists(LIB):
    print('skipped: faketime is not installed')
    sys.exit(0)


def metric(s, name):
    return int(re.search(r'^%s (\d+)' % name, s.get('/metrics')[2].decode(), re.M).group(1))


s = S('a9')
ids = [s.submit({'ProductName': 'A', 'Version': '1', 'k': str(k)}, None) for k in range(5)]
s.wait(ids)
s.stop()
for offset in ('-2y', '+0', '+2y', '+0'):
    s = S('a9', fresh=False, env={'FAKETIME_DONT_FAKE_MONOTONIC': '1', 'FAKETIME': offset, 'LD_PRELOAD': LIB})
    # The first pass of retention comes at the start; its audit tells that it has begun.
    for _ in range(100):
        heartbeat = json.loads(s.get('/__heartbeat__')[2])
        if offset != '+2y' or heartbeat.get('warnings'):
            break
        time.sleep(.1)
    left = metric(s, 'crashkeep_processed')
    s.stop()
    if left < 5:
        print(f'with the clock {offset} only {left} of 5 crashes are left')
        sys.exit(1)
    if offset == '+2y' and 'retention' not in str(heartbeat.get('warnings')):
        print('the heartbeat does not say that retention has stopped itself:', heartbeat)
        sys.exit(1)
print('refused: all 5 crashes are there, and the heartbeat said why')
