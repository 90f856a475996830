//! Words: plain data of the field, without I/O.

pub mod id;
pub mod raw;
pub mod walk;
