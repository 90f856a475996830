//! Searches by people and programs: the box, the form, files with all results, feeds, saved searches, jobs,
//! and error messages.

use serde_json::Value;

use crate::server::{Server, fixture, wait_for};

/// A server with crashes of three products, which are in the index.
fn world() -> (Server, Vec<String>) {
    let server = Server::start();
    let dump = fixture("dumps/linux-x86_64-crash.dmp");
    let ids: Vec<String> = [
        ("Alpha", "1.0", "first words"),
        ("Alpha", "2.0b3", "other words"),
        ("Beta App", "10.0", "=cmd|' /C calc'!A0"),
        ("Gamma", "9.0", "<b>&\u{1}\u{202e}"),
    ]
    .map(|(product, version, message)| {
        let annotations = [
            ("ProductName", product),
            ("Version", version),
            ("AbortMessage", message),
            ("UptimeTS", "1.5"),
        ];
        let files: &[(&str, &str, &[u8])] = &[("upload_file_minidump", "x.dmp", &dump)];
        server.submit(&annotations, files).crash_id()
    })
    .into();
    wait_found(&server, "", 4);
    (server, ids)
}

/// The page or endpoint with these parameters, given unencoded.
fn at(path: &str, query: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    format!("{path}?{}", query.join("&"))
}

fn total(server: &Server, query: &str) -> u64 {
    let answer = server.get(&at("/api/SuperSearch/", query));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()["total"].as_u64().expect("a total")
}

