"""Requests with many regular expressions, as parameters or in the search box, must be refused cheaply."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ck import *
import threading

s = S('a27', conf='[access]\nrequests_per_minute = 100000\nanonymous_per_minute = 100000\n')
ids = [s.submit({'ProductName': 'A', 'Version': '1', 'Comments': 'word'}, None) for _ in range(10)]
s.wait(ids)


def memory():
    return [int(l.split()[1]) for l in open(f'/proc/{s.p.pid}/status') if l.startswith('VmHWM')][0] // 1024


def cpu():
    f = open(f'/proc/{s.p.pid}/stat').read().rsplit(')', 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf('SC_CLK_TCK')


quote = lambda text: urllib.parse.quote(text, safe='@')
item = quote('sig@\\w{16}')
requests = {
    'in the search box': '/api/SuperSearch/?q=' + '+'.join([item] * 1850),
    'different ones in the search box': '/api/SuperSearch/?q=' + '+'.join(quote('sig@\\w{%d}' % n) for n in range(9, 400)),
    'as parameters': '/api/SuperSearch/?' + '&'.join('signature=' + quote('@\\w{%d}' % n) for n in range(9, 450)),
    'wildcards': '/api/SuperSearch/?' + '&'.join('signature=' + quote('~*a%d*b' % n) for n in range(450)),
    'as parameters of the page': '/search/?' + '&'.join('signature=' + quote('@\\w{%d}' % n) for n in range(9, 450)),
    'on the page': '/search/?q=' + '+'.join([item] * 1850),
}
before = memory()
for name, path in requests.items():
    was = cpu()
    status = s.get(path, timeout=60)[0]
    took = cpu() - was
    if took > 2 or (status != 400 and not path.startswith('/search/')):
        print(f'{name}: status {status}, {took:.1f} s of the processor')
        s.stop()
        sys.exit(1)
# Equal ones are compiled once.
threads = [threading.Thread(target=lambda: s.get('/api/SuperSearch/?' + '&'.join(['signature=' + quote('@\\w{16}')] * 490), timeout=60)) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
grown = memory() - before
alive = s.p.poll() is None and s.get('/__lbheartbeat__')[0] == 200
s.stop()
if grown > 300 or not alive:
    print(f'the server grew by {grown} MiB, alive: {alive}')
    sys.exit(1)
print(f'refused: the server grew by {grown} MiB')
