//! `hearth tail`: prints the messages of a chat as they come, each once and in order.

use super::{
    session::{self, Heard, Notes, Opened, SessionArgs},
    told,
};
use anyhow::{Context as _, bail};
use client::{EntryBody, Event, From};
use std::{io::Write, time::Duration};

/// What `hearth tail` is asked to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Print one JSON object a line, for every entry and every divergence.
    #[arg(long)]
    json: bool,
    /// Where to begin; with --state, when the file is new: later runs print what came since.
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
    let begin = args.session.begin().await?;
    begin.names_a_chat()?;
    let Opened { client, chat, mut events, notes, .. } = session::open(&args.session, begin).await?;
    let chat = chat.context("no chat is open")?;
    let from = match args.from {
        Begin::Start => From::Start,
        Begin::End => From::End,
    };
    chat.follow(from).await;
    let out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut printer = Printer { out, json: args.json, messages: 0, notes };
    let idle = args.until_idle_ms.map(Duration::from_millis);
    let printed = print_all(&mut events, &mut printer, args.count, idle).await;
    drop(client);
    match printed {
        // Whoever reads may have had enough: `tail | head` is no failure.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        printed => printed,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn print_all<W: Write>(
    events: &mut Heard,
    printer: &mut Printer<W>,
    count: Option<u64>,
    idle: Option<Duration>,
) -> anyhow::Result<()> {
    while count.is_none_or(|count| printer.messages < count) {
        let Some(event) = next(events, printer, idle).await? else { break };
        printer.print(event)?;
    }
    printer.out.flush()?;
    events.confirm().await
}

/// The next event; what is printed is flushed, and then confirmed, before a wait.
async fn next<W: Write>(
    events: &mut Heard,
    printer: &mut Printer<W>,
    idle: Option<Duration>,
) -> anyhow::Result<Option<Event>> {
    if let Some(event) = events.try_next() {
        return Ok(Some(event));
    }
    printer.out.flush()?;
    events.confirm().await?;
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
        if self.json && matches!(event, Event::Entry { .. } | Event::Moved { .. } | Event::Diverged { .. }) {
            writeln!(self.out, "{}", told::event(&event))?;
        }
        match event {
            Event::Entry { entry, .. } => {
                // The content of one that moved was printed; only JSON shows its new place.
                let EntryBody::Message(body) = &entry.body else { return Ok(()) };
                self.messages += 1;
                if !self.json {
                    self.out.write_all(body)?;
                    self.out.write_all(b"\n")?;
                }
            }
            Event::Diverged { common_offset, undone, forgotten, .. } => {
                self.out.flush()?;
                eprintln!(
                    "hearth: diverged: a failover undid {}{} entries behind offset {common_offset}; those \
                     that return are not printed again",
                    if forgotten { "at least " } else { "" },
                    undone.len()
                );
            }
            Event::Unfollowed { error, .. } => bail!("the chat cannot be followed: {error}"),
            Event::Ended { error } => bail!("the server refuses this session: {error}"),
            _ => {}
        }
        Ok(())
    }
}
