//! `POST /symbolicate/v5`: symbolicates the addresses of stacks. The answer has Eliot's format.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::app::App;
use crate::limits;
use crate::stackwalk::{Named, Question};
use crate::web::{Captures, Request, Response, WebError};

/// Accepts one job at the top level, or several under `jobs`.
///
/// # Errors
/// 400 if the body is not a valid job or exceeds a limit. 503 if the process that reads the symbols failed or
/// took too long; the client can try again later, or with fewer frames.
pub(crate) fn v5(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| WebError::new(400, format!("the body is not valid JSON: {error}")))?;
    let jobs: Vec<&Value> = match body.get("jobs") {
        Some(Value::Array(jobs)) => jobs.iter().collect(),
        Some(_) => return Err(WebError::bad("jobs", "jobs must be a list")),
        None => vec![&body],
    };
    if jobs.len() > limits::SYMBOLICATE_JOBS_MAX {
        let why = format!(
            "{} jobs in one request; the limit is {}; send several requests",
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
                format!("{count} {what} in one request; the limit is {max}; send several requests");
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
    /// For each frame: the position of its module in `modules`, if any, and the offset in the module.
    stacks: Vec<Vec<(Option<usize>, u64)>>,
}

impl Job {
    fn read(job: &Value) -> Result<Self, WebError> {
        let list = |name: &'static str| {
            let missing = || WebError::bad(name, format!("a job has no list {name}"));
            job.get(name).and_then(Value::as_array).ok_or_else(missing)
        };
        let mut modules = Vec::new();
        for module in list("memoryMap")? {
            let pair = module.as_array().filter(|pair| pair.len() == 2);
            let text = |at: usize| pair?[at].as_str().map(str::to_owned);
            let (Some(file), Some(id)) = (text(0), text(1)) else {
                let form = "invalid module; the form is [\"debug file\", \"debug id\"]";
                return Err(WebError::bad("memoryMap", form));
            };
            modules.push((file, id));
        }
        if modules.len() > limits::SYMBOLICATE_MODULES_MAX {
            let why = format!(
                "{} modules in one job; the limit is {}",
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
                    let form =
                        "invalid stack; the form is a list of [index in memoryMap or -1, offset]";
                    return Err(WebError::bad("stacks", form));
                }
            }
        }
        Ok(Self { modules, stacks })
    }

    fn result(&self, app: &App) -> Result<Value, WebError> {
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
        let questions: Vec<Question> = wanted
            .iter()
            .map(|(module, places)| {
                let (file, id) = &self.modules[*module];
                let offsets = places.iter().map(|&(stack, at)| self.stacks[stack][at].1);
                Question {
                    debug_file: file.clone(),
                    debug_id: id.to_ascii_uppercase(),
                    offsets: offsets.collect(),
                }
            })
            .collect();
        let answers = if questions.is_empty() {
            Vec::new()
        } else {
            app.namer.names(&questions).map_err(|error| {
                tracing::error!(%error, "symbolication failed");
                WebError::new(
                    503,
                    format!("{error}; try again later, or with fewer frames"),
                )
            })?
        };
        for ((module, places), names) in wanted.into_iter().zip(answers) {
            let (file, id) = &self.modules[module];
            found.insert(format!("{file}/{id}"), names.is_some().into());
            for ((stack, at), named) in places.into_iter().zip(names.into_iter().flatten()) {
                if let Some(named) = named {
                    fill(&mut stacks[stack][at], named, self.stacks[stack][at].1);
                }
            }
        }
        Ok(json!({ "stacks": stacks, "found_modules": found }))
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

fn fill(frame: &mut Value, named: Named, offset: u64) {
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
