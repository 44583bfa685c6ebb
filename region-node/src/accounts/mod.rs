//! Accounts: who a user is, on which devices, and how a node knows.

mod passwords;
mod tokens;
