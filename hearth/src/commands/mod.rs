//! One module per command: its arguments, and `run`.

pub mod admin;
pub mod lab;
pub mod up;
