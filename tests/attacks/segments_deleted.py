"""A running server must notice deleted segment files, and must not acknowledge a report that it wrote to one."""
import glob
import os

from ck import DUMP, Server, check, failed

REPORT = {"ProductName": "A", "Version": "1"}
s = Server()
s.wait([s.submit(REPORT, DUMP)])
for path in glob.glob(s.data + "/segments/*"):
    os.unlink(path)
status, _, body = s.get("/__heartbeat__")
check(status != 200 and b"missing" in body, f"the heartbeat stays healthy: {body}")
new = s.submit(REPORT, DUMP)
s.stop()
check(isinstance(new, str), f"no report is taken any more: {new}")
s = Server(data=s.data)
status = s.get("/api/RawCrash/?format=raw&crash_id=" + new, s.key)[0]
told = s.get("/__heartbeat__")[0]
s.stop()
check(status == 200, f"the new report cannot be read after a restart: {status}")
check(told != 200, "after a restart nothing is told")
failed("the loss is told, and new reports are safe")
