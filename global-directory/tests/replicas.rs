//! The tests of `directory`, asked of one replica of a group of three.

#[path = "directory.rs"]
mod directory;
