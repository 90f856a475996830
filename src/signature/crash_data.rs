//! The input of a signature: siggen's crash data, as types.
//!
//! A server fills these structs directly. JSON text is read with [`CrashData::parse`], and a parsed value is
//! converted with [`CrashData::from_value`] or [`CrashData::from_json`]. Every key is optional, `Value::Null`
//! means that a key is absent, and unknown keys are ignored. A value that cannot be a thread or a frame is
//! kept as *unreadable* with the reason, because a rule must fail only when it reaches this value.

use std::borrow::Cow;

use super::json::{self, JsonError, Shape, Source};
use super::value::{Fault, Value};
use crate::crash::walk::Location;

/// The data of one crash that its signature depends on.
///
/// Source: the keys of siggen's crash data schema. In Socorro's conversion, `reason` is `crash_info.type` and
/// `os` is `system_info.os` of the walked dump.
#[derive(Clone, Debug, Default)]
pub struct CrashData<'a> {
    /// Index into `threads`. A negative index counts from the end. A value that is not a number counts as 0.
    pub(crate) crashing_thread: Value<'a>,
    pub(crate) threads: Vec<Thread<'a>>,
    /// Exactly `Windows NT` makes module names lower-case.
    pub(crate) os: Value<'a>,
    pub(crate) reason: Value<'a>,
    /// **Units**: bytes.
    pub(crate) oom_allocation_size: Value<'a>,
    pub(crate) js_large_allocation_failure: Value<'a>,
    pub(crate) abort_message: Value<'a>,
    /// A text that contains JSON.
    pub(crate) async_shutdown_timeout: Value<'a>,
    pub(crate) ipc_channel_error: Value<'a>,
    pub(crate) ipc_message_name: Value<'a>,
    /// A list of dump names.
    pub(crate) additional_minidumps: Value<'a>,
    /// Any value except null makes this a hang.
    pub(crate) hang: Value<'a>,
    pub(crate) mdsw_status_string: Value<'a>,
    pub(crate) java_stack_trace: Value<'a>,
    /// An object in the form of Sentry's exception interface.
    pub(crate) java_exception: Value<'a>,
    /// The product whose site rules apply. siggen has no site rules and does not read this.
    pub(crate) product: Cow<'a, str>,
}

/// One thread's stack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thread<'a> {
    /// Callee first.
    pub frames: Vec<Frame<'a>>,
    pub(crate) last_error_value: Value<'a>,
    /// The result for the frames, if it was computed before: the signature, and whether it contains no frame.
    /// The frames are not looked at then.
    pub(super) composed: Option<(String, bool)>,
    /// Why the frames cannot be iterated.
    pub(crate) unreadable: Option<Fault>,
    /// Whether this is not a thread. Null and other falsy values are not threads, as if the key were absent.
    pub(crate) is_malformed: bool,
}

/// One physical frame, with the calls that were inlined into it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame<'a> {
    pub(crate) function: Value<'a>,
    pub(crate) module: Value<'a>,
    /// A path, or `vcs:root:path:revision`.
    pub(crate) file: Value<'a>,
    pub(crate) line: Value<'a>,
    /// Hexadecimal text: the address relative to the module.
    pub(crate) module_offset: Value<'a>,
    /// Hexadecimal text: the absolute address.
    pub(crate) offset: Value<'a>,
    /// Innermost first.
    pub(crate) inlines: Vec<Inline<'a>>,
    pub(crate) unloaded_modules: Vec<UnloadedModule<'a>>,
    /// Whose folder the module is in. siggen does not read this.
    pub(crate) location: Option<Location>,
    /// Why this is not a frame.
    pub(crate) unreadable: Option<Fault>,
}

/// A call that the compiler inlined into a frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inline<'a> {
    pub(crate) function: Value<'a>,
    pub(crate) file: Value<'a>,
    pub(crate) line: Value<'a>,
    pub(crate) unreadable: Option<Fault>,
}

/// A module that covered the frame's address and was unloaded before the crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnloadedModule<'a> {
    pub(crate) module: Value<'a>,
    pub(crate) unreadable: Option<Fault>,
}

