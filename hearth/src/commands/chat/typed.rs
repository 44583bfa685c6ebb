//! What a typed line means: a message, or something to do.

use client::{Invitation, MemberRole};
use std::time::Duration;

/// What there is to type.
pub(super) const HELP: &[(&str, &str)] = &[
    ("TEXT", "write a message (//TEXT where it begins with a slash)"),
    ("/chats", "list your chats (with --credentials)"),
    ("/open USER|CHAT", "go to the direct chat with a user, or to a chat by its id"),
    ("/group NAME [USER…]", "make a group and go to it"),
    ("/members", "tell who is in the chat"),
    ("/add USER…, /remove USER…", "let users in, take them out"),
    ("/leave", "leave the group"),
    ("/role USER member|admin|owner", "give a member another role"),
    ("/name NAME", "give the group another name"),
    ("/invite [HOURS [USES]]", "make an invitation, to be passed on"),
    ("/invites, /revoke INVITE", "tell which invites there are, take one back"),
    ("/join INVITATION", "come to a group, and go to it"),
    ("/reply N TEXT, /react N TEXT", "answer message [N], say what you feel about it"),
    ("/edit N TEXT, /delete N…", "let your message [N] say something else, take messages away"),
    ("/expire SECONDS|off", "let what is written from now on go by itself"),
    ("/read", "tell who has received and read the chat up to where"),
    ("/typing", "tell the others that you are typing"),
    ("/mute HOURS|off, /archive on|off, /pin on|off", "mark the chat in your list (with --credentials)"),
];

/// A typed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Nothing,
    Say(String),
    Help,
    Chats,
    Open(String),
    Group { name: String, members: Vec<String> },
    Members,
    Add(Vec<String>),
    Remove(Vec<String>),
    Leave,
    Role(String, MemberRole),
    Name(String),
    Invite { lifetime: Option<Duration>, uses_max: Option<u32> },
    Invites,
    Revoke(String),
    Join(Invitation),
    Reply(u64, String),
    React(u64, String),
    Edit(u64, String),
    Delete(Vec<u64>),
    Expire(Option<Duration>),
    Read,
    Typing,
    Mark(Mark),
}

/// How a chat is to stand in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// For so long; none: not any more.
    Mute(Option<Duration>),
    Archive(bool),
    Pin(bool),
}

const HOUR_S: u64 = 3_600;

impl Typed {
    /// Reads a line.
    ///
    /// # Errors
    /// It says something to do that nobody knows, or leaves something out.
    pub(super) fn read(line: &str) -> Result<Self, String> {
        if line.is_empty() {
            return Ok(Self::Nothing);
        }
        let Some(order) = line.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
            // The second slash says that the first one is meant as it is.
            return Ok(Self::Say(line.strip_prefix('/').unwrap_or(line).to_owned()));
        };
        let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
        Self::order(verb, rest.trim())
    }

    fn order(verb: &str, rest: &str) -> Result<Self, String> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let names = || words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        Ok(match (verb, &words[..]) {
            ("help" | "?", _) => Self::Help,
            ("chats", []) => Self::Chats,
            ("open", [which]) => Self::Open((*which).to_owned()),
            ("group", [name, members @ ..]) => {
                let members = members.iter().map(|member| (*member).to_owned()).collect();
                Self::Group { name: (*name).to_owned(), members }
            }
            ("members", []) => Self::Members,
            ("add", [_, ..]) => Self::Add(names()),
            ("remove", [_, ..]) => Self::Remove(names()),
            ("leave", []) => Self::Leave,
            ("role", [user, role]) => Self::Role((*user).to_owned(), read_role(role)?),
            ("name", [_, ..]) => Self::Name(rest.to_owned()),
            ("invite", terms) if terms.len() <= 2 => {
                let hours = terms.first().map(|hours| number("HOURS", hours)).transpose()?;
                let uses_max = terms.get(1).map(|uses| number("USES", uses)).transpose()?;
                let uses_max = uses_max.map(|uses| u32::try_from(uses).unwrap_or(u32::MAX));
                Self::Invite { lifetime: hours.map(hours_long), uses_max }
            }
            ("invites", []) => Self::Invites,
            ("revoke", [invite]) => Self::Revoke((*invite).to_owned()),
            ("join", [invitation]) => Self::Join(invitation.parse().map_err(|wrong| format!("{wrong}"))?),
            ("delete", [_, ..]) => {
                Self::Delete(words.iter().map(|word| number("N", word)).collect::<Result<_, _>>()?)
            }
            ("reply", [at, _, ..]) => Self::Reply(number("N", at)?, text_behind(rest)),
            ("react", [at, _, ..]) => Self::React(number("N", at)?, text_behind(rest)),
            ("edit", [at, _, ..]) => Self::Edit(number("N", at)?, text_behind(rest)),
            ("expire", ["off"]) => Self::Expire(None),
            ("expire", [seconds]) => Self::Expire(Some(Duration::from_secs(number("SECONDS", seconds)?))),
            ("read", []) => Self::Read,
            ("typing", []) => Self::Typing,
            ("mute", ["off"]) => Self::Mark(Mark::Mute(None)),
            ("mute", [hours]) => Self::Mark(Mark::Mute(Some(hours_long(number("HOURS", hours)?)))),
            ("archive", [whether]) => Self::Mark(Mark::Archive(is_on(whether)?)),
            ("pin", [whether]) => Self::Mark(Mark::Pin(is_on(whether)?)),
            _ => return Err(misread(verb)),
        })
    }
}

