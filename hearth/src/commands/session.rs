//! What `chat`, `send` and `tail` share: who is who, where to connect, and the chat itself.

use crate::base_port::BasePort;
use anyhow::{Context as _, bail};
use client::{
    Chat, Client, Config, Event, Events, KeptEvents, Position, Roots, Terms, session::MessageSnapshot,
    store::DiskStore,
};
use std::path::PathBuf;
use types::{AckPolicy, DeviceId, LogId, UserId};

/// Who talks with whom, and through which edges.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SessionArgs {
    /// Who you are. In development mode nobody asks for a proof.
    #[arg(long = "as", value_name = "USER")]
    pub(super) user: UserId,
    /// The other user of the direct chat.
    #[arg(long, value_name = "USER")]
    pub(super) with: UserId,
    /// Where you are: the nearest ready region of a running `hearth up` serves you [default: its first region].
    #[arg(long, value_name = "REGION")]
    pub(super) region: Option<String>,
    /// Connect to these addresses instead, in this order: `ws://` or `http://`, or with TLS `wss://` or `https://`;
    /// without a path it is /v1/ws.
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = parse_edge)]
    pub(super) edge: Vec<String>,
    /// Trust the certificate authorities of this PEM file, and no others, for addresses with TLS [default: those that
    /// the platform trusts].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    base_port: BasePort,
    /// When messages of the chat count as acked, where it is new; one that exists must be so [default: home].
    #[arg(long, value_name = "home|replicated", value_parser = parse_ack)]
    chat_ack: Option<AckPolicy>,
    /// The number of this device [default: that of --state, or drawn anew].
    #[arg(long, value_name = "NUMBER")]
    pub(super) device: Option<u64>,
    /// Keep what is not sent yet, and where you are in the chat, in this file, and go on with what it holds: the
    /// program may be killed at any moment. It is made where there is none; one program at a time uses it.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// All that a session needs to begin.
pub(super) struct Begin {
    pub(super) config: Config,
    store: Option<DiskStore>,
}

impl SessionArgs {
    /// The settings of a client, and its store.
    ///
    /// # Errors
    /// No deployment answers, or it has no such region, or the store cannot be opened.
    pub(super) async fn begin(&self) -> anyhow::Result<Begin> {
        let edges = if self.edge.is_empty() { self.find_edges().await? } else { self.edge.clone() };
        let device = self.device.map(DeviceId::new);
        let open = |path: &PathBuf| DiskStore::open(path, &self.user, device);
        let store = self.state.as_ref().map(open).transpose()?;
        let device = store.as_ref().map(DiskStore::device).or(device);
        let device = device.unwrap_or_else(|| DeviceId::new(draw_device()));
        let mut config = Config::new(edges, self.user.clone(), device);
        if let Some(path) = &self.ca {
            let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            config.roots = Roots::Pem(pem);
        }
        config.agent = concat!("hearth/", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(Begin { config, store })
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

/// What happens, kept or not.
pub(super) enum Heard {
    Passing(Events),
    Kept(Box<KeptEvents>),
}

impl Heard {
    /// The next event; none when the client has ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Event> {
        match self {
            Self::Passing(events) => events.next().await,
            Self::Kept(events) => events.next().await,
        }
    }

    /// The next event, where one is here already.
    pub(super) fn try_next(&mut self) -> Option<Event> {
        match self {
            Self::Passing(events) => events.try_next(),
            Self::Kept(events) => events.try_next(),
        }
    }

    /// What was taken so far is done; with a state file, for good.
    ///
    /// # Errors
    /// It cannot be kept.
    pub(super) async fn confirm(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Passing(_) => Ok(()),
            Self::Kept(events) => Ok(events.confirm().await?),
        }
    }

    /// Whether there is a state file.
    pub(super) const fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }
}

/// An open chat, and what happens in it.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) chat: Chat,
    pub(super) events: Heard,
    pub(super) notes: Notes,
    /// The last entry of the chat that an earlier run had, and its offset.
    pub(super) stands: Option<(u64, Position)>,
    /// What an earlier run has not seen replicated.
    pub(super) earlier: Vec<MessageSnapshot>,
}

/// Connects, and opens the chat.
///
/// # Errors
/// Wrong settings, or the chat cannot be opened.
pub(super) async fn open(args: &SessionArgs, begin: Begin) -> anyhow::Result<Opened> {
    eprintln!("hearth: development mode: messages are not encrypted, and nobody proves who they are");
    let Begin { config, store } = begin;
    let (client, mut events) = match store {
        None => {
            let client = Client::connect(config)?;
            let events = client.events().await;
            (client, Heard::Passing(events))
        }
        Some(store) => {
            let (client, events) = Client::resume(config, store)?;
            (client, Heard::Kept(Box::new(events)))
        }
    };
    let kept = client.snapshot().await.context("the client has ended")?;
    let log = LogId::direct(&args.user, &args.with);
    let logs = kept.logs.iter().map(|kept| kept.log).chain(kept.outbox.iter().map(|kept| kept.log));
    if let Some(other) = logs.into_iter().find(|of| *of != log) {
        bail!("the state file is that of another chat, {other}: use one for each");
    }
    let mut notes = Notes::default();
    // What is kept is of a chat that was opened.
    let chat = match kept.logs.is_empty() && kept.outbox.is_empty() {
        false => client.chat(log),
        true => {
            let terms = Terms { ack: args.chat_ack, ..Terms::default() };
            let opening = client.open_direct_on(&args.with, terms);
            tokio::pin!(opening);
            loop {
                tokio::select! {
                    chat = &mut opening => break chat?,
                    // No chat is followed yet, so there is nothing but the connection to hear of.
                    Some(event) = events.next() => {
                        if let Some(note) = notes.of(&event) {
                            eprintln!("hearth: {note}");
                        }
                    }
                }
            }
        }
    };
    if !kept.outbox.is_empty() {
        eprintln!("hearth: {} messages of an earlier run are on their way", kept.outbox.len());
    }
    let stands = kept.logs.into_iter().next().and_then(|kept| kept.positions.into_iter().last());
    Ok(Opened { client, chat, events, notes, stands, earlier: kept.outbox })
}

/// Tells of the connection, each change once however many attempts it takes.
#[derive(Debug, Default)]
pub(super) struct Notes {
    is_told_down: bool,
}

impl Notes {
    /// What there is to say of an event.
    pub(super) fn of(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Connected { node, region, .. } => {
                self.is_told_down = false;
                Some(format!("connected to {node} in {region}"))
            }
            Event::Disconnected { reason, .. } if !self.is_told_down => {
                self.is_told_down = true;
                Some(format!("disconnected ({reason}); trying again"))
            }
            _ => None,
        }
    }
}

fn draw_device() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
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

fn parse_ack(text: &str) -> Result<AckPolicy, String> {
    match text {
        "home" => Ok(AckPolicy::Home),
        "replicated" => Ok(AckPolicy::Replicated),
        other => Err(format!("{other:?} is neither home nor replicated")),
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
