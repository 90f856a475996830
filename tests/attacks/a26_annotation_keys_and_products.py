"""An anonymous sender of invented annotations and products must not hide those of others."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ck import *

s = S('a26', conf='[access]\nrequests_per_minute = 100000\nanonymous_per_minute = 100000\n')
for report in range(6):
    s.submit([('ProductName', 'A')] + [(f'junk{report}x{k}', 'x') for k in range(200)], None)
for k in range(300):
    s.submit({'ProductName': f'invented{k}'}, None)
real = [s.submit({'ProductName': 'Real', 'RealKey': 'here'}, None) for _ in range(8)]
s.wait(real, t=60)
answer = {}
for _ in range(150):
    answer = json.loads(s.get('/api/SuperSearch/?product=Real&annotation.RealKey=here')[2])
    whole = json.loads(s.get('/api/SuperSearch/?product=Real')[2])
    if whole['total'] == 8:
        break
    time.sleep(.1)
versions = json.loads(s.get('/api/ProductVersions/')[2])
real_one = json.loads(s.get('/api/ProductVersions/?product=Real')[2])
s.stop()
if answer['total'] == 0 or (answer['total'] < 8 and 'annotation.RealKey' not in answer.get('not_indexed', [])):
    print('a real annotation is not found, or nothing says so:', answer['total'], answer.get('not_indexed'))
    sys.exit(1)
if len(versions['hits']) > 200 or not versions.get('left_out') or real_one['total'] != 1:
    print('products are listed without a bound:', len(versions['hits']), versions.get('left_out'))
    sys.exit(1)
print(f"refused: {answer['total']} of 8 found by the real key, {versions['left_out']} products left out")
