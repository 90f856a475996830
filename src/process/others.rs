//! Dumps other than the main one, of processes that the crashing process killed or waited for. They are
//! walked, stored and shown. The crash itself is described only by the main dump.

use serde_json::json;

use super::draft::{Draft, STACKWALK_VERSION, Walked};
use crate::crash::processed::OTHER_DUMP_PREFIX;
use crate::crash::walk::Walk;

pub(crate) fn read_walks(draft: &mut Draft) -> Result<(), String> {
    for (name, walked) in &draft.input.others {
        match walked {
            Walked::Whole(json) => {
                let walk: Walk = serde_json::from_slice(json)
                    .map_err(|error| format!("the walk of {name} cannot be read: {error}"))?;
                draft.note_lacks(&walk, &format!("{name}: "));
                draft.other_walks.push(walk);
            }
            Walked::NoDump => {}
            Walked::Unreadable { why, .. } => {
                draft.notes.push(format!("{name} cannot be walked: {why}"));
            }
            Walked::GivenUp { why, .. } => {
                draft.notes.push(format!("{name} was not processed: {why}"));
            }
        }
    }
    Ok(())
}

/// Inserts the walk of each dump into the object `json`, under the name of the dump, as in Socorro.
pub(crate) fn write(others: &[(String, Walked)], json: &mut Vec<u8>) {
    for (name, walked) in others {
        let (status, walk) = match walked {
            Walked::Whole(walk) => ("OK", Some(walk)),
            Walked::NoDump => continue,
            Walked::Unreadable { status, .. } | Walked::GivenUp { status, .. } => {
                (status.as_str(), None)
            }
        };
        let head = json!({
            "success": walk.is_some(),
            "mdsw_status_string": status,
            "stackwalk_version": STACKWALK_VERSION,
        });
        json.pop();
        json.push(b',');
        json.extend_from_slice(json!(key(name)).to_string().as_bytes());
        json.push(b':');
        json.extend_from_slice(head.to_string().as_bytes());
        if let Some(walk) = walk {
            // The JSON is copied unchanged, for the same reason as that of the main dump.
            json.pop();
            json.extend_from_slice(b",\"json_dump\":");
            json.extend_from_slice(walk.trim_ascii());
            json.push(b'}');
        }
        json.push(b'}');
    }
}

/// Clients choose the names of dumps. A name must not become another key of a processed crash.
fn key(name: &str) -> String {
    if name.starts_with(OTHER_DUMP_PREFIX) {
        name.to_owned()
    } else {
        format!("{OTHER_DUMP_PREFIX}{name}")
    }
}
