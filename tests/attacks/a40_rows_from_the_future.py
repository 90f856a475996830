"""Crashes that were received under a clock that was ahead must not stop retention for the others."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ck import *
import threading

LIB = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1'
if not os.path.exists(LIB):
    print('skipped: faketime is not installed')
    sys.exit(0)
CONF = '[retention]\nprocessed_days = 30\n'
BODY = b'--x\r\nContent-Disposition: form-data; name="ProductName"\r\n\r\nA\r\n--x--\r\n'


def server(offset, fresh=False):
    env = {'FAKETIME_DONT_FAKE_MONOTONIC': '1', 'FAKETIME': offset, 'LD_PRELOAD': LIB}
    return S('a40', conf=CONF, fresh=fresh, env=env)


def metric(s, name):
    return int(re.search(r'^%s (\d+)' % name, s.get('/metrics')[2].decode(), re.M).group(1))


def fill(s, count):
    def some():
        c = http.client.HTTPConnection('127.0.0.1', s.port, timeout=60)
        for _ in range(count // 4):
            c.request('POST', '/submit', BODY, {'Content-Type': 'multipart/form-data; boundary=x'})
            c.getresponse().read()
    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while metric(s, 'crashkeep_queued') or metric(s, 'crashkeep_processing'):
        time.sleep(.2)


s = server('+1y', fresh=True)
fill(s, 1000)
s.stop()
s = server('+0')
fill(s, 200)
s.stop()
s = server('+100d')
# A hundred days at once are for a person to look at.
for _ in range(300):
    if json.loads(s.get('/__heartbeat__')[2]).get('warnings'):
        break
    time.sleep(.1)
s.form('/status/retention', {})
for _ in range(300):
    if metric(s, 'crashkeep_processed') <= 1000:
        break
    time.sleep(.1)
left = metric(s, 'crashkeep_processed')
s.stop()
if left != 1000:
    print(f'{left} crashes are left, expected the 1,000 of the future alone')
    sys.exit(1)
print('refused: the 200 old crashes are deleted, the 1,000 of the future stay')
