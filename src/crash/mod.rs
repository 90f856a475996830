//! Words: plain data of the field, without I/O.

pub mod walk;
