//! The questions, as parameters of a search and as SQL.

use crashkeep::clock::{DAY_MS, Timestamp};
use crashkeep::index::{FacetResult, SearchResult};
use serde_json::{Value as Json, json};

use super::crashes::{DAYS, END, PRODUCTS, Site};

pub struct Variant {
    pub params: String,
    pub statements: Vec<(String, Vec<Json>)>,
}

pub struct Question {
    pub name: String,
    pub target_ms: u32,
    /// The counts of the first statement, read from our answer.
    counts: fn(&SearchResult) -> Vec<u64>,
    pub variants: Vec<Variant>,
}

impl Question {
    /// Checks that both sides counted the same.
    pub fn compare(&self, result: &SearchResult, mut theirs: Vec<u64>, params: &str) {
        let mut ours = (self.counts)(result);
        ours.sort_unstable();
        theirs.sort_unstable();
        if let Some((_, FacetResult::Estimate { value, error })) = result.facets.first() {
            let off = value.abs_diff(theirs[0]);
            assert!(
                off <= *error,
                "{params}: {value} is off by {off}, more than {error}"
            );
            return;
        }
        assert_eq!(ours, theirs, "{params}");
    }
}

fn first_facet(result: &SearchResult) -> Vec<u64> {
    match &result.facets[0].1 {
        FacetResult::Buckets(buckets) => buckets.iter().map(|bucket| bucket.count).collect(),
        FacetResult::Cardinality(value) | FacetResult::Estimate { value, .. } => vec![*value],
    }
}

fn total(result: &SearchResult) -> Vec<u64> {
    vec![result.total]
}

