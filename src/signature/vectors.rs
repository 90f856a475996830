//! Checks that the results are the same as siggen's recorded results.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::value::Value;
use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signatures")
}

fn generator() -> Generator {
    Generator::new(Ruleset::Socorro, Arc::new(Lists::builtin()))
}

/// The notes, except those that quote Python's exceptions.
fn plain_notes<'n>(notes: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let is_quote = |note: &&str| {
        note.contains("Rule failed:") || note.contains("Error parsing AsyncShutdownTimeout")
    };
    notes.filter(|note| !is_quote(note)).collect()
}

/// Describes the difference between a result and the expected one.
fn difference(signature: &Signature, expected: &serde_json::Value) -> Option<String> {
    let strings = |key: &str| -> Vec<&str> {
        let list = expected[key]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        list.iter().filter_map(|item| item.as_str()).collect()
    };
    if Some(&*signature.text) != expected["signature"].as_str() {
        return Some(format!("signature {:?}", signature.text));
    }
    let proto = expected
        .get("proto_signature")
        .or_else(|| expected["extra"].get("proto_signature"));
    if signature.proto.as_deref() != proto.and_then(|proto| proto.as_str()) {
        return Some(format!("proto signature {:?}", signature.proto));
    }
    let mut rules = strings("rules");
    rules.retain(|rule| !rule.ends_with("!failed"));
    if expected.get("rules").is_some() && signature.decided_by != rules {
        return Some(format!("rules {:?}", signature.decided_by));
    }
    let notes = plain_notes(signature.notes.iter().map(String::as_str));
    if notes != plain_notes(strings("notes").into_iter())
        || signature.notes.len() != strings("notes").len()
    {
        return Some(format!("notes {:?}", signature.notes));
    }
    None
}

#[test]
fn every_recorded_answer_of_siggen_comes_out() {
    let file = std::fs::File::open(fixtures().join("visible.jsonl.gz")).unwrap();
    let mut vectors = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut vectors)
        .unwrap();
    let generator = generator();
    let mut count = 0;
    let mut differences = Vec::new();
    for line in vectors.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        // Read in two ways: as text, like a command, and as a value, like a server.
        let whole = Value::parse(line).unwrap();
        let data = CrashData::from_value(whole.get("input").unwrap().clone());
        let signature = generator.generate(&data);
        if let Some(difference) = difference(&signature, &vector["expected"]) {
            differences.push(format!(
                "{}: {difference}, not {}",
                vector["id"], vector["expected"]
            ));
        }
        count += 1;
    }
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert_eq!(count, 3602);
}

#[test]
fn converted_stackwalks_are_named_as_siggen_names_them() {
    let generator = generator();
    let mut count = 0;
    for entry in std::fs::read_dir(fixtures().join("convert")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_str().unwrap();
        let Some(stem) = name.strip_suffix(".siggen-input.json") else {
            continue;
        };
        let read = |name: &str| -> serde_json::Value {
            serde_json::from_str(&std::fs::read_to_string(name).unwrap()).unwrap()
        };
        let input = read(name);
        let signature = generator.generate(&CrashData::from_json(&input));
        let expected = read(&format!("{stem}.expected.json"));
        assert_eq!(
            difference(&signature, &expected),
            None,
            "{stem}: {expected}"
        );
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn a_list_folder_does_not_reach_the_watchdog() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "irrelevant_signature_re.txt",
        "prefix_signature_re.txt",
        "signatures_with_line_numbers_re.txt",
        "signature_sentinels.txt",
    ] {
        std::fs::write(folder.path().join(name), "nothing_like_it\n").unwrap();
    }
    let lists = Arc::new(Lists::load(folder.path()).unwrap());
    let generator = Generator::new(Ruleset::Socorro, lists);
    let check = |crashing: &str, expected: &str| {
        let text = format!(
            r#"{{"crashing_thread":{crashing},"threads":[{{"frames":[{{"function":"memcpy"}},{{"function":"f"}}]}},
            {{"frames":[{{"function":"RunWatchdog"}}]}}]}}"#
        );
        assert_eq!(
            generator.generate(&CrashData::parse(&text).unwrap()).text,
            expected
        );
    };
    check("0", "memcpy");
    check("1", "shutdownhang | memcpy | f");
}

#[test]
fn a_ruleset_reads_back_as_it_prints() {
    for ruleset in [Ruleset::Socorro, Ruleset::Crashkeep] {
        assert_eq!(ruleset.to_string().parse(), Ok(ruleset));
    }
    assert!("Socorro".parse::<Ruleset>().is_err());
}
