"""A token with the fewest rights must not revoke its owner's tokens or create tokens that never expire."""
import re

from ck import Server, check, cli, failed

server = Server()
admin = server.account("adm", "admin")
least = cli(server.data, "token", "create", "--user", "adm", "--scopes", "read", "--days", "1")[1]
for shown in ("token", "session"):
    headers = {}
    token = least
    if shown == "session":
        status, answered, _ = server.form("/login/", {"token": least})
        headers["Cookie"] = answered["set-cookie"].split(";")[0]
        token = None
    status, _, page = server.form("/account/token", {"label": "forever"}, token, **headers)
    check(status == 403, f"a read {shown} makes a token: {status}")
    ids = re.findall(rb'name="id" value="(\d+)"', server.get("/users/", admin)[2])
    check(len(ids) == 2, f"there are {len(ids)} tokens")
    mine = re.findall(rb'name="id" value="(\d+)"', server.get("/account/", token, **headers)[2])
    for number in set(ids) - set(mine):
        status, _, _ = server.form("/account/revoke", {"id": number.decode()}, token, **headers)
        check(status == 403, f"a read {shown} revokes its owner's token: {status}")
check(server.get("/users/", admin)[0] == 200, "the admin's token is gone")
for number in range(200):
    status = server.form("/account/token", {"label": str(number)}, admin)[0]
    if status != 200:
        break
check(status == 400 and number < 150, f"{number} tokens of one account, then {status}")
status, _, answer = server.form("/users/remove", {"name": "adm"}, admin)
check(status == 400, f"the last admin removed itself: {status}")
check(server.get("/users/", None)[0] in (401, 403), "somebody without a token is admin")
server.stop()
failed("a lesser token manages nothing; tokens are bounded; the last admin stays")
