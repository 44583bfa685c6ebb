//! global-directory
