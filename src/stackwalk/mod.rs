//! stackwalk
