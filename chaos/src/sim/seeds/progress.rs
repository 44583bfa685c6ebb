//! How far many seeds have come: a bar on a terminal, a line now and then elsewhere.

use super::many::Count;
use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);
const WIDTH: u64 = 30;

pub(super) struct Progress {
    seeds: u64,
    began: Instant,
    on_terminal: bool,
    last_line: Instant,
}

impl Progress {
    pub(super) fn new(seeds: u64) -> Self {
        let began = Instant::now();
        Self { seeds, began, on_terminal: io::stderr().is_terminal(), last_line: began }
    }

    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn draw(&mut self, count: &Count) {
        if self.on_terminal {
            // To the start of the line, and what is behind the new text is erased.
            eprint!("\r{}\x1b[K", line(count, self.seeds, self.took()));
            let _ = io::stderr().flush();
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            eprintln!("{}", line(count, self.seeds, self.took()));
        }
    }

    /// Makes room for something else.
    pub(super) fn clear(&self) {
        if self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }

    pub(super) fn end(&mut self, count: &Count) {
        if self.on_terminal {
            self.draw(count);
            eprintln!();
        }
    }
}

fn line(count: &Count, seeds: u64, took: Duration) -> String {
    let filled = (count.done * WIDTH / seeds.max(1)).min(WIDTH);
    let bar = format!("{}{}", "#".repeat(filled as usize), "-".repeat((WIDTH - filled) as usize));
    let seconds = took.as_secs_f64();
    let rate = count.done as f64 / seconds.max(0.001);
    let left =
        if count.done == 0 { "?".to_owned() } else { time(seeds.saturating_sub(count.done) as f64 / rate) };
    format!(
        "[{bar}] {}/{seeds}, {} failed, {rate:.2} seeds/s, {} gone, {left} left",
        count.done,
        count.failed,
        time(seconds),
    )
}

fn time(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_it_is_and_how_long_it_takes_yet() {
        let count = Count { done: 50, failed: 1, simulated_ms: 0 };
        let line = line(&count, 200, Duration::from_secs(100));
        assert_eq!(
            line,
            "[#######-----------------------] 50/200, 1 failed, 0.50 seeds/s, 1 min 40 s gone, 5 min 00 s left"
        );
    }

    #[test]
    fn nothing_done_and_no_seeds_are_told_too() {
        assert!(line(&Count::default(), 10, Duration::ZERO).ends_with("? left"));
        assert!(line(&Count::default(), 0, Duration::ZERO).contains("0/0"));
    }
}
