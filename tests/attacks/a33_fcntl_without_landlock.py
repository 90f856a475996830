"""A walker that was taken over, on a kernel without Landlock, must not signal the server by fcntl."""
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ck import *

if os.getuid() != 0 or not shutil.which('gdb') or not shutil.which('strace'):
    print('skipped: it needs root, gdb and strace')
    sys.exit(0)
s = S('a33')
children = lambda: [int(x) for x in subprocess.run(['pgrep', '-P', str(s.p.pid)], capture_output=True, text=True).stdout.split()]
s.wait([s.submit({'ProductName': 'A', 'Version': '1'}, D)])
tracer = subprocess.Popen(['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=landlock_create_ruleset', '-e', 'inject=landlock_create_ruleset:error=ENOSYS', '-p', str(s.p.pid)], stderr=subprocess.PIPE)
time.sleep(1.5)
old = children()
for child in old:
    try:
        os.kill(child, 9)
    except ProcessLookupError:
        pass
for _ in range(4):
    s.wait([s.submit({'ProductName': 'A', 'Version': '1'}, D)])
tracer.send_signal(signal.SIGINT)
tracer.wait(10)
answers = []
for child in [c for c in children() if c not in old]:
    calls = [f'(int)fcntl(0,8,{s.p.pid})', '(int)fcntl(0,10,9)', '(int)fcntl(0,4,0x2000)', '(int)fcntl(0,1)']
    arguments = [part for call in calls for part in ('-ex', 'print ' + call)]
    out = subprocess.run(['gdb', '-q', '-batch', '-p', str(child), *arguments, '-ex', 'detach'], capture_output=True, text=True, timeout=120).stdout
    answers.append([l.split('= ')[1] for l in out.split('\n') if l.startswith('$')])
for _ in range(3):
    s.submit({'ProductName': 'A', 'Version': '1'}, D, timeout=10)
alive = s.p.poll() is None
s.stop()
if not alive or any(answer[:3] != ['-1'] * 3 for answer in answers if len(answer) == 4):
    print('fcntl is possible:', answers, 'server alive:', alive)
    sys.exit(1)
print('refused: fcntl answers', answers)