impl<'a> CrashData<'a> {
    /// Reads siggen's input as JSON text.
    ///
    /// # Errors
    /// The text is not JSON, or it is nested too deeply. A value that is not an object is a syntax error at
    /// its start.
    pub fn parse(text: &'a str) -> Result<CrashData<'a>, JsonError> {
        let data = json::read(text, |mut source| match source.shape() {
            Shape::Object => CrashData::read(source).map(Some),
            _ => source.value().map(|_| None),
        })?;
        data.ok_or(JsonError::Syntax { at: 0 })
    }

    /// Converts siggen's input from a parsed value. A value that is not an object gives empty data.
    pub(crate) fn from_value(value: Value<'a>) -> CrashData<'a> {
        // A parsed value has no syntax errors.
        CrashData::read(Source::Read(value)).unwrap_or_default()
    }

    /// Converts siggen's input from a value of `serde_json`.
    pub fn from_json(value: &'a serde_json::Value) -> CrashData<'a> {
        CrashData::from_value(value.into())
    }

    fn read(source: Source<'_, 'a>) -> Result<CrashData<'a>, JsonError> {
        let mut data = CrashData::default();
        source.entries(|key, mut source| {
            let slot = match key {
                "product" => {
                    if let Value::Text(product) = source.value()? {
                        data.product = product;
                    }
                    return Ok(());
                }
                "threads" => {
                    data.threads = match source.shape() {
                        Shape::List => source.items(Thread::fill)?,
                        _ => source.value().map(|_| Vec::new())?,
                    };
                    return Ok(());
                }
                "crashing_thread" => &mut data.crashing_thread,
                "os" => &mut data.os,
                "reason" => &mut data.reason,
                "oom_allocation_size" => &mut data.oom_allocation_size,
                "js_large_allocation_failure" => &mut data.js_large_allocation_failure,
                "abort_message" => &mut data.abort_message,
                "async_shutdown_timeout" => &mut data.async_shutdown_timeout,
                "ipc_channel_error" => &mut data.ipc_channel_error,
                "ipc_message_name" => &mut data.ipc_message_name,
                "additional_minidumps" => &mut data.additional_minidumps,
                "hang" => &mut data.hang,
                "mdsw_status_string" => &mut data.mdsw_status_string,
                "java_stack_trace" => &mut data.java_stack_trace,
                "java_exception" => &mut data.java_exception,
                _ => return source.value().map(drop),
            };
            *slot = source.value()?;
            Ok(())
        })?;
        Ok(data)
    }

    /// The thread at a Python index.
    pub(super) fn thread(&self, index: i64) -> Option<&Thread<'a>> {
        let place = usize::try_from(index.unsigned_abs()).ok()?;
        if index < 0 {
            self.threads.get(self.threads.len().checked_sub(place)?)
        } else {
            self.threads.get(place)
        }
    }
}

impl<'a> Thread<'a> {
    fn fill(&mut self, mut source: Source<'_, 'a>) -> Result<(), JsonError> {
        if source.shape() != Shape::Object {
            let other = source.value()?;
            self.unreadable = Some(other.no_attribute("get"));
            self.is_malformed = other.is_truthy();
            return Ok(());
        }
        source.entries(|key, source| {
            match key {
                "frames" => (self.frames, self.unreadable) = frames(source)?,
                "last_error_value" => self.last_error_value = source.value()?,
                _ => drop(source.value()?),
            }
            Ok(())
        })
    }
}

/// The frames, or why they cannot be iterated.
fn frames<'a>(mut source: Source<'_, 'a>) -> Result<(Vec<Frame<'a>>, Option<Fault>), JsonError> {
    if source.shape() == Shape::List {
        return Ok((source.items(Frame::fill)?, None));
    }
    Ok(match source.value()? {
        // In Python, iterating these gives strings, if it gives anything.
        value @ (Value::Text(_) | Value::Object(_)) if value.is_truthy() => {
            (Vec::new(), Some(Value::from("").no_attribute("get")))
        }
        Value::Text(_) | Value::Object(_) => (Vec::new(), None),
        other => (Vec::new(), Some(other.not_iterable())),
    })
}

