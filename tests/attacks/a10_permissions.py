"""The search index and the mapped symbols must not be readable by others, also in a directory that they may enter."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ck import *

os.umask(0o022)
data = ROOT + '/a10'
subprocess.run(['rm', '-rf', data])
os.makedirs(data, 0o755)
s = S('a10', fresh=False)
symbols = C + '/symbols/acmed'
for build in os.listdir(symbols) if os.path.isdir(symbols) else []:
    body = open(f'{symbols}/{build}/acmed.sym', 'rb').read()
    s.req('PUT', '/upload/acmed.sym', {}, body)
i = s.submit({'ProductName': 'A', 'Version': '1', 'Comments': 'my password'}, D)
s.wait([i])
for _ in range(100):
    if b'"total":1' in s.get('/api/SuperSearch/?product=A')[2].replace(b' ', b''):
        break
    time.sleep(.1)
open_to_others = []
for folder, folders, files in os.walk(data):
    for name in folders + files:
        path = os.path.join(folder, name)
        if os.lstat(path).st_mode & 0o077 and not os.path.islink(path):
            open_to_others.append(path)
s.stop()
if open_to_others:
    print('others may read', open_to_others[:5])
    sys.exit(1)
print('refused: nothing below the data directory is readable by others')
