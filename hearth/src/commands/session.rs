//! What `chat`, `send` and `tail` share: who is who, where to connect, and the chat itself.

use super::edges::EdgeArgs;
use anyhow::{Context as _, bail, ensure};
use client::{
    Chat, Client, Config, Event, Events, KeptEvents, Position, Terms,
    account::{Accounts, Credentials, CredentialsFile},
    session::MessageSnapshot,
    store::DiskStore,
};
use std::path::PathBuf;
use types::{AckPolicy, DeviceId, LogId, UserId};

/// Who talks with whom, and through which edges.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SessionArgs {
    /// Who you are, in development mode, where nobody asks for a proof.
    #[arg(long = "as", value_name = "USER", required_unless_present = "credentials")]
    user: Option<UserId>,
    /// The other user of the direct chat; with --credentials by username.
    #[arg(long, value_name = "USER")]
    with: Option<String>,
    /// The chat by its id: a group, as /chats and `hearth chat --json` tell it.
    #[arg(long, value_name = "CHAT", conflicts_with = "with")]
    chat: Option<LogId>,
    #[command(flatten)]
    edges: EdgeArgs,
    /// Connect as the device that `hearth register` or `hearth login` has put into this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "device"])]
    credentials: Option<PathBuf>,
    /// When messages of the chat count as acked, where it is new; one that exists must be so [default: home].
    #[arg(long, value_name = "home|replicated", value_parser = parse_ack)]
    chat_ack: Option<AckPolicy>,
    /// The number of this device [default: that of --state, or drawn anew].
    #[arg(long, value_name = "NUMBER")]
    device: Option<u64>,
    /// Keep what is not sent yet, and where you are in the chat, in this file, and go on with what it holds: the
    /// program may be killed at any moment. It is made where there is none; one program at a time uses it.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// All that a session needs to begin.
pub(super) struct Begin {
    pub(super) config: Config,
    store: Option<DiskStore>,
    which: Option<Which>,
}

/// Which chat is meant.
enum Which {
    /// That with another user, and what the user is called.
    Direct(UserId, String),
    Chat(LogId),
}

impl Begin {
    /// The other user of the direct chat that is meant, and what the user is called.
    pub(super) fn with(&self) -> Option<(UserId, String)> {
        match &self.which {
            Some(Which::Direct(user, name)) => Some((user.clone(), name.clone())),
            _ => None,
        }
    }

    /// Sees that a chat is named.
    ///
    /// # Errors
    /// None is.
    pub(super) fn names_a_chat(&self) -> anyhow::Result<()> {
        ensure!(self.which.is_some(), "neither --with nor --chat says which chat");
        Ok(())
    }
}

impl SessionArgs {
    /// The settings of a client, and its store.
    ///
    /// # Errors
    /// No deployment answers, or it has no such region or user, or the store cannot be opened.
    pub(super) async fn begin(&self) -> anyhow::Result<Begin> {
        let (edges, roots) = (self.edges.edges().await?, self.edges.roots()?);
        let mut which = self.chat.map(Which::Chat);
        let (user, device, credentials) = match (&self.credentials, &self.user) {
            (Some(path), _) => {
                let accounts = Accounts::new(edges.iter().cloned(), roots.clone());
                let file = CredentialsFile::open(path, accounts.clone())?;
                let (user, device) = (file.user().clone(), Some(file.device()));
                let credentials = Credentials::new(file);
                if let Some(with) = &self.with {
                    let token = credentials.token(None).await?;
                    let found = accounts.find(&token, with).await.context("cannot find --with")?;
                    which = Some(Which::Direct(found.user, with.clone()));
                }
                (user, device, Some(credentials))
            }
            (None, Some(user)) => {
                if let Some(with) = &self.with {
                    which = Some(Which::Direct(UserId::new(with).context("--with")?, with.clone()));
                }
                (user.clone(), self.device.map(DeviceId::new), None)
            }
            (None, None) => bail!("neither --as nor --credentials says who you are"),
        };
        let open = |path: &PathBuf| DiskStore::open(path, &user, device);
        let store = self.state.as_ref().map(open).transpose()?;
        let device = store.as_ref().map(DiskStore::device).or(device);
        let device = device.unwrap_or_else(|| DeviceId::new(draw_device()));
        let mut config = Config::new(edges, user, device);
        config.roots = roots;
        config.credentials = credentials;
        config.agent = concat!("hearth/", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(Begin { config, store, which })
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
    /// None: none was named.
    pub(super) chat: Option<Chat>,
    pub(super) events: Heard,
    pub(super) notes: Notes,
    /// The last entry of the chat that an earlier run had, and its offset.
    pub(super) stands: Option<(u64, Position)>,
    /// What an earlier run has not seen replicated.
    pub(super) earlier: Vec<MessageSnapshot>,
}

/// Connects, and opens the chat where one is named.
///
/// # Errors
/// Wrong settings, or the chat cannot be opened.
pub(super) async fn open(args: &SessionArgs, begin: Begin) -> anyhow::Result<Opened> {
    let Begin { config, store, which } = begin;
    match config.credentials {
        None => {
            eprintln!("hearth: development mode: messages are not encrypted, and nobody proves who they are")
        }
        Some(_) => eprintln!("hearth: messages are not encrypted"),
    }
    let log = which.as_ref().map(|which| match which {
        Which::Direct(with, _) => LogId::direct(&config.user, with),
        Which::Chat(log) => *log,
    });
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
    let mut logs = kept.logs.iter().map(|kept| kept.log).chain(kept.outbox.iter().map(|kept| kept.log));
    if let Some(other) = logs.find(|of| log.is_none_or(|log| *of != log)) {
        match log {
            Some(_) => bail!("the state file is that of another chat, {other}: use one for each"),
            None => bail!("the state file is that of the chat {other}: name it by --chat or --with"),
        }
    }
    let mut notes = Notes::default();
    // What is kept is of a chat that was opened.
    let is_new = kept.logs.is_empty() && kept.outbox.is_empty();
    let chat = match which {
        Some(Which::Direct(with, _)) if is_new => {
            let terms = Terms { ack: args.chat_ack, ..Terms::default() };
            let opening = client.open_direct_on(&with, terms);
            tokio::pin!(opening);
            loop {
                tokio::select! {
                    chat = &mut opening => break Some(chat?),
                    // No chat is followed yet, so there is nothing but the connection to hear of.
                    Some(event) = events.next() => {
                        if let Some(note) = notes.of(&event) {
                            eprintln!("hearth: {note}");
                        }
                    }
                }
            }
        }
        _ => log.map(|log| client.chat(log)),
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

fn parse_ack(text: &str) -> Result<AckPolicy, String> {
    match text {
        "home" => Ok(AckPolicy::Home),
        "replicated" => Ok(AckPolicy::Replicated),
        other => Err(format!("{other:?} is neither home nor replicated")),
    }
}
