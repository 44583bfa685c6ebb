//! Loopback ports, taken for all processes before the first one is started.

use rand::RngExt;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// Ports that the lab picks by itself lie below the range from which systems give out ports for
/// outgoing connections, so that nothing takes the port of a process while that process is down.
const PICKED_PORTS: std::ops::Range<u16> = 10_000..32_000;
const PICK_ATTEMPTS_MAX: usize = 1_000;

/// A port that a process was to have is not free.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Something else listens there.
    #[error("port {port}, wanted for {wanted_by}, is in use; choose another --base-port")]
    InUse {
        /// The port.
        port: u16,
        /// The process that was to listen there.
        wanted_by: String,
    },
    /// The system refuses it for another reason.
    #[error("port {port}, wanted for {wanted_by}: {source}")]
    Refused {
        /// The port.
        port: u16,
        /// The process that was to listen there.
        wanted_by: String,
        /// What the system says.
        source: io::Error,
    },
    /// The base port leaves no room for what has to come after it.
    #[error("base port {base_port} is too high: {wanted_by} would need port {port}")]
    TooHigh {
        /// The first port of the deployment.
        base_port: u16,
        /// The port.
        port: u32,
        /// The process that was to listen there.
        wanted_by: String,
    },
}

/// A port kept for a process until that is about to be started.
#[derive(Debug)]
pub(crate) struct Reservation {
    address: SocketAddr,
    listener: TcpListener,
}

impl Reservation {
    /// Takes `base_port + step`, or any port where there is no base.
    pub(crate) fn take(base_port: Option<u16>, step: u32, wanted_by: &str) -> Result<Self, PortError> {
        match base_port {
            Some(base_port) => {
                let port = u32::from(base_port) + step;
                let high = || PortError::TooHigh { base_port, port, wanted_by: wanted_by.to_owned() };
                Self::bind(u16::try_from(port).map_err(|_| high())?, wanted_by)
            }
            None => Self::pick(wanted_by),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the listener itself, for a port that the lab serves.
    pub(crate) fn into_listener(self) -> io::Result<tokio::net::TcpListener> {
        self.listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(self.listener)
    }

    fn bind(port: u16, wanted_by: &str) -> Result<Self, PortError> {
        let wanted_by = || wanted_by.to_owned();
        let listen = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            Ok((listener.local_addr()?, listener))
        };
        match listen() {
            Ok((address, listener)) => Ok(Self { address, listener }),
            Err(error) if io::Error::kind(&error) == io::ErrorKind::AddrInUse => {
                Err(PortError::InUse { port, wanted_by: wanted_by() })
            }
            Err(source) => Err(PortError::Refused { port, wanted_by: wanted_by(), source }),
        }
    }

    fn pick(wanted_by: &str) -> Result<Self, PortError> {
        let mut rng = rand::rng();
        for _ in 1..PICK_ATTEMPTS_MAX {
            match Self::bind(rng.random_range(PICKED_PORTS), wanted_by) {
                Err(PortError::InUse { .. }) => {}
                other => return other,
            }
        }
        Self::bind(rng.random_range(PICKED_PORTS), wanted_by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_the_process_that_wants_it() {
        let held = Reservation::take(None, 0, "first").expect("a free port");
        let port = held.address().port();
        let error = Reservation::take(Some(port - 3), 3, "node us-east-1").expect_err("it is in use");
        assert_eq!(
            error.to_string(),
            format!("port {port}, wanted for node us-east-1, is in use; choose another --base-port")
        );
        let error = Reservation::take(Some(65_535), 1, "directory").expect_err("there is no such port");
        assert_eq!(error.to_string(), "base port 65535 is too high: directory would need port 65536");
    }
}
