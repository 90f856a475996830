//! Features from the outside, in one binary: the program itself and the library as others use it.

mod sim_disk;
mod store;
mod walker;
