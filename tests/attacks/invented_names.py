"""A client that invents annotations and products must not hide those of other clients."""
import json

from ck import Server, check, failed

s = Server("[access]\nrequests_per_minute = 100000\nanonymous_per_minute = 100000\n")
for report in range(6):
    s.submit({"ProductName": "A", **{f"junk{report}x{k}": "x" for k in range(200)}})
for k in range(300):
    s.submit({"ProductName": f"invented{k}"})
s.wait([s.submit({"ProductName": "Real", "RealKey": "here"}) for _ in range(8)])
s.wait_found("product=Real", 8)


def get(path):
    return json.loads(s.get(path, s.key)[2])


found = get("/api/SuperSearch/?product=Real&annotation.RealKey=here")
versions = get("/api/ProductVersions/")
real = get("/api/ProductVersions/?product=Real")
exported = s.get("/api/SearchExport/?product=A&annotation.junk5x199=x", s.key)[1]
s.stop()
is_told = "annotation.RealKey" in found.get("not_indexed", [])
check(found["total"] > 0 and (found["total"] == 8 or is_told), f"a real annotation finds {found['total']} of 8, told: {is_told}")
check("junk5x199" in exported.get("x-not-indexed", ""), f"an export does not say what is not indexed: {exported}")
listed, left_out = len(versions["hits"]), versions.get("left_out")
check(listed <= 200 and left_out, f"{listed} products are listed, {left_out} left out")
check(real["total"] == 1, "a product that is asked for is not found")
failed(f"{found['total']} of 8 are found by the real key, {left_out} products are left out of the list")
