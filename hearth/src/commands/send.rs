//! `hearth send`: each line of a file or of standard input becomes one message, once and in order.
//!
//! ```text
//!   input ──▶ read ──▶ send ──▶ kept (with --state: "queued") ──▶ acked ("acked")
//!                                events ──▶ confirmed ──▶ nothing is left in the state file
//! ```

use super::session::{self, Heard, Notes, Opened, SessionArgs};
use anyhow::{Context as _, bail};
use client::{Bounds, Chat, Event, SendError, Sending, session::MessageSnapshot};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};
use types::MessageId;

/// Lines that are read ahead.
const LINES_AHEAD: usize = 1_024;

/// What `hearth send` is asked to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Read messages from this file, one a line [default: standard input].
    #[arg(long)]
    file: Option<PathBuf>,
    /// Print each message as one JSON object a line: when it is acked, and with --state when it is queued, too.
    #[arg(long)]
    json: bool,
    /// When a message counts as sent.
    #[arg(long, value_enum, default_value_t = Ack::Replicated)]
    ack: Ack,
    /// Messages that may be under way without an answer; the server's limit holds too.
    #[arg(long, default_value_t = Bounds::default().window)]
    window: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ack {
    /// Durable in its home region.
    Home,
    /// Durable in every in-sync region.
    Replicated,
}

/// Sends all lines, and ends when all are acked.
///
/// # Errors
/// A message that cannot be read, is too long, or is refused.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let input: Box<dyn Read + Send> = match &args.file {
        Some(path) => Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
        None => Box::new(std::io::stdin()),
    };
    let mut begin = args.session.begin().await?;
    begin.names_a_chat()?;
    begin.config.bounds.window = args.window;
    let in_outbox = begin.config.bounds.outbox_messages;
    let Opened { client, chat, events, notes, earlier, .. } = session::open(&args.session, begin).await?;
    let chat = chat.context("no chat is open")?;
    let begun = Instant::now();
    let out = Out::new(args.json);
    let earlier_count = earlier.len() as u64;
    let is_kept = events.is_kept();
    let (settled, mut is_settled) = watch::channel(0);
    let events = tokio::spawn(hear(events, notes, earlier, out.clone(), settled));
    let (sendings, to_keep) = mpsc::channel(in_outbox);
    let (kept, to_ack) = mpsc::channel(in_outbox);
    let keeping = tokio::spawn(keep(to_keep, kept, is_kept.then(|| out.clone())));
    let acks = tokio::spawn(collect(to_ack, args.ack, out.clone()));
    let sent = send_all(&chat, input, sendings).await;
    let kept = keeping.await.context("the keeper ended")?;
    let acked = acks.await.context("the collector of acks ended")?;
    // A message that was refused or not kept says more than the line that could no longer be sent behind it.
    let acked = acked?;
    kept?;
    sent?;
    if is_kept && args.ack == Ack::Replicated {
        let all = earlier_count + acked.messages;
        if is_settled.wait_for(|settled| *settled >= all).await.is_err() {
            events.await.context("the events ended")??;
            bail!("the session ended");
        }
    } else {
        events.abort();
    }
    drop((client, chat));
    out.flush()?;
    let summary = acked.summary(begun.elapsed(), args.ack);
    eprintln!("hearth: {summary}");
    Ok(())
}

/// Standard output, shared: lines of JSON, or nothing.
#[derive(Clone)]
struct Out {
    lines: Option<Arc<Mutex<std::io::BufWriter<std::io::Stdout>>>>,
}

impl Out {
    fn new(json: bool) -> Self {
        Self { lines: json.then(|| Arc::new(Mutex::new(std::io::BufWriter::new(std::io::stdout())))) }
    }

    fn line(&self, line: &Value) -> std::io::Result<()> {
        match &self.lines {
            Some(lines) => writeln!(lines.lock().unwrap_or_else(PoisonError::into_inner), "{line}"),
            None => Ok(()),
        }
    }

    fn flush(&self) -> std::io::Result<()> {
        match &self.lines {
            Some(lines) => lines.lock().unwrap_or_else(PoisonError::into_inner).flush(),
            None => Ok(()),
        }
    }
}

