//! What is measured: a deployment, its processes, what they use.

mod deployment;
mod disk;
mod http;
mod usage;
mod watch;

pub(super) use deployment::{Deployment, Target};
pub(super) use http::Http;
pub(super) use usage::Usage;
pub(super) use watch::{Look, Role, Seen, Servers, Watched};
