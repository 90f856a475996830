"""On a kernel without Landlock, a walker under an attacker's control must not signal the server with fcntl."""
import os
import shutil
import signal
import subprocess
import time

from ck import DUMP, Server, check, failed

if os.getuid() != 0 or not shutil.which("gdb") or not shutil.which("strace"):
    failed("not tried: it needs root, gdb and strace")
REPORT = {"ProductName": "A", "Version": "1"}
s = Server()


def children():
    found = subprocess.run(["pgrep", "-P", str(s.process.pid)], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split()]


s.wait([s.submit(REPORT, DUMP)])
trace = ["trace=landlock_create_ruleset", "inject=landlock_create_ruleset:error=ENOSYS"]
tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", trace[0], "-e", trace[1], "-p", str(s.process.pid)],
                          stderr=subprocess.PIPE)
time.sleep(1.5)
old = children()
for child in old:
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
for _ in range(4):
    s.wait([s.submit(REPORT, DUMP)])
tracer.send_signal(signal.SIGINT)
tracer.wait(10)
answers = []
for child in [child for child in children() if child not in old]:
    # F_SETOWN, F_SETSIG, F_SETFL with O_ASYNC; and F_GETFD, which is allowed.
    calls = [f"(int)fcntl(0,8,{s.process.pid})", "(int)fcntl(0,10,9)", "(int)fcntl(0,4,0x2000)", "(int)fcntl(0,1)"]
    arguments = [part for call in calls for part in ("-ex", "print " + call)]
    out = subprocess.run(["gdb", "-q", "-batch", "-p", str(child), *arguments, "-ex", "detach"], capture_output=True, text=True, timeout=120)
    answers.append([line.split("= ")[1] for line in out.stdout.split("\n") if line.startswith("$")])
for _ in range(3):
    s.submit(REPORT, DUMP)
is_alive = s.is_running()
s.stop()
asked = [answer for answer in answers if len(answer) == 4]
check(is_alive and all(answer[:3] == ["-1"] * 3 for answer in asked), f"fcntl answers {answers}, server alive: {is_alive}")
failed(f"fcntl answers {asked}" if asked else "not tried: gdb may not attach to a walker here")
