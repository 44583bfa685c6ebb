//! Integration tests on real processes. One binary: each module is one behaviour.

mod accounts;
mod chat_list;
mod command_line_accounts;
mod command_line_groups;
mod command_line_terminal;
mod damage;
mod departures;
mod diverged;
mod effects;
mod failover;
mod following;
mod groups;
mod history;
mod killed_client;
mod leader;
mod live;
mod markers;
mod moves;
mod nodes;
mod observers;
mod operator_directory;
mod operator_emergency;
mod operator_members;
mod operator_moves;
mod order;
mod paused;
mod pipe;
mod pressure;
mod proxied;
mod refill;
mod rehoming;
mod replicated;
mod replicators;
mod retry;
mod salvage;
mod stalled;
mod without_websocket;

/// The binary under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hearth-under-test");
