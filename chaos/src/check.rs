//! The checkers.