fn wait_found(server: &Server, query: &str, count: u64) {
    wait_for(&format!("{count} crashes of {query:?}"), || {
        (total(server, query) == count).then_some(())
    });
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[test]
fn the_box_says_what_parameters_say() {
    let (server, _) = world();
    for (line, params, count) in [
        ("product:Alpha", "product=Alpha", 2),
        (
            "-product:Alpha version:<10",
            "product=!Alpha&version=<10",
            1,
        ),
        (
            "product:\"Beta App\" os:Linux",
            "product=Beta App&platform=Linux",
            1,
        ),
        ("product~a version:>=2", "product=~a&version=>=2", 4 - 1),
        ("abort_message~words", "abort_message=~words", 2),
        ("abort_message:first", "abort_message=first", 1),
        (
            "\"other words\" product^Al",
            "q=\"other words\"&product=^Al",
            1,
        ),
        ("product@(Alpha|Gamma)", "product=@(Alpha|Gamma)", 3),
        ("product=Alpha", "product==Alpha", 2),
        (
            "uptime_ts:>=1.5 -uptime:>1w",
            "uptime_ts=>=1.5&uptime=!>604800",
            4,
        ),
    ] {
        assert_eq!(total(&server, params), count, "{params}");
        assert_eq!(total(&server, &format!("q={line}")), count, "{line}");
    }
}

#[test]
fn a_mistake_is_told_at_its_control_and_the_rest_is_answered() {
    let (server, _) = world();
    let page =
        server.get("/search/?product=Alpha&uptime=soon&nonsense=1&_columns=versoin&from=yesterday");
    assert_eq!(page.status, 400);
    let text = page.text();
    assert!(
        text.contains("<h2>2 crashes</h2>"),
        "the product still counts: {text}"
    );
    assert!(text.contains("not a valid integer"), "{text}");
    assert!(
        text.contains("Unknown field &#39;nonsense&#39;")
            || text.contains("Unknown field 'nonsense'"),
        "{text}"
    );
    assert!(text.contains("did you mean version?"), "{text}");
    assert!(
        text.contains("\"yesterday\" is not a date")
            || text.contains("&quot;yesterday&quot; is not a date"),
        "{text}"
    );
    let error = server.get("/api/SuperSearch/?prodct=Alpha").json();
    assert_eq!(error["error"], "Unknown field 'prodct'");
    assert_eq!(
        (&error["field"], &error["value"]),
        (&"prodct".into(), &"Alpha".into())
    );
    assert!(
        error["reason"]
            .as_str()
            .expect("a reason")
            .contains("did you mean product?")
    );
    for (query, field, value) in [
        ("product=>5", "product", ">5"),
        ("signature=@(", "signature", "@("),
        ("q=uptime:soon", "q", "soon"),
        ("_facets=nope", "_facets", "nope"),
        ("date=>2020-01-01", "date", "2020-01-01T00:00:00Z to "),
        (
            "_histogram.product=version",
            "_histogram.product",
            "version",
        ),
    ] {
        let answer = server.get(&at("/api/SuperSearch/", query));
        assert_eq!(answer.status, 400, "{query}");
        let error = answer.json();
        assert_eq!(error["field"], field, "{query}: {error}");
        assert!(
            error["value"]
                .as_str()
                .is_some_and(|v| v.starts_with(value)),
            "{query}: {error}"
        );
    }
    let huge = format!("signature=@{}", encoded(&"(a{1000}){1000}".repeat(3)));
    let error = server.get(&format!("/api/SuperSearch/?{huge}")).json();
    assert!(
        error["reason"]
            .as_str()
            .expect("a reason")
            .contains("the compiled expression"),
        "{error}"
    );
}

#[test]
fn one_more_condition_becomes_a_parameter() {
    let (server, _) = world();
    let added = server.get("/search/?q=&product=Alpha&add_field=version&add_op=%5E&add_value=2.0");
    assert_eq!(added.status, 303);
    assert_eq!(
        added.header("location"),
        Some("/search/?product=Alpha&version=%5E2.0")
    );
    let missing = server.get("/search/?add_field=url&add_op=__null__&add_value=ignored");
    assert_eq!(missing.header("location"), Some("/search/?url=__null__"));
    let nothing = server.get("/search/?product=Alpha&add_field=uuid&add_op=&add_value=");
    assert_eq!(nothing.header("location"), Some("/search/?product=Alpha"));
}

#[test]
fn columns_counts_and_order_are_chosen_in_the_address() {
    let (server, ids) = world();
    let page = server.get("/search/?_columns=version&_columns=product&_sort=version&_aggs.product=version&_facets=_histogram.date&_facets=_cardinality.product");
    assert_eq!(page.status, 200);
    let text = page.text();
    let at = |needle: &str| {
        text.find(needle)
            .unwrap_or_else(|| panic!("{needle}: {text}"))
    };
    // Versions are sorted as versions.
    let table = at("<table class=\"hits\">");
    let order: Vec<usize> = ["1.0</td>", "2.0b3</td>", "9.0</td>", "10.0</td>"]
        .map(|version| table + text[table..].find(version).expect(version))
        .into();
    assert!(order.is_sorted(), "{order:?}");
    assert!(
        text.contains(&format!("/report/index/{}", ids[0])),
        "a row leads to its report"
    );
    assert!(text.contains("distinct: Product"), "{text}");
    assert!(text.contains("Date histogram"), "{text}");
}

#[test]
fn any_search_is_a_file_of_all_its_crashes() {
    let (server, ids) = world();
    let query = "product=!Gamma&_columns=uuid&_columns=abort_message&_columns=uptime_ts";
    let csv = server.get(&format!("/api/SearchExport/?{query}"));
    assert!(
        csv.header("content-type")
            .is_some_and(|t| t.starts_with("text/csv"))
    );
    let lines: Vec<String> = csv.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], "uuid,abort_message,uptime_ts");
    // Newest first. A cell that a spreadsheet would execute is made safe. A number is left alone.
    assert_eq!(lines[1], format!("{},'=cmd|' /C calc'!A0,1.5", ids[2]));
    let json = server
        .get(&format!("/api/SearchExport/?{query}&format=json"))
        .json();
    let of_search = server.get(&format!("/api/SuperSearch/?{query}")).json();
    assert_eq!(json["hits"], of_search["hits"]);
    let lines = server
        .get(&format!("/api/SearchExport/?{query}&format=ndjson"))
        .text();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(Value::Array(lines), of_search["hits"]);
    let bad = server.get("/api/SearchExport/?format=xml");
    assert_eq!(
        (bad.status, bad.json()["value"].clone()),
        (400, "xml".into())
    );
}

