"""Removing data/lock must not let a second server write the same store."""
import os
import shutil

from ck import DUMP, Server, check, failed

REPORT = {"ProductName": "A", "Version": "1"}
s = Server()
ids = [s.submit(REPORT, DUMP) for _ in range(3)]
s.wait(ids)
os.unlink(s.data + "/lock")
second = Server(data=s.data)
is_running = second.port is not None
second.stop()
check(not is_running, "a second server runs on the same store")
ids += [s.submit(REPORT, DUMP) for _ in range(3)]
# Replace store.redb with a copy. From now on, nothing may be acknowledged.
os.rename(s.data + "/store.redb", s.data + "/away")
shutil.copy(s.data + "/away", s.data + "/store.redb")
answer = s.submit(REPORT, DUMP)
status, _, heartbeat = s.get("/__heartbeat__")
check(not isinstance(answer, str), f"a report was acknowledged into a file that is gone: {answer}")
check(status != 200, f"the heartbeat is healthy: {heartbeat}")
os.rename(s.data + "/away", s.data + "/store.redb")
s.stop()
s = Server(data=s.data)
lost = [i for i in ids if s.get("/api/RawCrash/?format=raw&crash_id=" + i, s.key)[0] != 200]
s.stop()
check(not lost, f"{len(lost)} of {len(ids)} acknowledged crashes are lost")
failed("the second server did not start, and no acknowledged crash is lost")
