//! `hearth chat`: a line-mode client. Each line that you type is a message; its ticks follow what the server
//! says: `·` in the outbox, `✓` home, `✓✓` replicated.

use super::{
    screen::{Line, Screen, Tick},
    session::{self, Heard, Notes, Opened, SessionArgs},
    told,
};
use anyhow::bail;
use client::{Chat, Entry, EntryBody, Event, From, Position};
use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, IsTerminal, Write as _},
    time::{Duration, Instant},
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
    /// Print what happens as one JSON object a line, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Chats until the input ends.
///
/// # Errors
/// The chat cannot be opened or followed.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let begin = args.session.begin().await?;
    let (own, with) = (begin.config.user.clone(), begin.with.clone());
    let with_name = begin.with_name.clone();
    let Opened { client, chat, mut events, notes, stands, earlier } =
        session::open(&args.session, begin).await?;
    let mut talk = Talk {
        own,
        with,
        with_name,
        read: 0,
        types_until: None,
        json: args.json,
        screen: Screen::new(std::io::stdout(), std::io::stdout().is_terminal()),
        under_way: HashMap::new(),
        typed: HashSet::new(),
        shown: 0,
        notes,
    };
    for message in earlier {
        talk.under_way.insert(message.message_id, String::from_utf8_lossy(&message.body).into_owned());
    }
    talk.begin(&chat, stands).await?;
    let talked = talk.go_on(&chat, &mut events).await;
    drop(client);
    talked
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
    /// The other one, and what we call them.
    with: UserId,
    with_name: String,
    /// Up to this offset the other one has read.
    read: u64,
    /// Until then the other one is known to be typing.
    types_until: Option<Instant>,
    json: bool,
    screen: Screen<std::io::Stdout>,
    /// Own messages that are not replicated, by id: their text.
    under_way: HashMap<MessageId, String>,
    /// What was typed here: the screen has it.
    typed: HashSet<MessageId>,
    /// Up to this offset the screen has shown the chat already.
    shown: u64,
    notes: Notes,
}

impl Talk {
    /// Until the input has ended and all of it is replicated.
    async fn go_on(&mut self, chat: &Chat, events: &mut Heard) -> anyhow::Result<()> {
        let mut lines = read_lines();
        let mut input_ended = false;
        let deadline = tokio::time::sleep(Duration::MAX);
        tokio::pin!(deadline);
        while !(input_ended && self.under_way.is_empty()) {
            tokio::select! {
                line = lines.recv(), if !input_ended => match line {
                    Some(line) => self.say(chat, line).await?,
                    None => {
                        input_ended = true;
                        deadline.as_mut().reset(tokio::time::Instant::now() + LAST_WAIT);
                    }
                },
                event = events.next() => match event {
                    Some(event) => self.hear_all(chat, event, events).await?,
                    None => break,
                },
                () = &mut deadline, if input_ended => {
                    let fate = match events.is_kept() {
                        true => "the next run with this state file sends them",
                        false => "they may be lost",
                    };
                    bail!("{} messages are not replicated yet; {fate}", self.under_way.len());
                }
            }
        }
        events.confirm().await
    }

    /// The event, and those that are here already: what was shown is confirmed together.
    async fn hear_all(&mut self, chat: &Chat, first: Event, events: &mut Heard) -> anyhow::Result<()> {
        let mut next = Some(first);
        while let Some(event) = next {
            self.hear(chat, event).await?;
            next = events.try_next();
        }
        events.confirm().await
    }

    /// Shows the end of the chat, and follows it from there, or from where an earlier run stood.
    async fn begin(&mut self, chat: &Chat, stands: Option<(u64, Position)>) -> anyhow::Result<()> {
        let page = chat.history_before(&Position::start(), HISTORY_ENTRIES).await?;
        let first = page.entries.first().map_or(0, |first| first.offset);
        // Where more was missed than the page holds, all of it comes by following.
        if stands.as_ref().is_none_or(|(offset, _)| first <= offset + 1) {
            for entry in &page.entries {
                self.show(chat, entry)?;
                self.shown = entry.offset;
            }
        }
        let from = page
            .entries
            .last()
            .map_or(From::Start, |last| From::After { position: last.position.clone(), offset: last.offset });
        chat.follow(from).await;
        self.note(&format!(
            "you chat with {} as {}; the end of the input (Ctrl-D) ends it",
            self.with_name, self.own
        ))
    }

