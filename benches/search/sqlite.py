"""The baseline of the search benchmark: the same crashes and the same questions in SQLite.

Reads lines on stdin. Until a line "." each is a crash: tab-separated values in the order of COLUMNS.
Then each is a question as JSON: {"statements": [[sql, values], ...]}. In the second statement "{top}"
stands for the first column of the first one's rows. Answers one line of JSON each: the milliseconds
that it took and the first statement's counts.
"""
import json
import sqlite3
import sys
import time

path = sys.argv[1]
lines = iter(sys.stdin)
names = next(lines).rstrip("\n").split("\t")
db = sqlite3.connect(path, isolation_level=None)
db.executescript(
    """
    pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -262144;
    pragma mmap_size = 4000000000; pragma temp_store = memory;
    create table signature (id integer primary key, text text unique);
    """
)
columns = [name for name in names if name != "proto_signature"]
types = {"date": "integer", "install_time": "integer", "uptime": "integer"}
db.execute("create table crash (seq integer primary key, %s)" % ", ".join(
    "%s %s" % (name, types.get(name, "")) for name in columns))
db.execute("create virtual table words using fts5 (proto_signature, signature, modules_in_stack, content='')")
signatures = {}
at = {name: n for n, name in enumerate(names)}
kept = [at[name] for name in columns]
numeric = {at[name] for name in types}
begun = time.process_time()
rows, words, count = [], [], 0


def write():
    db.execute("begin")
    db.executemany("insert into crash values (%s)" % ", ".join("?" * (len(columns) + 1)), rows)
    db.executemany("insert into words (rowid, proto_signature, signature, modules_in_stack) values (?, ?, ?, ?)", words)
    db.execute("commit")
    rows.clear()
    words.clear()


for line in lines:
    if line == ".\n":
        break
    values = line.rstrip("\n").split("\t")
    count += 1
    text = values[at["signature"]]
    number = signatures.get(text)
    if number is None:
        number = signatures[text] = len(signatures) + 1
        db.execute("insert into signature values (?, ?)", (number, text))
    words.append((count, values[at["proto_signature"]], text, values[at["modules_in_stack"]]))
    values[at["signature"]] = number
    for n in numeric:
        values[n] = int(values[n])
    rows.append([count] + [values[n] or None for n in kept])
    if len(rows) == 20000:
        write()
write()
# Covering indexes for the questions below, and indexes for counts of a single field.
for index in (
    "product, date, version, signature, platform, install_time",
    "product, version, date, signature, platform, install_time",
    "signature, date",
    "date, product",
    "version",
    "platform",
    "process_type",
    "reason",
    "address",
    "install_time",
):
    db.execute("create index by_%s on crash (%s)" % (index.replace(", ", "_"), index))
db.execute("insert into words (words) values ('optimize')")
db.execute("analyze")
size = db.execute("select page_count * page_size from pragma_page_count, pragma_page_size").fetchone()[0]
print(json.dumps({"crashes": count, "cpu_s": time.process_time() - begun, "bytes": size}), flush=True)
for line in lines:
    statements = json.loads(line)["statements"]
    begun = time.perf_counter()
    first = None
    for sql, values in statements:
        if "{top}" in sql:
            sql = sql.replace("{top}", ", ".join(str(row[0]) for row in first) or "null")
        found = db.execute(sql, values).fetchall()
        first = found if first is None else first
    ms = (time.perf_counter() - begun) * 1000
    print(json.dumps({"ms": ms, "counts": [row[1] for row in first]}), flush=True)
