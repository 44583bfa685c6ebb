//! Names that are unique in the world: what a user is found and logs in by.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A text is no name that a user may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {why}")]
pub struct NameError {
    /// Which kind of name.
    pub what: &'static str,
    /// The offending text, cut to 80 characters.
    pub text: String,
    /// The rule it breaks.
    pub why: &'static str,
}

impl NameError {
    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), why }
    }
}

/// The name that a user chose: 3 to 32 characters of `a-z`, `0-9`, `.` and `_`, the first one a letter. Capitals
/// are taken for small letters, so that no two users differ by them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(String);

impl Username {
    /// The shortest, in bytes.
    pub const MIN_BYTES: usize = 3;
    /// The longest, in bytes.
    pub const MAX_BYTES: usize = 32;

    /// Checks a name, and takes its capitals for small letters.
    ///
    /// # Errors
    /// [`NameError`] names the rule that the text breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let wrong = |why| NameError::new("username", text, why);
        if text.len() < Self::MIN_BYTES {
            return Err(wrong("it is shorter than 3 characters"));
        }
        if text.len() > Self::MAX_BYTES {
            return Err(wrong("it is longer than 32 characters"));
        }
        if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(wrong("it does not start with a letter"));
        }
        let is_allowed = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_');
        if !text.chars().all(is_allowed) {
            return Err(wrong("only letters, digits, '.' and '_' are allowed"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name as text, in small letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A phone number as E.164 writes it: `+`, then 7 to 15 digits of which the first is not 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Phone(String);

impl Phone {
    /// The fewest digits.
    pub const MIN_DIGITS: usize = 7;
    /// The most digits (ITU-T E.164).
    pub const MAX_DIGITS: usize = 15;

    /// Checks a number. Blanks, hyphens and brackets are nobody's to guess about: they are refused.
    ///
    /// # Errors
    /// [`NameError`] names the rule that the text breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let wrong = |why| NameError::new("phone number", text, why);
        let Some(digits) = text.strip_prefix('+') else { return Err(wrong("it does not start with '+'")) };
        if !(Self::MIN_DIGITS..=Self::MAX_DIGITS).contains(&digits.len()) {
            return Err(wrong("it has not 7 to 15 digits"));
        }
        if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong("only digits may follow the '+'"));
        }
        if digits.starts_with('0') {
            return Err(wrong("no country code starts with 0"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The number as text, with its `+`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name of either kind. As text, one is never taken for the other: a number starts with `+`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Name {
    /// Chosen.
    Username(Username),
    /// Given by a telephone company.
    Phone(Phone),
}

impl Name {
    /// Checks a name of either kind.
    ///
    /// # Errors
    /// [`NameError`] names the rule that the text breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.starts_with('+') {
            Phone::new(text).map(Self::Phone)
        } else {
            Username::new(text).map(Self::Username)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Username(name) => name.as_str(),
            Self::Phone(phone) => phone.as_str(),
        }
    }
}

macro_rules! text {
    ($($name:ident),*) => {
        $(
            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(self.as_str())
                }
            }

            impl TryFrom<String> for $name {
                type Error = NameError;
                fn try_from(text: String) -> Result<Self, NameError> {
                    Self::new(&text)
                }
            }

            impl From<$name> for String {
                fn from(name: $name) -> String {
                    name.as_str().to_owned()
                }
            }
        )*
    };
}
text!(Username, Phone, Name);

impl From<Username> for Name {
    fn from(name: Username) -> Self {
        Self::Username(name)
    }
}

impl From<Phone> for Name {
    fn from(phone: Phone) -> Self {
        Self::Phone(phone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_make_no_other_name() {
        assert_eq!(Name::new("Alice.B_2").expect("valid").as_str(), "alice.b_2");
    }

    #[test]
    fn a_wrong_name_is_told_its_rule() {
        let why = |text: &str| Name::new(text).expect_err("not valid").why;
        assert_eq!(why("al"), "it is shorter than 3 characters");
        assert_eq!(why(&"a".repeat(33)), "it is longer than 32 characters");
        assert_eq!(why("2alice"), "it does not start with a letter");
        assert_eq!(why("аlice"), "it does not start with a letter", "a Cyrillic first letter");
        assert_eq!(why("alice-b"), "only letters, digits, '.' and '_' are allowed");
        assert_eq!(why("+49 170 1234"), "only digits may follow the '+'");
        assert_eq!(why("+0170123456"), "no country code starts with 0");
        assert_eq!(why("+123456"), "it has not 7 to 15 digits");
        assert_eq!(why("+1234567890123456"), "it has not 7 to 15 digits");
    }

    #[test]
    fn a_number_is_no_username() {
        assert!(matches!(Name::new("+491701234567"), Ok(Name::Phone(_))));
        assert!(matches!(Name::new("alice"), Ok(Name::Username(_))));
    }
}