#[test]
fn a_file_holds_every_crash_however_many_share_a_moment() {
    // More than two pages of crashes, most of one millisecond, through the store and the index.
    use crashkeep::api::everything::Everything;
    use crashkeep::clock::Timestamp;
    use crashkeep::crash::id::CrashId;
    use crashkeep::fields::Catalogue;
    use crashkeep::index::{Document, Index, Side, Watermark, Writer};
    use crashkeep::query::Query;
    use std::sync::Arc;

    let folder = tempfile::tempdir().expect("a folder");
    let catalogue = Arc::new(Catalogue::builtin());
    let index = Index::open(folder.path(), 1, catalogue.clone());
    let index = Arc::new(index.expect("an index"));
    let mut writer = Writer::open(&index, Side::Current).expect("a writer");
    const CRASHES: u64 = 12_345;
    for seq in 1..=CRASHES {
        let at = if seq % 1_000 == 0 {
            1_000 + seq as i64
        } else {
            500
        };
        let id = CrashId::from_bits(u128::from(seq));
        let processed = br#"{"signature": "foo"}"#;
        let document = Document::new(
            &catalogue,
            seq,
            id,
            Timestamp::from_ms(at),
            processed,
            &Default::default(),
        );
        writer
            .put(&document.expect("a document"))
            .expect("it is put");
    }
    let watermark = Watermark {
        change: 1,
        rebuilt_to: None,
    };
    writer.commit(watermark).expect("a commit");
    let params = [
        ("date", ">=1970-01-01"),
        ("date", "<1970-01-02"),
        ("_columns", "uuid"),
    ];
    let params = params.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let query = Query::parse(&catalogue, &params, Timestamp::from_ms(0), true).expect("a query");
    let mut all = Everything::new(index, query);
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let hits = all.next_page().expect("a page");
        if hits.is_empty() {
            break;
        }
        for hit in hits {
            assert_eq!(hit.values.len(), 1, "the columns asked for and no other");
            assert!(seen.insert(hit.seq), "{} came twice", hit.seq);
        }
    }
    assert_eq!(seen.len() as u64, CRASHES);
}

#[test]
fn a_search_is_saved_under_a_name_and_read_as_a_feed() {
    let (server, ids) = world();
    let post = |path: &str, body: &str| {
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        server.request("POST", path, &kind, body.as_bytes())
    };
    let query = encoded("product=Gamma&_sort=-date");
    let saved = post("/search/save", &format!("name=my+gamma&query={query}"));
    assert_eq!(saved.status, 303, "{}", saved.text());
    post("/search/save", &format!("name=my+gamma&query={query}"));
    let page = server.get("/search/").text();
    assert_eq!(
        page.matches(">my gamma</a>").count(),
        1,
        "replaced, not doubled"
    );
    assert!(
        page.contains("/search/feed.atom?product=Gamma&amp;_sort=-date"),
        "{page}"
    );
    assert_eq!(post("/search/save", "name=&query=").status, 400);
    let feed = server.get("/search/feed.atom?product=Gamma");
    assert!(
        feed.header("content-type")
            .is_some_and(|t| t.starts_with("application/atom+xml"))
    );
    let text = feed.text();
    assert_eq!(text.matches("<entry>").count(), 1);
    assert!(
        text.contains(&format!("<id>urn:uuid:{}</id>", ids[3])),
        "{text}"
    );
    let python = "import sys, xml.dom.minidom as m; d = m.parse(sys.stdin.buffer); print(d.documentElement.tagName, len(d.getElementsByTagName('entry')))";
    let all = server.get("/search/feed.atom").body;
    assert_eq!(crate::clients::python("python3", python, &all), "feed 4");
    let forget = page.split("name=\"id\" value=\"").nth(1).expect("an id");
    let id = forget.split('"').next().expect("its end");
    assert_eq!(post("/search/forget", &format!("id={id}")).status, 303);
    assert!(!server.get("/search/").text().contains("my gamma"));
}

