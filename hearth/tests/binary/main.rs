//! The binary from outside: its children, its errors, its ends.

mod services;
mod support;
mod up;
