//! Which deployment of this machine is meant.

/// The first port of a new deployment that is told none.
pub(crate) const BASE_PORT_DEFAULT: u16 = 7400;

/// The first port of the deployment that is meant, where there is no address.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct BasePort {
    /// The base port of the running `hearth up`.
    #[arg(long, value_name = "N", global = true, default_value_t = BASE_PORT_DEFAULT)]
    pub(crate) base_port: u16,
}