#[test]
fn what_a_search_finds_is_done_again_as_a_job() {
    let (server, ids) = world();
    let processed_at = |id: &str| server.processed(id)["completed_datetime"].clone();
    let before: Vec<Value> = ids.iter().map(|id| processed_at(id)).collect();
    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("query={}", encoded("product=Alpha"));
    let job = server.request("POST", "/api/Reprocessing/", &kind, body.as_bytes());
    assert_eq!(job.status, 200, "{}", job.text());
    let job = job.json();
    assert_eq!(
        (&job["kind"], &job["total"]),
        (&"reprocess".into(), &2.into())
    );
    assert_eq!(job["asked"], "local: product=Alpha");
    wait_for("the end of the job", || {
        let jobs = server.get("/api/Jobs/").json();
        (jobs["hits"][0]["ended"].is_string() && jobs["hits"][0]["done"] == 2).then_some(())
    });
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(processed_at(id) != before[at], at < 2, "{id}");
    }
    let nothing = server.request(
        "POST",
        "/api/Reprocessing/",
        &kind,
        b"query=product%3DNobody",
    );
    assert_eq!(nothing.json()["total"], 0);
    let bad = server.request("POST", "/api/Reprocessing/", &kind, b"query=nope%3D1");
    assert_eq!(bad.status, 400);
}

#[test]
fn a_sites_own_fields_are_counted_and_hidden_as_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let config = folder.path().join("other.toml");
    let dump = fixture("dumps/linux-x86_64-crash.dmp");
    let submit = |server: &Server, level: &str| {
        let annotations = [
            ("ProductName", "A"),
            ("GpuLevel", level),
            ("SecretThing", "hush"),
        ];
        let files: &[(&str, &str, &[u8])] = &[("upload_file_minidump", "x.dmp", &dump)];
        server.submit(&annotations, files).crash_id()
    };
    // The field also finds a crash from before it was configured.
    let mut server = Server::start_in(&data, &[]);
    submit(&server, "7");
    wait_found(&server, "annotation.GpuLevel=7", 1);
    assert_eq!(server.terminate(), Some(0));
    let text = "[[fields]]\nannotation = \"GpuLevel\"\nkind = \"integer\"\ntitle = \"GPU level\"\npublic = true\n\
        [[fields]]\nannotation = \"SecretThing\"\nname = \"secret\"\nkind = \"enum\"\n";
    std::fs::write(&config, text).expect("a file");
    let server = Server::start_in(&data, &["--config", config.to_str().expect("a plain path")]);
    submit(&server, "40");
    wait_found(&server, "gpu_level=>=8", 1);
    wait_found(&server, "gpu_level=<8", 1);
    assert_eq!(total(&server, "secret=hush"), 2);
    let found = server.get("/api/SuperSearch/?_facets=gpu_level&_facets=_histogram.gpu_level&_histogram_interval.gpu_level=10&_columns=gpu_level&_sort=-gpu_level").json();
    assert_eq!(found["hits"][0]["gpu_level"], 40);
    assert_eq!(
        found["facets"]["histogram_gpu_level"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let fields = server.get("/api/SuperSearchFields/").json();
    assert_eq!(fields["gpu_level"]["title"], "GPU level");
    assert_eq!(
        (
            &fields["gpu_level"]["is_protected"],
            &fields["secret"]["is_protected"]
        ),
        (&false.into(), &true.into())
    );
    drop(server);
    std::fs::write(&config, "[[fields]]\nannotation = \"ProductName\"\n").expect("a file");
    let refused = std::process::Command::new(crate::server::PROGRAM)
        .args(["config", "check", "--config"])
        .arg(&config)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains(":1") && said.contains("product"),
        "{said}"
    );
}

