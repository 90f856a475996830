//! A walker: a child process that walks one dump after the other, so that a dump may kill it and nothing else.
//!
//! - `parent` is the server's side ([`Walker`]). `watch` ends walks that take too long.
//! - `child` is the side of the child ([`serve`]). It enters the sandbox before it reads a dump. `faults` are
//!   what a child does on request, for tests.
//! - `wire` defines the frames between them.

mod child;
mod faults;
mod parent;
mod watch;
mod wire;

pub(crate) use child::{WalkerSettings, self_test, serve};
pub(crate) use parent::WalkerStop;
pub use parent::{Overrun, Walker, WalkerFault, WalkerOptions};
