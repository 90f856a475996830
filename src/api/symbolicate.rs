//! `POST /symbolicate/v5`: names the addresses of stacks, as Eliot answers it.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use serde_json::{Map, Value, json};

use crate::limits::{self, SYMBOLICATE_TEXT_BYTES_MAX};
use crate::stackwalk::ModuleNames;
use crate::web::{App, Request, Response, WebError};

/// One job at the top, or several under `jobs`.
pub fn v5(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| WebError::new(400, format!("the body is no JSON: {error}")))?;
    let jobs: Vec<&Value> = match body.get("jobs") {
        Some(Value::Array(jobs)) => jobs.iter().collect(),
        Some(_) => return Err(WebError::bad("jobs", "jobs must be a list")),
        None => vec![&body],
    };
    if jobs.len() > limits::SYMBOLICATE_JOBS_MAX {
        let why = format!(
            "{} jobs are more than {} in one request; send them in parts",
            jobs.len(),
            limits::SYMBOLICATE_JOBS_MAX
        );
        return Err(WebError::bad("jobs", why));
    }
    let jobs: Vec<Job> = jobs.into_iter().map(Job::read).collect::<Result<_, _>>()?;
    let frames: usize = jobs.iter().flat_map(|job| &job.stacks).map(Vec::len).sum();
    let stacks: usize = jobs.iter().map(|job| job.stacks.len()).sum();
    for (what, count, max) in [
        ("stacks", stacks, limits::SYMBOLICATE_STACKS_MAX),
        ("frames", frames, limits::SYMBOLICATE_FRAMES_MAX),
    ] {
        if count > max {
            let why =
                format!("{count} {what} are more than {max} in one request; send them in parts");
            return Err(WebError::bad("stacks", why));
        }
    }
    let results: Result<Vec<Value>, WebError> = jobs.iter().map(|job| job.result(app)).collect();
    let results = results?;
    Ok(Response::json(&json!({ "results": results })))
}

struct Job {
    /// Debug file and debug id of each module.
    modules: Vec<(String, String)>,
    /// Of each frame the module's place in `modules`, if it has one, and the offset in it.
    stacks: Vec<Vec<(Option<usize>, u64)>>,
}

impl Job {
    fn read(job: &Value) -> Result<Self, WebError> {
        let list = |name: &'static str| {
            let missing = || WebError::bad(name, format!("each job needs a list {name}"));
            job.get(name).and_then(Value::as_array).ok_or_else(missing)
        };
        let mut modules = Vec::new();
        for module in list("memoryMap")? {
            let pair = module.as_array().filter(|pair| pair.len() == 2);
            let text = |at: usize| pair?[at].as_str().map(str::to_owned);
            let (Some(file), Some(id)) = (text(0), text(1)) else {
                let form = "a module is [\"debug file\", \"debug id\"]";
                return Err(WebError::bad("memoryMap", form));
            };
            modules.push((file, id));
        }
        if modules.len() > limits::SYMBOLICATE_MODULES_MAX {
            let why = format!(
                "{} modules are more than {} in one job",
                modules.len(),
                limits::SYMBOLICATE_MODULES_MAX
            );
            return Err(WebError::bad("memoryMap", why));
        }
        let mut stacks = Vec::new();
        for stack in list("stacks")? {
            let frames = stack.as_array().into_iter().flatten();
            let read: Option<Vec<_>> = frames
                .map(|frame| read_frame(frame, modules.len()))
                .collect();
            match read {
                Some(frames) if stack.is_array() => stacks.push(frames),
                _ => {
                    let form = "a stack is a list of [place in memoryMap or -1, offset]";
                    return Err(WebError::bad("stacks", form));
                }
            }
        }
        Ok(Self { modules, stacks })
    }

    fn result(&self, app: &App) -> Result<Value, WebError> {
        // One module's symbols at a time: a job may name more than fit.
        let mut wanted: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        let mut stacks: Vec<Vec<Value>> = Vec::new();
        for (at_stack, stack) in self.stacks.iter().enumerate() {
            let mut frames = Vec::new();
            for (at, (module, offset)) in stack.iter().enumerate() {
                let name = module.map_or("<unknown>", |module| &self.modules[module].0);
                frames.push(json!({
                    "frame": at,
                    "module": name,
                    "module_offset": format!("{offset:#x}"),
                }));
                if let Some(module) = module {
                    wanted.entry(*module).or_default().push((at_stack, at));
                }
            }
            stacks.push(frames);
        }
        let mut found: Map<String, Value> = self
            .modules
            .iter()
            .map(|(file, id)| (format!("{file}/{id}"), Value::Null))
            .collect();
        for (module, places) in wanted {
            let (file, id) = &self.modules[module];
            check_size(app, file, id)?;
            let cache = app.names.lock().unwrap_or_else(PoisonError::into_inner);
            let names = ModuleNames::of(&cache, file, &id.to_ascii_uppercase());
            found.insert(format!("{file}/{id}"), names.is_found().into());
            for (stack, frame) in places {
                let offset = self.stacks[stack][frame].1;
                fill(&mut stacks[stack][frame], &names, offset);
            }
        }
        Ok(json!({ "stacks": stacks, "found_modules": found }))
    }
}

/// Symbols are read whole into the server's memory; a walker's may be larger.
fn check_size(app: &App, debug_file: &str, debug_id: &str) -> Result<(), WebError> {
    let found = app
        .symbol_dirs
        .find(debug_file, &debug_id.to_ascii_uppercase());
    match found.and_then(|file| file.text_bytes().ok()) {
        Some(bytes) if bytes > SYMBOLICATE_TEXT_BYTES_MAX => Err(WebError::new(
            413,
            format!(
                "symbols of {debug_file} are {bytes} bytes, more than {SYMBOLICATE_TEXT_BYTES_MAX} that are read for single addresses; fetch them under /symbols/"
            ),
        )),
        _ => Ok(()),
    }
}

fn read_frame(frame: &Value, modules: usize) -> Option<(Option<usize>, u64)> {
    let pair = frame.as_array().filter(|pair| pair.len() == 2)?;
    let offset = pair[1].as_u64()?;
    match pair[0].as_i64()? {
        -1 => Some((None, offset)),
        module => {
            let module = usize::try_from(module).ok().filter(|m| *m < modules)?;
            Some((Some(module), offset))
        }
    }
}

fn fill(frame: &mut Value, names: &ModuleNames, offset: u64) {
    let Some(named) = names.at(offset) else {
        return;
    };
    frame["function"] = named.function.into();
    let function_offset = offset.saturating_sub(named.function_start);
    frame["function_offset"] = format!("{function_offset:#x}").into();
    if let Some(file) = named.file {
        frame["file"] = file.into();
    }
    if let Some(line) = named.line {
        frame["line"] = line.into();
    }
    if !named.inlines.is_empty() {
        let inlines = named.inlines.into_iter().map(|inlined| {
            json!({ "function": inlined.function, "file": inlined.file, "line": inlined.line })
        });
        frame["inlines"] = inlines.collect();
    }
}