/// Takes what happens, confirms it, and counts the messages whose end is confirmed.
async fn hear(
    mut events: Heard,
    mut notes: Notes,
    earlier: Vec<MessageSnapshot>,
    out: Out,
    settled: watch::Sender<u64>,
) -> anyhow::Result<()> {
    let mut earlier: HashSet<MessageId> = earlier.into_iter().map(|message| message.message_id).collect();
    while let Some(first) = events.next().await {
        let mut ended = 0;
        let mut next = Some(first);
        while let Some(event) = next {
            if let Some(note) = notes.of(&event) {
                eprintln!("hearth: {note}");
            }
            match event {
                Event::Replicated { message_id, position, .. }
                | Event::Home { message_id, position, last: true, .. } => {
                    ended += 1;
                    if earlier.remove(&message_id) {
                        let line = json!({
                            "event": "acked", "message_id": message_id, "position": position.as_str(),
                        });
                        out.line(&line)?;
                    }
                }
                Event::Failed { error: SendError::Ended(error), .. } => {
                    bail!("the server refuses this session: {error}")
                }
                Event::Failed { message_id, error, .. } => {
                    ended += 1;
                    if earlier.remove(&message_id) {
                        eprintln!("hearth: message {message_id} of an earlier run: {error}");
                        out.line(&json!({ "event": "failed", "message_id": message_id, "error": error.to_string() }))?;
                    }
                }
                _ => {}
            }
            next = events.try_next();
        }
        out.flush()?;
        events.confirm().await?;
        settled.send_modify(|settled| *settled += ended);
    }
    Ok(())
}

/// A message on its way, and the bytes of its body.
type UnderWay = (Sending, usize);

async fn send_all(
    chat: &Chat,
    input: Box<dyn Read + Send>,
    sendings: mpsc::Sender<UnderWay>,
) -> anyhow::Result<()> {
    let (sender, mut lines) = mpsc::channel(LINES_AHEAD);
    let (end, ended) = oneshot::channel();
    // A thread of its own: a read from a terminal cannot be cancelled, and must not hold up the end.
    std::thread::spawn(move || end.send(read_lines(input, &sender)));
    let mut number = 0u64;
    while let Some(line) = lines.recv().await {
        number += 1;
        let bytes = line.len();
        let sending = chat.send_ahead(line).await.with_context(|| format!("line {number}"))?;
        if sendings.send((sending, bytes)).await.is_err() {
            bail!("line {number}: an earlier message was refused");
        }
    }
    ended.await.context("the reader ended")?.context("cannot read the input")
}

fn read_lines(input: impl Read, lines: &mpsc::Sender<Vec<u8>>) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 18, input);
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if lines.blocking_send(line).is_err() {
            return Ok(());
        }
    }
}

/// Waits until each message is kept, in their order, and says so on `out`, where there is a store.
async fn keep(
    mut sendings: mpsc::Receiver<UnderWay>,
    kept: mpsc::Sender<UnderWay>,
    out: Option<Out>,
) -> anyhow::Result<()> {
    let mut number = 0u64;
    while let Some((mut sending, bytes)) = sendings.recv().await {
        number += 1;
        sending.kept().await.with_context(|| format!("line {number}"))?;
        if let Some(out) = &out {
            let message_id = sending.message_id();
            out.line(&json!({ "event": "queued", "line": number, "message_id": message_id }))?;
            if sendings.is_empty() {
                out.flush()?;
            }
        }
        if kept.send((sending, bytes)).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Acked {
    messages: u64,
    bytes: u64,
}

impl Acked {
    fn summary(&self, took: Duration, ack: Ack) -> String {
        let Self { messages, bytes } = self;
        let seconds = took.as_secs_f64();
        let rate = *messages as f64 / seconds.max(0.001);
        let ack = match ack {
            Ack::Home => "home",
            Ack::Replicated => "replicated",
        };
        format!("{messages} messages ({bytes} bytes) {ack} in {seconds:.1} s, {rate:.0}/s")
    }
}

async fn collect(mut sendings: mpsc::Receiver<UnderWay>, ack: Ack, out: Out) -> anyhow::Result<Acked> {
    let mut acked = Acked::default();
    while let Some((sending, bytes)) = sendings.recv().await {
        let message_id = sending.message_id();
        let position = match ack {
            Ack::Home => sending.home().await,
            Ack::Replicated => sending.replicated().await,
        };
        let number = acked.messages + 1;
        let position = position.with_context(|| format!("line {number}, message {message_id}"))?;
        acked.messages = number;
        acked.bytes += bytes as u64;
        out.line(&json!({
            "event": "acked", "line": number, "message_id": message_id, "position": position.as_str(),
        }))?;
        if sendings.is_empty() {
            out.flush()?;
        }
    }
    Ok(acked)
}