/// SQLite returns only the rows and not the total.
fn rows(result: &SearchResult) -> Vec<u64> {
    vec![0; result.hits.len()]
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn span(from_ms: i64, to_ms: i64) -> String {
    let [from, to] = [from_ms, to_ms].map(|ms| Timestamp::from_ms(ms).rfc3339());
    format!("date=%3E%3D{from}&date=%3C{to}")
}

pub fn all(site: &Site) -> Vec<Question> {
    let all_days = span(END.ms() - (DAYS + 1) * DAY_MS, END.ms());
    let mut questions = crashers();
    questions.extend(broad(&all_days));
    questions.extend(signatures(site, &all_days));
    questions.push(newest(&all_days));
    questions.push(phrase(site, &all_days));
    questions
}

/// Top crashers: one product, three versions, seven days.
fn crashers() -> Vec<Question> {
    let (mut plain, mut split) = (vec![], vec![]);
    for (product, _) in &PRODUCTS[..4] {
        for back in 0..5 {
            let to = END.ms() - back * 11 * DAY_MS;
            let from = to - 7 * DAY_MS;
            let week = (DAYS * DAY_MS - (END.ms() - to)) / (7 * DAY_MS) + 3;
            let versions: Vec<String> = (week - 2..=week)
                .map(|week| Site::version(product, week))
                .collect();
            let mut params = format!(
                "{}&product={}&_results_number=0",
                span(from, to),
                encoded(product)
            );
            versions
                .iter()
                .for_each(|v| params.push_str(&format!("&version={v}")));
            let mut values = vec![json!(product), json!(from), json!(to)];
            values.extend(versions.iter().map(|v| json!(v)));
            let matching =
                "from crash where product = ? and date >= ? and date < ? and version in (?, ?, ?)";
            plain.push(Variant {
                params: format!("{params}&_facets=signature"),
                statements: vec![(
                    format!("select signature, count(*) n {matching} group by 1 order by n desc limit 50"),
                    values.clone(),
                )],
            });
            split.push(Variant {
                params: format!("{params}&_aggs.signature=platform&_aggs.signature=_cardinality.install_time&_facets=signature"),
                statements: vec![
                    (
                        format!("select signature, count(*) n, count(distinct install_time) {matching} group by 1 order by n desc limit 50"),
                        values.clone(),
                    ),
                    (
                        format!("select signature, platform, count(*) {matching} and signature in ({{top}}) group by 1, 2"),
                        values,
                    ),
                ],
            });
        }
    }
    let question = |name: &str, target_ms, variants| Question {
        name: name.into(),
        target_ms,
        counts: first_facet,
        variants,
    };
    vec![
        question("top_crashers", 25, plain),
        question("top_crashers_split", 50, split),
    ]
}

/// One count over all crashes.
fn broad(all_days: &str) -> Vec<Question> {
    let question = |name: &str, params: &str, sql: &str| Question {
        name: format!("all_{name}"),
        target_ms: 100,
        counts: first_facet,
        variants: vec![Variant {
            params: format!("{all_days}&_results_number=0&_facets={params}"),
            statements: vec![(sql.to_owned(), vec![])],
        }],
    };
    let by = |field: &str| {
        question(
            field,
            field,
            &format!(
                "select {field}, count(*) n from crash where {field} is not null group by 1 order by n desc limit 50"
            ),
        )
    };
    vec![
        by("signature"),
        by("version"),
        by("platform"),
        by("process_type"),
        by("reason"),
        by("address"),
        question(
            "days",
            "_histogram.date",
            "select date / 86400000 d, count(*) from crash group by 1",
        ),
        question(
            "installs",
            "_cardinality.install_time",
            "select 0, count(distinct install_time) from crash",
        ),
        question(
            "signatures",
            "_cardinality.signature",
            "select 0, count(distinct signature) from crash",
        ),
    ]
}

fn signatures(site: &Site, all_days: &str) -> Vec<Question> {
    let (mut contains, mut regex) = (vec![], vec![]);
    for rank in (0..20).map(|n| n * n * 7 + 3) {
        let text = site.signature(rank);
        let own = text.rsplit(" | ").next().unwrap_or(text);
        let words: Vec<&str> = own
            .split(|c: char| !c.is_alphanumeric())
            .filter(|w| !w.is_empty())
            .collect();
        let (first, last) = (words[0], words[words.len() - 1]);
        let statements = |glob: String| {
            let matching = "signature in (select id from signature where text glob ?)";
            vec![
                (
                    format!("select 0, count(*) from crash where {matching}"),
                    vec![json!(glob)],
                ),
                (
                    format!(
                        "select c.seq, c.date, s.text, c.product, c.version from crash c join signature s on s.id = c.signature where c.{matching} order by c.date desc limit 100"
                    ),
                    vec![json!(glob)],
                ),
            ]
        };
        contains.push(Variant {
            params: format!("{all_days}&_facets=&signature=~{}", encoded(words[1])),
            statements: statements(format!("*{}*", words[1])),
        });
        regex.push(Variant {
            params: format!(
                "{all_days}&_facets=&signature={}",
                encoded(&format!("@.*{first}.*{last}.*"))
            ),
            statements: statements(format!("*{first}*{last}*")),
        });
    }
    let question = |name: &str, variants| Question {
        name: name.into(),
        target_ms: 15,
        counts: total,
        variants,
    };
    vec![
        question("signature_contains", contains),
        question("signature_regex", regex),
    ]
}

fn newest(all_days: &str) -> Question {
    let variants = PRODUCTS.iter().map(|(product, _)| Variant {
        params: format!("{all_days}&_facets=&product={}", encoded(product)),
        statements: vec![(
            "select c.seq, 0, c.date, s.text, c.product, c.version from crash c join signature s on s.id = c.signature where c.product = ? order by c.date desc limit 100".into(),
            vec![json!(product)],
        )],
    });
    Question {
        name: "newest_100".into(),
        target_ms: 10,
        counts: rows,
        variants: variants.collect(),
    }
}

/// A function anywhere in the stacks, and the signatures of those crashes.
fn phrase(site: &Site, all_days: &str) -> Question {
    let variants = (0..20).map(|n| {
        let text = site.signature(n * n * 9 + 1);
        let function = text.rsplit(" | ").next().unwrap_or(text);
        let function = function.split('<').next().unwrap_or(function);
        Variant {
            params: format!("{all_days}&_results_number=0&_facets=signature&q={}", encoded(&format!("\"{function}\""))),
            statements: vec![(
                "select signature, count(*) n from crash where seq in (select rowid from words where words match ?) group by 1 order by n desc limit 50".into(),
                vec![json!(format!("\"{}\"", function.replace(|c: char| !c.is_alphanumeric(), " ")))],
            )],
        }
    });
    Question {
        name: "phrase".into(),
        target_ms: 40,
        counts: first_facet,
        variants: variants.collect(),
    }
}
