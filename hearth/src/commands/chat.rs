//! `hearth chat`: a line-mode client. Each line that you type is a message; its ticks follow what the server
//! says: `·` in the outbox, `✓` home, `✓✓` replicated.

use super::{
    screen::{Line, Screen, Tick},
    session::{self, Notes, Opened, SessionArgs},
};
use anyhow::bail;
use client::{Chat, Entry, EntryBody, Event, From, Position};
use std::{
    collections::HashMap,
    io::{BufRead, IsTerminal},
    time::Duration,
};
use tokio::sync::mpsc;
use types::{MessageId, UserId};

/// Entries of history that are shown at the start.
const HISTORY_ENTRIES: usize = 20;
/// Typed lines that wait.
const LINES_AHEAD: usize = 64;
/// How long messages under way are waited for after the end of the input.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// What `hearth chat` is asked to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
}

/// Chats until the input ends.
///
/// # Errors
/// The chat cannot be opened or followed.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let config = args.session.config().await?;
    let own_device = config.device;
    let Opened { client, chat, mut events, notes } = session::open(&args.session, config).await?;
    let mut talk = Talk {
        own: args.session.user.clone(),
        screen: Screen::new(std::io::stdout(), std::io::stdout().is_terminal()),
        under_way: HashMap::new(),
        notes,
    };
    talk.begin(&chat, &args.session.with).await?;
    let mut lines = read_lines();
    let mut input_ended = false;
    let deadline = tokio::time::sleep(Duration::MAX);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            line = lines.recv(), if !input_ended => match line {
                Some(line) => talk.say(&chat, line).await?,
                None => {
                    input_ended = true;
                    deadline.as_mut().reset(tokio::time::Instant::now() + LAST_WAIT);
                }
            },
            event = events.next() => match event {
                Some(event) => talk.hear(event, own_device)?,
                None => break,
            },
            () = &mut deadline, if input_ended => {
                bail!("{} messages are not replicated yet; they may be lost", talk.under_way.len());
            }
        }
        if input_ended && talk.under_way.is_empty() {
            break;
        }
    }
    drop(client);
    Ok(())
}

fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    // A thread of its own: a read from a terminal cannot be cancelled, and must not hold up the end.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

struct Talk {
    own: UserId,
    screen: Screen<std::io::Stdout>,
    /// Own messages that are not replicated, by id: their text.
    under_way: HashMap<MessageId, String>,
    notes: Notes,
}

impl Talk {
    async fn begin(&mut self, chat: &Chat, with: &UserId) -> anyhow::Result<()> {
        let page = chat.history_before(&Position::start(), HISTORY_ENTRIES).await?;
        for entry in &page.entries {
            self.show(entry)?;
        }
        let from = page
            .entries
            .last()
            .map_or(From::Start, |last| From::After { position: last.position.clone(), offset: last.offset });
        chat.follow(from).await;
        self.screen
            .note(&format!("you chat with {with} as {}; the end of the input (Ctrl-D) ends it", self.own))?;
        Ok(())
    }

    async fn say(&mut self, chat: &Chat, text: String) -> anyhow::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match chat.send(text.clone()).await {
            Ok(sending) => {
                let id = sending.message_id();
                self.screen.own(id, Line { sender: self.own.to_string(), text: text.clone() })?;
                self.under_way.insert(id, text);
            }
            Err(error) if error.is_retryable() => self.screen.note(&format!("not sent: {error}"))?,
            Err(error) => self.screen.note(&format!("cannot be sent: {error}"))?,
        }
        Ok(())
    }

    fn hear(&mut self, event: Event, own_device: types::DeviceId) -> anyhow::Result<()> {
        if let Some(note) = self.notes.of(&event) {
            self.screen.note(&note)?;
        }
        match event {
            Event::Entry { entry, .. } => {
                let typed_here = entry.device == own_device && entry.sender == self.own;
                if !typed_here {
                    self.show(&entry)?;
                }
            }
            Event::Home { message_id, last, .. } => {
                self.tick(&message_id, Tick::Home)?;
                if last {
                    self.under_way.remove(&message_id);
                }
            }
            Event::Replicated { message_id, .. } => {
                self.tick(&message_id, Tick::Replicated)?;
                self.under_way.remove(&message_id);
            }
            Event::Failed { message_id, error, .. } => {
                self.under_way.remove(&message_id);
                self.screen.note(&format!("not sent: {error}"))?;
            }
            Event::Diverged { undone, .. } => {
                for id in &undone {
                    self.tick(id, Tick::Accepted)?;
                }
                let count = undone.len();
                let note = format!("a failover took back {count} messages; what survives somewhere returns");
                self.screen.note(&note)?;
            }
            Event::Unfollowed { error, .. } => bail!("the chat cannot be followed: {error}"),
            Event::Ended { error } => bail!("the server refuses this session: {error}"),
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, id: &MessageId, tick: Tick) -> anyhow::Result<()> {
        if let Some(text) = self.under_way.get(id) {
            self.screen.tick(*id, tick, text)?;
        }
        Ok(())
    }

    fn show(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let text = match &entry.body {
            EntryBody::Message(body) => String::from_utf8_lossy(body).into_owned(),
            EntryBody::Erased => "(deleted)".to_owned(),
            _ => return Ok(()),
        };
        let text = if entry.salvaged { format!("{text} (came back after a failover)") } else { text };
        Ok(self.screen.line(Line { sender: entry.sender.to_string(), text })?)
    }
}
