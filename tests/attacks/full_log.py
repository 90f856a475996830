"""A log that cannot be written (here: a full disk) must not stop the listener."""
from ck import DUMP, Server, check, failed

server = Server(wrap=["sh", "-c", 'exec "$@" 2>/dev/full', "sh"])
for number in range(20):
    # Each of these requests writes a line to the log.
    server.ask("POST", "/submit", {"Content-Type": "text/plain"}, b"x")
    server.get("/users/", "0" * 32)
crash = server.submit({"ProductName": "A", "Version": "1"}, DUMP)
check(isinstance(crash, str), f"a report is answered {crash}")
server.wait([crash])
check(server.is_running(), "the server is gone")
code = server.stop()
check(code == 0, f"it ended with {code}")
failed("reports are taken, walked and answered without a log")