/// What is wrong with a line: what its verb wants, or that there is none.
fn misread(verb: &str) -> String {
    let verb = format!("/{verb}");
    let is_of = |usage: &str| usage.split(", ").any(|way| way.split(' ').next() == Some(&verb));
    match HELP.iter().find(|(usage, _)| is_of(usage)) {
        Some((usage, _)) => format!("it is {usage}"),
        None => format!("nobody knows {verb}; /help tells what there is"),
    }
}

fn text_behind(rest: &str) -> String {
    rest.split_once(' ').map_or("", |(_, text)| text.trim_start()).to_owned()
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    let number = text.trim_start_matches('[').trim_end_matches(']').parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{name} is {text:?}, and must be a number above 0"))
}

const fn hours_long(hours: u64) -> Duration {
    Duration::from_secs(hours.saturating_mul(HOUR_S))
}

fn is_on(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(format!("{other:?} is neither on nor off")),
    }
}

fn read_role(text: &str) -> Result<MemberRole, String> {
    proto::parse_role("role", text)
        .map_err(|_| format!("{text:?} is no role: there are member, admin and owner"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_one_slash_is_something_to_do() {
        let say = |text: &str| Ok(Typed::Say(text.to_owned()));
        assert_eq!(Typed::read("hello"), say("hello"));
        assert_eq!(Typed::read("//etc"), say("/etc"));
        assert_eq!(Typed::read(" /add"), say(" /add"));
        assert_eq!(Typed::read(""), Ok(Typed::Nothing));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let group = Typed::Group { name: "garden".to_owned(), members: names(&["ben"]) };
        assert_eq!(Typed::read("/group garden ben"), Ok(group));
        assert_eq!(Typed::read("/add ben  cem"), Ok(Typed::Add(names(&["ben", "cem"]))));
        assert_eq!(Typed::read("/reply [7]  so  it is"), Ok(Typed::Reply(7, "so  it is".to_owned())));
        assert_eq!(Typed::read("/delete 7 9"), Ok(Typed::Delete(vec![7, 9])));
        assert_eq!(Typed::read("/role ben admin"), Ok(Typed::Role("ben".to_owned(), MemberRole::Admin)));
        let terms = Typed::Invite { lifetime: Some(Duration::from_secs(7_200)), uses_max: Some(3) };
        assert_eq!(Typed::read("/invite 2 3"), Ok(terms));
        assert_eq!(Typed::read("/expire off"), Ok(Typed::Expire(None)));
    }

    #[test]
    fn a_line_that_cannot_be_meant_is_told_what_it_wants() {
        let wrong = |line| Typed::read(line).expect_err(line);
        assert_eq!(wrong("/react 7"), "it is /reply N TEXT, /react N TEXT");
        assert_eq!(wrong("/leave now"), "it is /leave");
        assert!(wrong("/dance").contains("/dance"));
        assert!(wrong("/edit seven up").contains("\"seven\""));
        assert!(wrong("/delete 0").contains("above 0"));
        assert!(wrong("/role ben king").contains("\"king\""));
        assert!(wrong("/join me").contains("\"me\""));
    }
}
