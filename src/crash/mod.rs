//! Plain data types of the field, without I/O.

pub mod facts;
pub mod id;
pub mod lack;
pub(crate) mod processed;
pub mod raw;
pub(crate) mod symbols;
pub(crate) mod text;
pub mod walk;
