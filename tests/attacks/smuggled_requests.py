"""Heads and chunks that two readers may interpret differently must be refused, and the connection closed."""
from ck import Server, check, failed

SMUGGLED = b"GET /__version__ HTTP/1.1\r\nHost: h\r\n\r\n"
HEADS = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5, 6",
    b"Content-Length: +5",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding : chunked",
    b"X: a\r\n Transfer-Encoding: chunked",
    b"X: a\nTransfer-Encoding: chunked",
    b"X: a\rTransfer-Encoding: chunked",
    b"X: a\x00b\r\nContent-Length: 5",
]
FORM = b"Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked"
CHUNKS = [
    b"0x5\r\nabcde\r\n",
    b"5\nabcde\r\n",
    b"5\r\nabcdeX\r\n",
    b"5;a\x00b\r\nabcde\r\n",
    b"-5\r\n",
    b"fffffffffffffffff\r\n",
]

server = Server()


def answer_to(head, body):
    client = server.connect()
    client.sendall(b"POST /submit HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n\r\n" + body + b"0\r\n\r\n" + SMUGGLED)
    answer = b""
    while piece := client.recv(65536):
        answer += piece
    client.close()
    return answer


for head in HEADS:
    answer = answer_to(head, b"")
    check(answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1 ") == 1, f"{head}: {answer[:300]}")
for chunk in CHUNKS:
    answer = answer_to(FORM, chunk)
    check(b"HTTP/1.1 200" not in answer and answer.count(b"HTTP/1.1 ") <= 1, f"{chunk}: {answer[:300]}")
server.stop()
failed(f"{len(HEADS) + len(CHUNKS)} ambiguous requests were refused")
