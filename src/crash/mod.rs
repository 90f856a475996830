//! Plain data types of the field, without I/O.

pub mod facts;
pub mod id;
pub mod lack;
pub mod processed;
pub mod raw;
pub mod symbols;
pub mod text;
pub mod walk;
