//! Lines and their ticks, on a terminal or in a pipe.
//!
//! On a terminal an own line is written again in place when its tick changes, as long as it is near; what is
//! being typed stays as it is. In a pipe each change of a tick is a line.

use std::{
    collections::VecDeque,
    io::{self, Write},
};
use types::MessageId;

/// Rows back to which a line is written again in place; one further up may have left the screen.
const ROWS_BACK_MAX: usize = 20;

/// Columns that are kept free for the number of an own message.
const NUMBER_COLUMNS: usize = 9;

/// How far an own message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    /// In the outbox.
    Accepted,
    /// Durable in its home region.
    Home,
    /// Durable in every in-sync region.
    Replicated,
}

impl Tick {
    const fn sign(self) -> &'static str {
        match self {
            Self::Accepted => "·",
            Self::Home => "✓",
            Self::Replicated => "✓✓",
        }
    }
}

/// What someone said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Who.
    pub(super) sender: String,
    /// What.
    pub(super) text: String,
    /// By which number it can be named; none: it has none yet.
    pub(super) number: Option<u64>,
}

impl Line {
    fn text(&self) -> String {
        let Self { sender, text, number } = self;
        format!("{}{sender}: {}", number.map(numbered).unwrap_or_default(), plain(text))
    }
}

fn numbered(number: u64) -> String {
    format!("[{number}] ")
}

/// Where lines are shown.
pub(super) struct Screen<W> {
    out: W,
    terminal: bool,
    columns: usize,
    /// The latest rows, newest last: of whom each line is, and how many rows it takes.
    near: VecDeque<(Option<(MessageId, Line)>, usize)>,
    /// What is being typed, below them.
    input: String,
}

impl<W: Write> Screen<W> {
    /// A screen on `out`.
    pub(super) fn new(out: W, terminal: bool) -> Self {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(80);
        Self { out, terminal, columns, near: VecDeque::new(), input: String::new() }
    }

    /// Something about the session; on standard error where the lines go into a pipe.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        if !self.terminal {
            eprintln!("hearth: {text}");
            return Ok(());
        }
        let text = format!("-- {} --", plain(text));
        self.row(None, &text)
    }

    /// Someone's message.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn line(&mut self, line: Line) -> io::Result<()> {
        self.row(None, &line.text())
    }

    /// Something that was typed to be done; nothing where the lines go into a pipe.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn echoed(&mut self, typed: &str) -> io::Result<()> {
        if self.terminal { self.row(None, &format!("> {}", plain(typed))) } else { Ok(()) }
    }

    /// What is being typed now: it stays below all else.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn typed(&mut self, input: &str) -> io::Result<()> {
        if self.terminal {
            self.clear_input()?;
            self.input = plain(input);
            write!(self.out, "{}", self.input)?;
            self.out.flush()?;
        }
        Ok(())
    }

    fn clear_input(&mut self) -> io::Result<()> {
        match rows(&self.input, self.columns) {
            1 => {}
            rows => write!(self.out, "\x1b[{}A", rows - 1)?,
        }
        write!(self.out, "\r\x1b[J")
    }

    /// An own message that was just typed and accepted.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn own(&mut self, id: MessageId, line: Line) -> io::Result<()> {
        let text = own_text(&line, Tick::Accepted);
        self.row(Some((id, line)), &text)
    }

    /// An own message has come further, and stands at this number, or was taken back.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn tick(
        &mut self,
        id: MessageId,
        tick: Tick,
        number: Option<u64>,
        text: &str,
    ) -> io::Result<()> {
        if !self.terminal {
            let number = number.map(numbered).unwrap_or_default();
            writeln!(self.out, "{} {number}{}", tick.sign(), plain(text))?;
            return self.out.flush();
        }
        let mut up = rows(&self.input, self.columns) - 1;
        for (own, height) in self.near.iter().rev() {
            up += height;
            let Some((_, line)) = own.as_ref().filter(|(of, _)| *of == id) else { continue };
            let text = own_text(&Line { number, ..line.clone() }, tick);
            if rows(&text, self.columns) == *height {
                write!(self.out, "\x1b7\x1b[{up}A\r{text}\x1b[K\x1b8")?;
                self.out.flush()?;
            }
            break;
        }
        Ok(())
    }

    fn row(&mut self, own: Option<(MessageId, Line)>, text: &str) -> io::Result<()> {
        if self.terminal {
            self.clear_input()?;
            self.near.push_back((own, rows(text, self.columns)));
            while self.near.iter().map(|(_, height)| height).sum::<usize>() > ROWS_BACK_MAX {
                self.near.pop_front();
            }
        }
        writeln!(self.out, "{text}")?;
        if self.terminal {
            write!(self.out, "{}", self.input)?;
        }
        self.out.flush()
    }
}

fn own_text(line: &Line, tick: Tick) -> String {
    // Sign and number are padded, so that the line keeps its height as they change.
    let number = line.number.map(numbered).unwrap_or_default();
    format!("{}: {} {:<2} {number:<NUMBER_COLUMNS$}", line.sender, plain(&line.text), tick.sign())
}

/// The text without control characters: a message must not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn rows(text: &str, columns: usize) -> usize {
    text.chars().count().div_ceil(columns.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId::from_bytes([1; 16]);

    fn line(text: &str) -> Line {
        Line { sender: "alice".to_owned(), text: text.to_owned(), number: None }
    }

    #[test]
    fn in_a_pipe_each_tick_is_a_line() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, false);
        screen.own(ID, line("hi")).expect("written");
        screen.tick(ID, Tick::Home, Some(7), "hi").expect("written");
        screen.tick(ID, Tick::Replicated, Some(7), "hi").expect("written");
        screen.line(Line { number: Some(8), ..line("ho") }).expect("written");
        let out = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["alice: hi ·", "✓ [7] hi", "✓✓ [7] hi", "[8] alice: ho"]);
    }

    #[test]
    fn on_a_terminal_a_tick_is_written_in_place() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, true);
        screen.own(ID, line("hi")).expect("written");
        screen.line(line("later")).expect("written");
        screen.echoed("/read").expect("written");
        screen.typed("and").expect("written");
        screen.tick(ID, Tick::Home, Some(7), "hi").expect("written");
        let out = String::from_utf8(out).expect("text");
        assert!(out.ends_with("\x1b7\x1b[3A\ralice: hi ✓  [7]      \x1b[K\x1b8"), "{out:?}");
    }

    #[test]
    fn what_is_being_typed_stays_below_what_comes() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, true);
        screen.columns = 10;
        screen.typed("two rows of it").expect("written");
        screen.line(line("hi")).expect("written");
        let out = String::from_utf8(out).expect("text");
        assert!(out.ends_with("\x1b[1A\r\x1b[Jalice: hi\ntwo rows of it"), "{out:?}");
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, false);
        screen.line(line("\x1b[2Jgone")).expect("written");
        assert_eq!(String::from_utf8(out).expect("text"), "alice: \u{fffd}[2Jgone\n");
    }
}
