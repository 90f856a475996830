"""Removing data/lock must not let a second server write the same store."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ck import *

s = S('a36')
ids = [s.submit({'ProductName': 'A', 'Version': '1'}, D) for _ in range(3)]
s.wait(ids)
os.unlink(s.data + '/lock')
second = S('a36', fresh=False)
if second.port:
    print('a second server runs on the same store')
    second.stop()
    s.stop()
    sys.exit(1)
ids += [s.submit({'ProductName': 'A', 'Version': '1'}, D) for _ in range(3)]
# Another file in the place of the store: nothing may be acknowledged any more.
os.rename(s.data + '/store.redb', s.data + '/away')
import shutil
shutil.copy(s.data + '/away', s.data + '/store.redb')
answer = s.submit({'ProductName': 'A', 'Version': '1'}, D)
heartbeat = s.get('/__heartbeat__')
if isinstance(answer, str) or heartbeat[0] == 200:
    print('a report was acknowledged into a file that is gone:', answer, heartbeat)
    s.stop()
    sys.exit(1)
os.rename(s.data + '/away', s.data + '/store.redb')
s.stop()
s = S('a36', fresh=False)
lost = [i for i in ids if s.get('/api/RawCrash/?format=raw&crash_id=' + i)[0] != 200]
s.stop()
if lost:
    print(f'{len(lost)} of {len(ids)} acknowledged crashes are lost')
    sys.exit(1)
print('refused: the second server did not start, no acknowledged crash is lost')
