//! What the services take for their machine.

use super::world;
use host::{
    Machine,
    net::{Dialled, Port},
};
use rand::Rng as _;
use std::{io, net::SocketAddr};

/// How many shards a simulated node has: more than one, so that they meet.
const CORES: usize = 2;

/// Answers as the host that runs just now.
#[derive(Debug)]
pub(super) struct Simulated;

impl Machine for Simulated {
    fn boot_ms(&self) -> u64 {
        world::here().map_or(0, |here| here.boot_ms())
    }

    fn wall_ms(&self) -> u64 {
        world::here().map_or(0, |here| here.wall_ms())
    }

    fn fill(&self, bytes: &mut [u8]) {
        world::net(|net| net.rng().fill_bytes(bytes));
    }

    fn cores(&self) -> usize {
        CORES
    }

    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Port>> {
        world::net(|net| net.bind(address)).map(|port| Box::new(port) as Box<dyn Port>)
    }

    fn dial(&self, to: &str) -> Dialled {
        let Some(here) = world::here() else {
            return Box::pin(std::future::ready(Err(io::ErrorKind::NetworkDown.into())));
        };
        world::net(|net| net.dial(here.world_us(), here.host, to))
    }
}
