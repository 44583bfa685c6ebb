//! Where to connect.

use crate::base_port::BasePort;
use anyhow::Context as _;
use client::Roots;
use std::path::PathBuf;

/// Through which edges.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct EdgeArgs {
    /// Where you are: the nearest ready region of a running `hearth up` serves you [default: its first region].
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Connect to these addresses instead, in this order: `ws://` or `http://`, or with TLS `wss://` or `https://`;
    /// without a path it is /v1/ws.
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = parse_edge)]
    edge: Vec<String>,
    /// Trust the certificate authorities of this PEM file, and no others, for addresses with TLS [default: those that
    /// the platform trusts].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    base_port: BasePort,
}

impl EdgeArgs {
    /// The edges, the nearest first.
    ///
    /// # Errors
    /// No deployment answers, or it has no such region.
    pub(super) async fn edges(&self) -> anyhow::Result<Vec<String>> {
        if self.edge.is_empty() { self.find_edges().await } else { Ok(self.edge.clone()) }
    }

    /// Who vouches for edges with TLS.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn roots(&self) -> anyhow::Result<Roots> {
        let Some(path) = &self.ca else { return Ok(Roots::Platform) };
        let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Roots::Pem(pem))
    }

    /// The front of one's own place first; then each region, the nearest first.
    async fn find_edges(&self) -> anyhow::Result<Vec<String>> {
        let deployment = lab::control::Client::new(self.base_port.base_port).describe().await?;
        let names =
            || deployment.regions.iter().map(|place| place.region.to_string()).collect::<Vec<_>>().join(", ");
        let place = match &self.region {
            None => deployment.regions.first().context("the deployment has no regions")?,
            Some(name) => deployment
                .regions
                .iter()
                .find(|place| place.region.as_str() == name)
                .with_context(|| format!("no region is called {name:?}; there are {}", names()))?,
        };
        let mut edges = vec![place.front.clone()];
        edges.extend(place.edges.iter().map(|edge| edge.url.clone()));
        Ok(edges)
    }
}

/// The address of the WebSocket that an address means.
fn parse_edge(text: &str) -> Result<String, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("ws" | "http", rest)) => ("ws", rest),
        Some(("wss" | "https", rest)) => ("wss", rest),
        _ => return Err(format!("{text:?} begins with none of ws://, http://, wss:// and https://")),
    };
    match rest.split_once('/') {
        None => Ok(format!("{scheme}://{rest}/v1/ws")),
        Some((host, "")) => Ok(format!("{scheme}://{host}/v1/ws")),
        Some(_) => Ok(format!("{scheme}://{rest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_mean_a_websocket() {
        for (given, meant) in [
            ("ws://127.0.0.1:7411/v1/ws", "ws://127.0.0.1:7411/v1/ws"),
            ("http://127.0.0.1:7411", "ws://127.0.0.1:7411/v1/ws"),
            ("https://chat.example/", "wss://chat.example/v1/ws"),
            ("wss://chat.example/a/b", "wss://chat.example/a/b"),
        ] {
            assert_eq!(parse_edge(given).as_deref(), Ok(meant));
        }
        parse_edge("chat.example").expect_err("no scheme");
    }
}