#[test]
fn every_described_endpoint_answers_and_its_description_is_whole() {
    let (server, ids) = world();
    let api = server.get("/api/openapi.json").json();
    let paths = api["paths"].as_object().expect("paths");
    assert!(paths.len() >= 25, "{}", paths.len());
    let page = server.get("/api/").text();
    for (path, methods) in paths {
        assert!(page.contains(path.as_str()), "{path} stands on the page");
        let Some(get) = methods.get("get") else {
            continue;
        };
        let mut query = String::new();
        for param in get["parameters"].as_array().expect("parameters") {
            if param["required"] == true {
                let name = param["name"].as_str().expect("a name");
                let value = if name == "crash_id" {
                    ids[0].as_str()
                } else {
                    "x"
                };
                query += &format!("{name}={value}&");
            }
        }
        let answer = server.get(&format!("{path}?{query}"));
        // These need one of two parameters.
        let wanted = if ["/api/Symbols/", "/api/Group/"].contains(&path.as_str()) {
            400
        } else {
            200
        };
        assert_eq!(answer.status, wanted, "{path}: {}", answer.text());
    }
    let verified = server
        .get(&format!("/api/CrashVerify/?crash_id={}", ids[0]))
        .json();
    for key in ["raw_crash", "processed_crash", "elasticsearch_crash"] {
        assert_eq!(verified[key], true, "{verified}");
    }
    let unknown = server.get("/api/CrashVerify/?crash_id=nonsense");
    assert_eq!(
        (unknown.status, unknown.json()["error"].clone()),
        (400, "unknown crash id".into())
    );
    let versions = server.get("/api/ProductVersions/?product=Alpha").json();
    let versions: Vec<&str> = versions["hits"]
        .as_array()
        .expect("hits")
        .iter()
        .filter_map(|hit| hit["version"].as_str())
        .collect();
    assert_eq!(versions, ["2.0b3", "1.0"]);
    assert_eq!(server.get("/api/MissingProcessedCrash/").json()["total"], 0);
    let counts = server.get("/api/ThrottleCounts/").json();
    let reports = counts["hits"].as_array().expect("hits").iter();
    assert_eq!(
        reports
            .filter_map(|hit| hit["reports"].as_u64())
            .sum::<u64>(),
        4
    );
    assert_eq!(
        server.get("/api/NoOp/?a=1&a=2").json()["params"]["a"],
        serde_json::json!(["1", "2"])
    );
}

#[test]
fn a_memory_report_becomes_fields() {
    use std::io::Write;
    let server = Server::start();
    let dump = fixture("dumps/linux-x86_64-firefox_esr.dmp");
    let plain = server.submit(
        &[("ProductName", "A")],
        &[("upload_file_minidump", "x.dmp", &dump)],
    );
    let plain = plain.crash_id();
    assert_eq!(server.wait_processed(&plain), "processed");
    let pid = server.processed(&plain)["json_dump"]["pid"].clone();
    let report = serde_json::json!({ "version": 1, "reports": [
        { "process": format!("Main (pid {pid})"), "path": "resident", "kind": 2, "units": 0, "amount": 123_456, "description": "" },
        { "process": "web (pid 1)", "path": "resident", "kind": 2, "units": 0, "amount": 1, "description": "" },
    ]});
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed
        .write_all(report.to_string().as_bytes())
        .expect("memory");
    let packed = packed.finish().expect("memory");
    let files: &[(&str, &str, &[u8])] = &[
        ("upload_file_minidump", "x.dmp", &dump),
        ("memory_report", "memory.json.gz", &packed),
    ];
    let with = server.submit(&[("ProductName", "B")], files).crash_id();
    assert_eq!(server.wait_processed(&with), "processed");
    assert_eq!(
        server.processed(&with)["memory_measures"]["resident"],
        123_456
    );
    wait_found(&server, "memory_resident=>100000", 1);
    let raw = server.get(&format!(
        "/api/RawCrash/?crash_id={with}&format=raw&name=memory_report"
    ));
    assert_eq!(raw.body, packed);
    let broken: &[(&str, &str, &[u8])] = &[
        ("upload_file_minidump", "x.dmp", &dump),
        ("memory_report", "memory.json.gz", b"no gzip"),
    ];
    let broken = server.submit(&[("ProductName", "C")], broken).crash_id();
    assert_eq!(server.wait_processed(&broken), "processed");
    assert!(server.processed(&broken)["memory_report_error"].is_string());
}

#[test]
fn the_index_is_built_again_at_the_press_of_a_button() {
    let (server, _) = world();
    let page = server.get("/status/").text();
    assert!(page.contains("action=\"/status/reindex\""), "{page}");
    let pressed = server.request("POST", "/status/reindex", &[], b"");
    assert_eq!(
        (pressed.status, pressed.header("location")),
        (303, Some("/status/"))
    );
    // It answers during the build, and gives the same answers afterwards.
    wait_for("the end of the building", || {
        assert_eq!(total(&server, "product=Alpha"), 2);
        let answer = server.get("/api/SuperSearch/").json();
        answer.get("rebuilding").is_none().then_some(())
    });
    assert_eq!(total(&server, ""), 4);
}
