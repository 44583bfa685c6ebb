//! `hearth send`: each line of a file or of standard input becomes one message, once and in order.

use super::session::{self, Opened, SessionArgs};
use anyhow::{Context as _, bail};
use client::{Bounds, Chat, Sending};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

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
    /// Print each acked message as one JSON object a line.
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
    let mut config = args.session.config().await?;
    config.bounds.window = args.window;
    let in_outbox = config.bounds.outbox_messages;
    let Opened { client, chat, mut events, mut notes } = session::open(&args.session, config).await?;
    let begun = Instant::now();
    let events = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Some(note) = notes.of(&event) {
                eprintln!("hearth: {note}");
            }
        }
    });
    let (sendings, acks) = mpsc::channel(in_outbox);
    let acks = tokio::spawn(collect(acks, args.ack, args.json));
    let sent = send_all(&chat, input, sendings).await;
    let acked = acks.await.context("the collector of acks ended")?;
    drop((client, chat));
    events.abort();
    // A refused message says more than the line that could no longer be sent behind it.
    let acked = acked?;
    sent?;
    let summary = acked.summary(begun.elapsed(), args.ack);
    eprintln!("hearth: {summary}");
    Ok(())
}

async fn send_all(
    chat: &Chat,
    input: Box<dyn Read + Send>,
    sendings: mpsc::Sender<(Sending, usize)>,
) -> anyhow::Result<()> {
    let (sender, mut lines) = mpsc::channel(LINES_AHEAD);
    let (end, ended) = oneshot::channel();
    // A thread of its own: a read from a terminal cannot be cancelled, and must not hold up the end.
    std::thread::spawn(move || end.send(read_lines(input, &sender)));
    let mut number = 0u64;
    while let Some(line) = lines.recv().await {
        number += 1;
        let bytes = line.len();
        let sending = chat.send_when_room(line).await.with_context(|| format!("line {number}"))?;
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

async fn collect(
    mut sendings: mpsc::Receiver<(Sending, usize)>,
    ack: Ack,
    json: bool,
) -> anyhow::Result<Acked> {
    let mut acked = Acked::default();
    let mut out = std::io::BufWriter::new(std::io::stdout());
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
        if json {
            let line = serde_json::json!({
                "event": "acked",
                "line": number,
                "message_id": message_id,
                "position": position.as_str(),
            });
            writeln!(out, "{line}")?;
            if sendings.is_empty() {
                out.flush()?;
            }
        }
    }
    out.flush()?;
    Ok(acked)
}
