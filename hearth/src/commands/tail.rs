//! `hearth tail`: prints the messages of a chat as they come, each once and in order.

use super::session::{self, Notes, Opened, SessionArgs};
use anyhow::bail;
use client::{Entry, EntryBody, Event, Events, From};
use std::{io::Write, time::Duration};
use types::{AckPolicy, LogId};

/// What `hearth tail` is asked to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Print one JSON object a line, for every entry and every divergence.
    #[arg(long)]
    json: bool,
    /// Where to begin.
    #[arg(long, value_enum, default_value_t = Begin::Start)]
    from: Begin,
    /// End after this many messages.
    #[arg(long)]
    count: Option<u64>,
    /// End when nothing has come for this long.
    #[arg(long, value_name = "MS")]
    until_idle_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Begin {
    /// At the first message.
    Start,
    /// At what is written from now on.
    End,
}

/// Prints messages until it is told to end.
///
/// # Errors
/// The chat cannot be followed, or standard output is gone.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let config = args.session.config().await?;
    let Opened { client, chat, mut events, notes } = session::open(&args.session, config).await?;
    let from = match args.from {
        Begin::Start => From::Start,
        Begin::End => From::End,
    };
    chat.follow(from).await;
    let out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut printer = Printer { out, json: args.json, messages: 0, notes };
    let idle = args.until_idle_ms.map(Duration::from_millis);
    while args.count.is_none_or(|count| printer.messages < count) {
        let Some(event) = next(&mut events, &mut printer, idle).await? else { break };
        if let Err(error) = printer.print(event) {
            // Whoever reads may have had enough: `tail | head` is no failure.
            match error.downcast_ref::<std::io::Error>() {
                Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                _ => return Err(error),
            }
        }
    }
    printer.out.flush()?;
    drop(client);
    Ok(())
}

/// The next event; what is printed is flushed before a wait.
async fn next<W: Write>(
    events: &mut Events,
    printer: &mut Printer<W>,
    idle: Option<Duration>,
) -> std::io::Result<Option<Event>> {
    if let Some(event) = events.try_next() {
        return Ok(Some(event));
    }
    printer.out.flush()?;
    Ok(match idle {
        None => events.next().await,
        Some(idle) => tokio::time::timeout(idle, events.next()).await.ok().flatten(),
    })
}

struct Printer<W> {
    out: W,
    json: bool,
    messages: u64,
    notes: Notes,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, event: Event) -> anyhow::Result<()> {
        if let Some(note) = self.notes.of(&event) {
            eprintln!("hearth: {note}");
        }
        match event {
            Event::Entry { log, entry } => {
                if self.json {
                    self.entry_json("entry", log, &entry)?;
                } else if let EntryBody::Message(body) = &entry.body {
                    self.out.write_all(body)?;
                    self.out.write_all(b"\n")?;
                }
                self.messages += u64::from(matches!(entry.body, EntryBody::Message(_)));
            }
            // Its content was printed; only JSON shows the new place.
            Event::Moved { log, entry } if self.json => self.entry_json("moved", log, &entry)?,
            Event::Diverged { log, common_offset, undone, forgotten } => {
                self.out.flush()?;
                eprintln!(
                    "hearth: diverged: a failover undid {}{} entries behind offset {common_offset}; those \
                     that return are not printed again",
                    if forgotten { "at least " } else { "" },
                    undone.len()
                );
                if self.json {
                    let line = serde_json::json!({
                        "event": "diverged", "log": log, "common_offset": common_offset,
                        "undone": undone, "forgotten": forgotten,
                    });
                    writeln!(self.out, "{line}")?;
                }
            }
            Event::Unfollowed { error, .. } => bail!("the chat cannot be followed: {error}"),
            Event::Ended { error } => bail!("the server refuses this session: {error}"),
            _ => {}
        }
        Ok(())
    }

    fn entry_json(&mut self, event: &str, log: LogId, entry: &Entry) -> anyhow::Result<()> {
        let mut line = serde_json::json!({
            "event": event,
            "log": log,
            "offset": entry.offset,
            "position": entry.position.as_str(),
            "sender": entry.sender,
            "device": entry.device.get().to_string(),
            "message_id": entry.message_id,
            "accepted_at_ms": entry.accepted_at_ms,
        });
        let (kind, body) = match &entry.body {
            EntryBody::Message(body) => ("message", Some(body)),
            EntryBody::Created { .. } => ("created", None),
            EntryBody::Deleted(_) => ("deleted", None),
            EntryBody::Erased => ("erased", None),
            _ => ("unknown", None),
        };
        line["kind"] = kind.into();
        if entry.salvaged {
            line["salvaged"] = true.into();
        }
        if let EntryBody::Created { ack, .. } = &entry.body {
            line["ack"] = if *ack == AckPolicy::Replicated { "replicated" } else { "home" }.into();
        }
        if let Some(body) = body {
            match std::str::from_utf8(body) {
                Ok(text) => line["text"] = text.into(),
                Err(_) => line["bytes"] = body.to_vec().into(),
            }
        }
        writeln!(self.out, "{line}")?;
        Ok(())
    }
}
