//! Looks up the functions of single addresses, for clients that have a stack but no dump.
//!
//! A server maps no files ([`crate::symbols::Map`]), and symbols may be too large for its own memory. So it
//! has the modules mapped, and starts a child of the same binary, restricted like a walker. The child looks
//! up the addresses and ends. Its start takes some milliseconds, whatever the size of the symbols.

use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use breakpad_symbols::SimpleModule;
use minidump_unwind::FrameSymbolizer;
use serde::{Deserialize, Serialize};

use super::answers;
use super::cache::{Lookup, SymbolCache, Unmapped};
use super::mode::Mode;
use super::sandbox::{self, Limits};
use crate::child;
use crate::symbols::SymbolDirs;
use crate::symbols::mapped::MappedDir;

/// Time limit of one request, without conversions.
const DEADLINE: Duration = Duration::from_secs(30);
/// Memory of the child.
const HEAP_BYTES: u64 = 512 << 20;
/// Texts that are not mapped are converted in the child's memory, up to a quarter of it.
const HELD_TEXT_BYTES_MAX: u64 = HEAP_BYTES / 4;

/// Addresses in a module, relative to its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) debug_file: String,
    pub(crate) debug_id: String,
    pub(crate) offsets: Vec<u64>,
}

/// The function at each address. The inner `None` means that the address is in no function, the outer one
/// that the module has no symbols.
pub(crate) type Names = Option<Vec<Option<Named>>>;

/// Starts a child for each request.
pub(crate) struct Namer {
    /// The `crashkeep` binary itself.
    pub(crate) program: PathBuf,
    /// Symbol folders. The first one that has a file wins.
    pub(crate) symbols: Vec<PathBuf>,
    /// The folder of mapped symbols; `None` if nothing may be written.
    pub(crate) mapped: Option<Arc<MappedDir>>,
}

impl Namer {
    /// Answers each question, in order.
    ///
    /// # Errors
    /// The child could not be started, took too long or died. No question is answered then.
    pub(crate) fn names(&self, questions: &[Question]) -> io::Result<Vec<Names>> {
        let dirs = SymbolDirs::new(self.symbols.clone());
        for question in questions {
            if let Some(mapped) = &self.mapped
                && let Err(error) = mapped.convert(&dirs, &question.debug_file, &question.debug_id)
            {
                // The child may still convert it in memory.
                tracing::warn!(debug_file = question.debug_file, %error, "symbols cannot be mapped");
            }
        }
        let mut input = tempfile::tempfile()?;
        serde_json::to_writer(&mut input, questions)?;
        input.rewind()?;
        let mut output = tempfile::tempfile()?;
        let mut command = Command::new(&self.program);
        command.arg("name-addresses");
        for folder in &self.symbols {
            command.arg("--symbols").arg(folder);
        }
        if let Some(mapped) = &self.mapped {
            command.arg("--mapped").arg(mapped.root());
        }
        command
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::null())
            .env_clear();
        let status = child::run(&mut command, DEADLINE)?;
        if !status.is_some_and(|status| status.success()) {
            let end = match status {
                Some(status) => format!("ended by {status}"),
                None => format!("took longer than {} s", DEADLINE.as_secs()),
            };
            return Err(io::Error::other(format!("the look-up of addresses {end}")));
        }
        output.rewind()?;
        Ok(serde_json::from_reader(io::BufReader::new(output))?)
    }
}

/// The child's side: restricts this process, then answers the questions on `input`.
///
/// # Errors
/// The process cannot limit itself, the input is not a list of questions, or the output cannot be written.
/// The parent gets no answer.
pub(crate) fn serve_names(
    symbols: Vec<PathBuf>,
    mapped: Option<PathBuf>,
    input: impl Read,
    output: impl Write,
) -> io::Result<()> {
    sandbox::set_limits(&Limits {
        heap_bytes: Some(HEAP_BYTES),
        address_bytes: None,
    })?;
    sandbox::allow_cpu(DEADLINE.as_secs())?;
    let mut folders = symbols.clone();
    folders.extend(mapped.clone());
    sandbox::restrict(&folders);
    let cache = SymbolCache::new(SymbolDirs::new(symbols), 0)
        .with_mapped(mapped, 0)
        .with_held_text_bytes_max(HELD_TEXT_BYTES_MAX);
    let questions: Vec<Question> = serde_json::from_reader(io::BufReader::new(input))?;
    // One module at a time, because together they may not fit into memory.
    let answers: Vec<Names> = questions
        .iter()
        .map(|question| names(&cache, question))
        .collect();
    let mut output = io::BufWriter::new(output);
    serde_json::to_writer(&mut output, &answers)?;
    output.flush()
}

fn names(cache: &SymbolCache, question: &Question) -> Names {
    let found = cache.find(&question.debug_file, &question.debug_id, Unmapped::Convert);
    let Lookup::Found(symbols) = found else {
        return None;
    };
    let module = SimpleModule {
        base_address: Some(0),
        code_file: Some(question.debug_file.clone()),
        ..SimpleModule::default()
    };
    let name = |&offset: &u64| {
        let mut address = Address {
            offset,
            named: None,
        };
        answers::fill_symbol(&symbols, &module, &mut address, Mode::True);
        address.named
    };
    Some(question.offsets.iter().map(name).collect())
}

/// The function at an address, and the place in its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) function: String,
    /// Start of the function, relative to the start of its module.
    pub(crate) function_start: u64,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    /// Inlined calls at the address, from the innermost outwards.
    pub(crate) inlines: Vec<Inlined>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inlined {
    pub(crate) function: String,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

struct Address {
    offset: u64,
    named: Option<Named>,
}

impl FrameSymbolizer for Address {
    fn get_instruction(&self) -> u64 {
        self.offset
    }

    fn set_function(&mut self, name: &str, base: u64, _parameter_size: u32) {
        let named = self.named.get_or_insert_default();
        named.function = name.to_owned();
        named.function_start = base;
    }

    fn set_source_file(&mut self, file: &str, line: u32, _base: u64) {
        let named = self.named.get_or_insert_default();
        named.file = Some(file.to_owned());
        named.line = Some(line);
    }

    fn add_inline_frame(&mut self, name: &str, file: Option<&str>, line: Option<u32>) {
        let inlined = Inlined {
            function: name.to_owned(),
            file: file.map(str::to_owned),
            line,
        };
        // They arrive from the outermost inwards.
        self.named
            .get_or_insert_default()
            .inlines
            .insert(0, inlined);
    }
}
