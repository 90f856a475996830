"""No answer to a viewer may contain protected data."""
import gzip
import json
import re
import urllib.parse

from ck import DUMP, Server, check, failed

SECRET = 'Zs3cr3tZ'
java = f'''java.lang.IllegalStateException: Could not open {SECRET}1
jane.{SECRET}2@example.com
jane.{SECRET}2b
/home/jane/{SECRET}3.txt
at home with {SECRET}4
\tat org.example.Foo.bar(Foo.java:10)
Caused by: java.io.IOException: {SECRET}5: more
\tat org.example.Foo.baz(Foo.java:11)
'''
private = {'URL': f'https://u:{SECRET}6@ex.org/{SECRET}7?{SECRET}8', 'Comments': f'comment {SECRET}9', 'PHCUsableSize': f'{SECRET}10',
           'SubmittedFromInfobar': f'{SECRET}11', 'Unknown': f'{SECRET}13', 'MozCrashReason': f'byte index {SECRET}14', 'Email': f'{SECRET}15@x.org',
           'GleanClientId': f'{SECRET}16', 'Breadcrumbs': '{"x":"' + SECRET + '17"}', 'DumperError': SECRET + '18', 'RemoteType': 'webIsolated=' + SECRET + '19',
           'GMPLibraryPath': '/home/' + SECRET + '20', 'PHCBaseAddress': SECRET + '24', 'guid': SECRET + '25'}
report = gzip.compress(b'{"version":1,"hasMozMallocUsableSize":true,"reports":"https://bank.example/?session=' + SECRET.encode() + b'31"}')
files = [('notes' + SECRET + '26', SECRET + '27.txt', SECRET.encode() + b'28'), ('memory_report', SECRET + '30.json.gz', report)]
s = Server("[access]\nrequests_per_minute = 100000\n")
# If a key is sent twice, the collector adds a note about it.
twice = "-----twice"
parts = [("ProductName", "App"), ("Version", "1"), *private.items(), ("twice", SECRET + "34"), ("twice", SECRET + "35")]
body = "".join(f'--{twice}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in parts)
kind = {"Content-Type": f"multipart/form-data; boundary={twice}"}
answer = s.ask("POST", "/submit", kind, f"{body}--{twice}--\r\n".encode())[2]
ids = [s.submit({"ProductName": "App", "Version": "1", "JavaStackTrace": java, **private}, files=files),
       s.submit({"ProductName": "App", "Version": "1", **private}, DUMP, files=files),
       re.search(rb"CrashID=bp-(\S+)", answer).group(1).decode()]
s.wait(ids)
s.wait_found("product=App", 3)
admin, viewer, protected = (s.account(role + "1", role) for role in ("admin", "viewer", "protected"))
for name, query in (("text", "q=" + SECRET + "40"), ("filter", "url=~" + SECRET + "41"), ("public", "signature=~" + SECRET + "42")):
    s.form("/search/save", {"name": name, "query": query}, protected)
s.form("/api/Reprocessing/", {"query": "url=~" + SECRET + "44"}, admin)
s.wait(ids, viewer)
found = json.loads(s.get("/api/SuperSearch/?_facets=signature", viewer)[2])
columns = '_columns=url&_columns=user_comments&_columns=collector_notes&_columns=processor_notes&_columns=java_stack_trace&_columns=memory_report_error&_columns=annotation.Email'
paths = ['/', '/home/product/App', '/topcrashers/?product=App', '/trends/?product=App', '/search/', '/search/?product=App', '/search/?' + columns,
         '/search/feed.atom?product=App', '/symbols/', '/account/', '/status/', '/about/throttling/', '/api/Jobs/', '/api/MissingSymbols/', '/api/ThrottleCounts/',
         '/api/SearchExport/?' + columns, '/api/SearchExport/?format=json&' + columns, '/metrics', '/__heartbeat__']
for i in ids:
    paths += [f'/report/index/{i}', f'/report/index/{i}/signature', f'/api/ProcessedCrash/?crash_id={i}', f'/api/RawCrash/?crash_id={i}',
              f'/api/RawCrash/?crash_id={i}&format=raw&name=x', f'/api/CrashState/?crash_id={i}', f'/api/SignatureExplanation/?crash_id={i}']
paths += ['/signature/?signature=' + urllib.parse.quote(bucket['term'], safe='') for bucket in found['facets']['signature']]
leaks = []
for path in paths:
    status, headers, body = s.get(path, viewer)
    leaks += [(path, hit) for hit in sorted(set(re.findall(SECRET + r'\w+', str(headers) + body.decode('utf8', 'replace'))))]
texts = ["q=" + SECRET + "9", "q=session"]
answered = [query for query in texts if json.loads(s.get("/api/SuperSearch/?" + query, viewer)[2])["total"] > 0]
s.stop()
check(not leaks, f"a viewer sees {leaks[:10]}")
check(not answered, f"a viewer finds by {answered}")
failed(f"nothing protected in {len(paths)} answers")