impl<'a> Frame<'a> {
    fn fill(&mut self, mut source: Source<'_, 'a>) -> Result<(), JsonError> {
        if source.shape() != Shape::Object {
            self.unreadable = Some(source.value()?.no_attribute("get"));
            return Ok(());
        }
        source.entries(|key, mut source| {
            match key {
                "function" => self.function = source.value()?,
                "module" => self.module = source.value()?,
                "file" => self.file = source.value()?,
                "line" => self.line = source.value()?,
                "module_offset" => self.module_offset = source.value()?,
                "offset" => self.offset = source.value()?,
                "location" => self.location = location(&source.value()?),
                "inlines" if source.shape() == Shape::List => {
                    self.inlines = source.items(Inline::fill)?;
                }
                "inlines" => match source.value()? {
                    other if other.is_truthy() => self.unreadable = Some(other.not_iterable()),
                    _ => self.inlines.clear(),
                },
                "unloaded_modules" if source.shape() == Shape::List => {
                    self.unloaded_modules = source.items(UnloadedModule::fill)?;
                }
                "unloaded_modules" => match source.value()? {
                    other if other.is_truthy() => {
                        let unreadable = Some(other.no_attribute("get"));
                        let module = Value::Null;
                        self.unloaded_modules = vec![UnloadedModule { module, unreadable }];
                    }
                    _ => self.unloaded_modules.clear(),
                },
                _ => drop(source.value()?),
            }
            Ok(())
        })
    }
}

/// The word that a walk gives a module.
fn location(value: &Value) -> Option<Location> {
    let Value::Text(word) = value else {
        return None;
    };
    serde_json::from_value(serde_json::Value::from(word.as_ref())).ok()
}

impl<'a> Inline<'a> {
    fn fill(&mut self, mut source: Source<'_, 'a>) -> Result<(), JsonError> {
        if source.shape() != Shape::Object {
            self.unreadable = Some(source.value()?.no_attribute("get"));
            return Ok(());
        }
        source.entries(|key, source| {
            match key {
                "function" => self.function = source.value()?,
                "file" => self.file = source.value()?,
                "line" => self.line = source.value()?,
                _ => drop(source.value()?),
            }
            Ok(())
        })
    }
}

impl<'a> UnloadedModule<'a> {
    fn fill(&mut self, mut source: Source<'_, 'a>) -> Result<(), JsonError> {
        if source.shape() != Shape::Object {
            self.unreadable = Some(source.value()?.no_attribute("get"));
            return Ok(());
        }
        source.entries(|key, source| {
            match key {
                "module" => self.module = source.value()?,
                _ => drop(source.value()?),
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_thread_or_frame_is_kept_with_the_reason() {
        let data = CrashData::parse(
            r#"{"threads":[null,{"frames":null},{"frames":[5]},{"frames":"x"},{"frames":{}},{}]}"#,
        )
        .unwrap();
        let why = |index: i64| {
            let thread = data.thread(index).unwrap();
            let fault = thread.unreadable.as_ref();
            let fault = fault.or_else(|| thread.frames.first()?.unreadable.as_ref());
            fault.map(|fault| fault.0.to_string())
        };
        assert_eq!(why(0).unwrap(), "'NoneType' object has no attribute 'get'");
        assert_eq!(why(1).unwrap(), "'NoneType' object is not iterable");
        assert_eq!(why(2).unwrap(), "'int' object has no attribute 'get'");
        assert_eq!(why(3).unwrap(), "'str' object has no attribute 'get'");
        assert_eq!(why(4), None);
        assert_eq!(why(-1), None);
        assert!(data.thread(6).is_none());
        assert!(data.thread(-7).is_none());
        assert!(data.thread(i64::MIN).is_none());
    }

    #[test]
    fn crash_data_must_be_an_object() {
        assert!(CrashData::parse("[]").is_err());
        assert!(CrashData::parse("{}").is_ok());
    }
}