    async fn say(&mut self, chat: &Chat, text: String) -> anyhow::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match chat.send(text.clone()).await {
            Ok(sending) => {
                let id = sending.message_id();
                if !self.json {
                    self.screen.own(id, Line { sender: self.own.to_string(), text: text.clone() })?;
                }
                self.typed.insert(id);
                self.under_way.insert(id, text);
            }
            Err(error) if error.is_retryable() => self.note(&format!("not sent: {error}"))?,
            Err(error) => self.note(&format!("cannot be sent: {error}"))?,
        }
        Ok(())
    }

    fn note(&mut self, text: &str) -> anyhow::Result<()> {
        match self.json {
            true => eprintln!("hearth: {text}"),
            false => self.screen.note(text)?,
        }
        Ok(())
    }

    async fn hear(&mut self, chat: &Chat, event: Event) -> anyhow::Result<()> {
        if self.json {
            print_line(&told::event(&event))?;
        } else if let Some(note) = self.notes.of(&event) {
            self.screen.note(&note)?;
        }
        match event {
            Event::Entry { entry, .. } => {
                let is_shown = entry.offset <= self.shown || self.typed.contains(&entry.message_id);
                if !is_shown && !self.json {
                    self.show_entry(&entry)?;
                }
                if entry.sender != self.own {
                    self.types_until = None;
                    chat.mark_read(&entry).await;
                }
            }
            Event::Receipts { receipts, .. } if !self.json => {
                let of_other = receipts.iter().filter(|receipt| receipt.user == self.with);
                let read = of_other.filter_map(|receipt| receipt.read.as_ref()).map(|read| read.offset).max();
                if let Some(read) = read.filter(|read| *read > self.read) {
                    self.read = read;
                    self.note(&format!("{} has read up to message {read}", self.with_name))?;
                }
            }
            Event::Typing { user, ttl_ms, .. } if user == self.with && !self.json => {
                let now = Instant::now();
                let is_known = self.types_until.replace(now + Duration::from_millis(ttl_ms.into()));
                if is_known.is_none_or(|until| until < now) {
                    self.note(&format!("{} is typing", self.with_name))?;
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
                self.note(&format!("not sent: {error}"))?;
            }
            Event::Diverged { undone, common_offset, .. } => {
                self.shown = self.shown.min(common_offset);
                for id in &undone {
                    self.tick(id, Tick::Accepted)?;
                }
                let count = undone.len();
                let note = format!("a failover took back {count} messages; what survives somewhere returns");
                self.note(&note)?;
            }
            Event::Unfollowed { error, .. } => bail!("the chat cannot be followed: {error}"),
            Event::Ended { error } => bail!("the server refuses this session: {error}"),
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, id: &MessageId, tick: Tick) -> anyhow::Result<()> {
        if let Some(text) = self.under_way.get(id).filter(|_| !self.json) {
            self.screen.tick(*id, tick, text)?;
        }
        Ok(())
    }

    fn show(&mut self, chat: &Chat, entry: &Entry) -> anyhow::Result<()> {
        match self.json {
            true => print_line(&told::entry("history", chat.log(), entry)),
            false => self.show_entry(entry),
        }
    }

    fn show_entry(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let text = match &entry.body {
            EntryBody::Message(body) => String::from_utf8_lossy(body).into_owned(),
            EntryBody::Erased => "(deleted)".to_owned(),
            _ => return Ok(()),
        };
        let text = if entry.salvaged { format!("{text} (came back after a failover)") } else { text };
        let sender = match entry.sender == self.with {
            true => self.with_name.clone(),
            false => entry.sender.to_string(),
        };
        Ok(self.screen.line(Line { sender, text })?)
    }
}

fn print_line(line: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
