//! The binary from outside: its children, its errors, its ends.

mod bench;
mod services;
mod support;
mod up;
