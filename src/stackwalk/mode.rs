//! Which result a walk gives where minidump-stackwalk 0.27 is known to be wrong.

/// With [`Mode::Compat`], tests and users can compare walks with those of minidump-stackwalk. Servers use
/// [`Mode::True`] (ADR 33).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// That of minidump-stackwalk, value for value.
    Compat,
    /// The true one.
    True,
}
