//! Whose turn it is: what is typed, what is done of it, what happens.

use super::{
    Order, Talk,
    editor::{Editor, Key},
    keys::{self, Input, Terminal},
    orders::Done,
};
use crate::{commands::session::Heard, shutdown};
use anyhow::{Context as _, bail};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long what is under way is waited for after the end of the input.
const LAST_WAIT: Duration = Duration::from_secs(30);
/// Lines that wait for the one before; what is typed behind them is not taken.
const LINES_AHEAD: usize = 64;
/// How often the others are told that the user types.
const TYPING_EVERY: Duration = Duration::from_secs(2);

/// What was typed and is still to be done.
struct Waiting {
    editor: Editor,
    lines: VecDeque<String>,
    has_ended: bool,
    /// When the others were told last that the user types.
    told_typing: Option<Instant>,
}

impl Talk {
    /// Until the input has ended and all of it is done, and replicated.
    pub(super) async fn go_on(&mut self, events: &mut Heard) -> anyhow::Result<()> {
        let by_key = keys::are_handed_over(self.json);
        let stops = by_key.then(shutdown::on_signal).transpose()?;
        let terminal = by_key.then(Terminal::take).transpose()?;
        let mut goes_on = by_key.then(keys::goes_on).transpose()?;
        let mut inputs = keys::read(by_key);
        let mut waiting =
            Waiting { editor: Editor::new(), lines: VecDeque::new(), has_ended: false, told_typing: None };
        let mut order: Option<Order> = None;
        let deadline = tokio::time::sleep(Duration::MAX);
        tokio::pin!(deadline);
        loop {
            // One thing after the other: what is typed next may be about what this one leads to.
            if order.is_none()
                && let Some(line) = waiting.lines.pop_front()
            {
                order = self.take(&line).await?;
                continue;
            }
            if waiting.has_ended && self.under_way.is_empty() && order.is_none() {
                return events.confirm().await;
            }
            tokio::select! {
                input = inputs.recv(), if !waiting.has_ended && (by_key || order.is_none()) => {
                    self.input(input, &mut waiting).await?;
                    if waiting.has_ended {
                        deadline.as_mut().reset(tokio::time::Instant::now() + LAST_WAIT);
                    }
                }
                done = done(&mut order), if order.is_some() => {
                    let verb = order.take().map(|order| order.verb).unwrap_or_default();
                    self.done(&verb, done).await?;
                }
                event = events.next() => match event {
                    Some(event) => self.hear_all(event, events).await?,
                    None => return events.confirm().await,
                },
                () = &mut deadline, if waiting.has_ended => {
                    let fate = match events.is_kept() {
                        true => "the next run with this state file sends them",
                        false => "they may be lost",
                    };
                    bail!("{} messages are not replicated yet; {fate}", self.under_way.len());
                }
                () = told(stops.as_ref().map(|stop| stop.cancelled())) => {
                    bail!("interrupted");
                }
                _ = told(goes_on.as_mut().map(|signal| signal.recv())) => {
                    if let Some(terminal) = &terminal {
                        terminal.take_again()?;
                    }
                }
            }
        }
    }

    /// Something was typed, or nothing more will be.
    async fn input(&mut self, input: Option<Input>, waiting: &mut Waiting) -> anyhow::Result<()> {
        let keys = match input {
            None => {
                waiting.has_ended = true;
                return Ok(());
            }
            Some(Input::Line(line)) => {
                waiting.lines.push_back(line);
                return Ok(());
            }
            Some(Input::Keys(keys)) => keys,
        };
        for key in waiting.editor.feed(&keys) {
            match key {
                Key::Line(line) if waiting.lines.len() < LINES_AHEAD => waiting.lines.push_back(line),
                Key::Line(_) => self.note("too many lines wait to be done: this one is not")?,
                Key::End => waiting.has_ended = true,
            }
        }
        let line = waiting.editor.line();
        self.screen.typed(line)?;
        let now = Instant::now();
        let is_message = !line.is_empty() && (!line.starts_with('/') || line.starts_with("//"));
        let was_told = waiting.told_typing.is_some_and(|at| now < at + TYPING_EVERY);
        if let Some(room) = self.room.as_ref().filter(|_| is_message && !was_told) {
            waiting.told_typing = Some(now);
            room.chat.typing().await;
        }
        Ok(())
    }
}

async fn done(order: &mut Option<Order>) -> anyhow::Result<Done> {
    match order {
        Some(order) => (&mut order.task).await.context("it was given up")?,
        None => std::future::pending().await,
    }
}

/// What is waited for, where there is something to wait for.
async fn told<T>(waiting: Option<impl Future<Output = T>>) -> T {
    match waiting {
        Some(waiting) => waiting.await,
        None => std::future::pending().await,
    }
}
