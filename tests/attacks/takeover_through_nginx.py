"""A stranger behind a bare `proxy_pass` must not become admin."""
import http.client
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.parse

from ck import FORM, Server, check, failed, folder

if not shutil.which("nginx"):
    failed("nginx is not installed: nothing was tried")
place = folder()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]


def through(method, path, fields=None, host="crashes.example.org", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = urllib.parse.urlencode(fields) if fields else None
    if body:
        headers["Content-Type"] = FORM
    connection.request(method, path, body=body, headers={"Host": host, **headers})
    answer = connection.getresponse()
    answer.read()
    return answer.status


for config in ("", '[http]\npublic_url = "https://crashes.example.org"\n'):
    server = Server(config)
    pathlib.Path(place, "nginx.conf").write_text(
        f"daemon off; pid {place}/pid; error_log {place}/error.log; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {place}/a; proxy_temp_path {place}/b;\n"
        f"fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{server.port}; }} }} }}\n")
    nginx = subprocess.Popen(["nginx", "-c", f"{place}/nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        for host in ("crashes.example.org", "localhost", "127.0.0.1"):
            status = through("GET", "/users/", host=host)
            check(status in (401, 403), f"a stranger reads /users/ as {host}: {status}")
            status = through("POST", "/users/put", {"name": "mallory", "role": "admin"}, host=host)
            check(status in (401, 403), f"a stranger made an account as {host}: {status}")
        # The result is the same for a direct connection from the same machine.
        check(server.get("/users/")[0] in (401, 403), "loopback is enough to be admin")
        # The key works through the proxy, too.
        status = through("POST", "/login/", {"token": server.key, "next": "/"},
                         **{"Sec-Fetch-Site": "same-origin", "Origin": "null"})
        check(status == 303, f"the key does not open the login through nginx: {status}")
    finally:
        nginx.terminate()
        nginx.wait()
        server.stop()
failed("strangers behind nginx are nobody; the key works")
