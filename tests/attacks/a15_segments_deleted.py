"""Segment files deleted under a running server must be noticed, and no report acknowledged into them."""
import glob
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ck import *

s = S('a15')
old = s.submit({'ProductName': 'A', 'Version': '1'}, D)
s.wait([old])
for path in glob.glob(s.data + '/segments/*'):
    os.unlink(path)
status, _, body = s.get('/__heartbeat__')
if status == 200 or b'missing' not in body:
    print('the heartbeat stays healthy:', status, body)
    s.stop()
    sys.exit(1)
new = s.submit({'ProductName': 'A', 'Version': '1'}, D)
s.stop()
if not isinstance(new, str):
    print('no report is taken any more:', new)
    sys.exit(1)
s = S('a15', fresh=False)
status = s.get('/api/RawCrash/?format=raw&crash_id=' + new)[0]
told = s.get('/__heartbeat__')[0]
s.stop()
if status != 200 or told == 200:
    print('the new report cannot be read after a restart, or nothing is told:', status, told)
    sys.exit(1)
print('refused: the loss is told, and new reports are safe')
