//! The line that is being typed, where the terminal hands over each key. It knows no terminal: keys go in, lines come
//! out.

/// The longest line; what is typed behind that is not taken.
const LINE_MAX_BYTES: usize = types::limits::BODY_MAX_BYTES;

const END_OF_INPUT: u8 = 0x04;
const BELL_AND_BACKSPACE: u8 = 0x08;
const ERASE_LINE: u8 = 0x15;
const ERASE_WORD: u8 = 0x17;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// What came of the keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A line is complete.
    Line(String),
    /// Nothing more will be typed.
    End,
}

/// Of what a terminal sends for keys such as the arrows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    No,
    /// The escape itself has come.
    Begun,
    /// `[` or `O` has come behind it; a letter or `~` ends it.
    Within,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Editor {
    line: String,
    /// The beginning of a character.
    partial: Vec<u8>,
    escape: Escape,
}

impl Editor {
    pub(super) const fn new() -> Self {
        Self { line: String::new(), partial: Vec::new(), escape: Escape::No }
    }

    /// What has been typed of the line.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// Takes keys in.
    pub(super) fn feed(&mut self, keys: &[u8]) -> Vec<Key> {
        let mut out = Vec::new();
        for key in keys {
            match (self.escape, *key) {
                (Escape::Begun, b'[' | b'O') => self.escape = Escape::Within,
                (Escape::Begun, _) => self.escape = Escape::No,
                (Escape::Within, b'@'..=b'~') => self.escape = Escape::No,
                (Escape::Within, _) => {}
                (Escape::No, ESCAPE) => self.escape = Escape::Begun,
                (Escape::No, b'\r' | b'\n') => {
                    self.partial.clear();
                    out.push(Key::Line(std::mem::take(&mut self.line)));
                }
                (Escape::No, END_OF_INPUT) if self.line.is_empty() => out.push(Key::End),
                (Escape::No, key) => self.key(key),
            }
        }
        out
    }

    fn key(&mut self, key: u8) {
        match key {
            BELL_AND_BACKSPACE | DELETE => drop(self.line.pop()),
            ERASE_LINE => self.line.clear(),
            ERASE_WORD => {
                let kept = self.line.trim_end().rfind(' ').map_or(0, |space| space + 1);
                self.line.truncate(kept);
            }
            key if key.is_ascii_control() => {}
            key => self.push(key),
        }
    }

    fn push(&mut self, byte: u8) {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) if self.line.len() + text.len() <= LINE_MAX_BYTES => self.line.push_str(text),
            // The rest of the character is on its way.
            Err(error) if error.error_len().is_none() => return,
            _ => {}
        }
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<Key> {
        vec![Key::Line(text.to_owned())]
    }

    #[test]
    fn keys_make_lines() {
        let mut editor = Editor::new();
        assert_eq!(editor.feed("hällo".as_bytes()), []);
        assert_eq!(editor.line(), "hällo");
        assert_eq!(editor.feed(b"\x7f\x7fx\r"), line("hälx"));
        assert_eq!(editor.line(), "");
        assert_eq!(editor.feed(b"one two three\x17\x17!\n"), line("one !"));
        assert_eq!(editor.feed(b"gone\x15\x7fhere\n"), line("here"));
        assert_eq!(editor.feed(b"\n"), line(""));
    }

    #[test]
    fn a_character_may_come_in_pieces() {
        let mut editor = Editor::new();
        for byte in "👍".as_bytes() {
            editor.feed(&[*byte]);
        }
        assert_eq!(editor.line(), "👍");
        // What is no character is dropped, and nothing with it.
        editor.feed(b"\xffok");
        assert_eq!(editor.line(), "👍ok");
    }

    #[test]
    fn arrows_and_control_keys_write_nothing() {
        let mut editor = Editor::new();
        assert_eq!(editor.feed(b"a\x1b[A\x1b[1;5C\x1bOP\x1b[3~\x01b\t\n"), line("ab"));
    }

    #[test]
    fn the_input_ends_where_the_line_is_empty() {
        let mut editor = Editor::new();
        assert_eq!(editor.feed(b"a\x04"), []);
        assert_eq!(editor.feed(b"\x7f\x04"), [Key::End]);
    }

    #[test]
    fn a_line_does_not_grow_without_end() {
        let mut editor = Editor::new();
        editor.feed(&vec![b'x'; LINE_MAX_BYTES + 7]);
        assert_eq!(editor.line().len(), LINE_MAX_BYTES);
    }
}
