//! What `chat`, `send` and `tail` share: who is who, where to connect, and the chat itself.

use crate::base_port::BasePort;
use anyhow::Context as _;
use client::{Chat, Client, Config, Event, Events, Terms};
use types::{AckPolicy, DeviceId, UserId};

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
    /// Connect to these addresses instead, in this order.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(super) edge: Vec<String>,
    #[command(flatten)]
    base_port: BasePort,
    /// When messages of the chat count as acked, where it is new; one that exists must be so [default: home].
    #[arg(long, value_name = "home|replicated", value_parser = parse_ack)]
    chat_ack: Option<AckPolicy>,
    /// The number of this device [default: drawn anew].
    #[arg(long, value_name = "NUMBER")]
    pub(super) device: Option<u64>,
}

impl SessionArgs {
    /// The settings of a client.
    ///
    /// # Errors
    /// No deployment answers, or it has no such region.
    pub(super) async fn config(&self) -> anyhow::Result<Config> {
        let edges = if self.edge.is_empty() { self.find_edges().await? } else { self.edge.clone() };
        let device = DeviceId::new(self.device.unwrap_or_else(draw_device));
        let mut config = Config::new(edges, self.user.clone(), device);
        config.agent = concat!("hearth/", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(config)
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

/// An open chat, and what happens in it.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) chat: Chat,
    pub(super) events: Events,
    pub(super) notes: Notes,
}

/// Connects, and opens the chat.
///
/// # Errors
/// Wrong settings, or the chat cannot be opened.
pub(super) async fn open(args: &SessionArgs, config: Config) -> anyhow::Result<Opened> {
    eprintln!("hearth: development mode: messages are not encrypted, and nobody proves who they are");
    let client = Client::connect(config)?;
    let mut events = client.events().await;
    let mut notes = Notes::default();
    let chat = {
        let opening = client.open_direct_on(&args.with, Terms { ack: args.chat_ack, ..Terms::default() });
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
    };
    Ok(Opened { client, chat, events, notes })
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

fn parse_ack(text: &str) -> Result<AckPolicy, String> {
    match text {
        "home" => Ok(AckPolicy::Home),
        "replicated" => Ok(AckPolicy::Replicated),
        other => Err(format!("{other:?} is neither home nor replicated")),
    }
}
