//! `hearth chat`: a line-mode client. Each line that you type is a message, or something to do; ticks follow what the
//! server says: `·` in the outbox, `✓` home, `✓✓` replicated.

mod editor;
mod hearing;
mod keys;
mod orders;
mod people;
mod room;
mod show;
mod turns;
mod typed;

use super::{
    screen::{Line, Screen, Tick},
    session::{self, Notes, Opened, SessionArgs},
    told,
};
use anyhow::Context as _;
use client::{
    Chat, Client, ControlError, Event, From, HistoryError, LookError, Message, MessageKind, OpenError,
    Position, Reference, Refused, account::AccountError,
};
use orders::{Done, Orders};
use people::People;
use room::{Arrival, Room};
use serde_json::{Value, json};
use show::Shown;
use std::{
    collections::{HashMap, HashSet},
    io::{IsTerminal, Write as _},
};
use tokio::task::JoinHandle;
use typed::{HELP, Typed};
use types::{MessageId, UserId};

/// What `hearth chat` is asked to do. With neither --with nor --chat, /open, /group or /join lead to a chat.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Print what happens as one JSON object a line, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Chats until the input ends.
///
/// # Errors
/// The chat cannot be opened or followed.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let begin = args.session.begin().await?;
    let has_accounts = begin.config.credentials.is_some();
    let known = begin.with();
    let Opened { client, chat, mut events, notes, stands, earlier } =
        session::open(&args.session, begin).await?;
    let people = People::new(client.clone(), has_accounts);
    if let Some((user, name)) = known {
        people.note(&user, &name);
    }
    let mut talk = Talk {
        people,
        client,
        json: args.json,
        screen: Screen::new(std::io::stdout(), std::io::stdout().is_terminal()),
        under_way: HashMap::new(),
        typed: HashSet::new(),
        room: None,
        there: HashMap::new(),
        notes,
        is_kept: events.is_kept(),
    };
    for message in earlier {
        let text = String::from_utf8_lossy(&message.body).into_owned();
        talk.under_way.insert(message.message_id, text);
    }
    if let Some(chat) = chat {
        let arrival = room::arrive(chat, &talk.people).await?;
        talk.enter(&arrival, stands).await?;
    } else {
        talk.note("no chat is open: /help tells what there is")?;
    }
    talk.go_on(&mut events).await
}

/// What was typed to be done, and is under way.
struct Order {
    verb: String,
    task: JoinHandle<anyhow::Result<Done>>,
}

struct Talk {
    client: Client,
    people: People,
    json: bool,
    screen: Screen<std::io::Stdout>,
    /// Own messages that are not replicated, by id: their text.
    under_way: HashMap<MessageId, String>,
    /// What was typed here: the screen has it.
    typed: HashSet<MessageId>,
    room: Option<Room>,
    /// Who is there, as it was shown last.
    there: HashMap<UserId, bool>,
    notes: Notes,
    /// There is a state file, which is for one chat.
    is_kept: bool,
}

impl Talk {
    /// Does what a line says, or begins to.
    async fn take(&mut self, line: &str) -> anyhow::Result<Option<Order>> {
        let typed = match Typed::read(line) {
            Ok(typed) => typed,
            Err(wrong) => {
                self.echoed(line)?;
                self.refused(line, &anyhow::anyhow!(wrong))?;
                return Ok(None);
            }
        };
        let said = match &typed {
            Typed::Say(text) => Some((MessageKind::Text, None, text)),
            Typed::Reply(to, text) => Some((MessageKind::Text, Some(*to), text)),
            Typed::React(to, text) => Some((MessageKind::Reaction, Some(*to), text)),
            Typed::Edit(of, text) => Some((MessageKind::Edit, Some(*of), text)),
            _ => None,
        };
        if let Some((kind, to, text)) = said {
            self.say(line, kind, to, text).await?;
            return Ok(None);
        }
        self.echoed(line)?;
        match typed {
            Typed::Nothing => Ok(None),
            Typed::Help => {
                for (usage, what) in HELP {
                    self.note(&format!("{usage}: {what}"))?;
                }
                Ok(None)
            }
            Typed::Typing => {
                if let Some(room) = &self.room {
                    room.chat.typing().await;
                }
                Ok(None)
            }
            typed => self.begin(line, typed),
        }
    }

    /// Begins what the server has to be asked for.
    fn begin(&mut self, line: &str, typed: Typed) -> anyhow::Result<Option<Order>> {
        let verb = line.split(' ').next().unwrap_or_default().to_owned();
        if self.is_kept && matches!(typed, Typed::Open(_) | Typed::Group { .. } | Typed::Join(_)) {
            let why = "a state file is for one chat: do it without --state";
            self.refused(&verb, &anyhow::anyhow!(why))?;
            return Ok(None);
        }
        let mut keys = Vec::new();
        if let (Typed::Delete(numbers), Some(room)) = (&typed, &self.room) {
            match numbers.iter().map(|number| room.numbered(*number)).collect::<Result<_, _>>() {
                Ok(found) => keys = found,
                Err(wrong) => {
                    self.refused(&verb, &anyhow::anyhow!(wrong))?;
                    return Ok(None);
                }
            }
        }
        let chat = self.room.as_ref().map(|room| room.chat.clone());
        let orders = Orders { client: self.client.clone(), people: self.people.clone(), chat, keys };
        Ok(Some(Order { verb, task: tokio::spawn(orders.perform(typed)) }))
    }

    async fn done(&mut self, verb: &str, done: anyhow::Result<Done>) -> anyhow::Result<()> {
        let Done { told, arrival } = match done {
            Ok(done) => done,
            Err(error) => return self.refused(verb, &error),
        };
        for told in told {
            if self.json && told.line != Value::Null {
                print_line(&told.line)?;
            } else if !self.json && !told.text.is_empty() {
                self.screen.note(&told.text)?;
            }
        }
        match arrival {
            Some(arrival) => self.enter(&arrival, None).await,
            None => Ok(()),
        }
    }

    /// Shows the end of a chat, and follows it from there, or from where an earlier run stood.
    async fn enter(&mut self, arrival: &Arrival, stands: Option<(u64, Position)>) -> anyhow::Result<()> {
        let Arrival { chat, title, page, others } = arrival;
        if let Some(room) = self.room.take().filter(|room| room.log() != chat.log()) {
            room.chat.unfollow().await;
            self.client.unwatch(&room.others).await;
        }
        let mut room = Room::new(arrival);
        if self.json {
            let line = json!({ "event": "chat", "log": chat.log(), "title": title, "others": others });
            print_line(&line)?;
        }
        let first = page.first().map_or(0, |first| first.offset);
        // Where more was missed than the page holds, all of it comes by following.
        let shows = stands.as_ref().is_none_or(|(offset, _)| first <= offset + 1);
        for entry in page.iter().filter(|_| shows) {
            room.number(entry);
            room.shown = entry.offset;
            match self.json {
                true => print_line(&told::entry("history", chat.log(), entry))?,
                false => self.show(self.people.show(entry))?,
            }
        }
        let from = page
            .last()
            .map_or(From::Start, |last| From::After { position: last.position.clone(), offset: last.offset });
        chat.follow(from).await;
        if let Some(last) = page.last().filter(|_| shows) {
            chat.mark_read(last).await;
        }
        chat.watch(others).await;
        let own = self.people.name(self.client.user());
        self.note(&format!(
            "you chat with {} as {own}; /help tells what there is, the end of the input (Ctrl-D) ends it",
            room.title
        ))?;
        self.room = Some(room);
        Ok(())
    }

    /// Puts a message into the outbox.
    async fn say(
        &mut self,
        line: &str,
        kind: MessageKind,
        to: Option<u64>,
        text: &str,
    ) -> anyhow::Result<()> {
        let (chat, refers_to) = match self.addressed(to) {
            Ok(addressed) => addressed,
            Err(error) => {
                self.echoed(line)?;
                return self.refused(line, &error);
            }
        };
        let message = Message { kind, refers_to, body: text.to_owned().into() };
        let shown = show::own(&message, text);
        match chat.send(message).await {
            Ok(sending) => {
                let id = sending.message_id();
                if !self.json {
                    let sender = self.people.name(self.client.user());
                    self.screen.own(id, Line { sender, text: shown.clone(), number: None })?;
                }
                self.typed.insert(id);
                self.under_way.insert(id, shown);
            }
            Err(error) if error.is_retryable() => self.note(&format!("not sent: {error}"))?,
            Err(error) => self.note(&format!("cannot be sent: {error}"))?,
        }
        Ok(())
    }

    /// The chat that is open, and the message of it that has a number.
    fn addressed(&self, to: Option<u64>) -> anyhow::Result<(Chat, Option<Reference>)> {
        let room = self.room.as_ref().context("no chat is open: /open, /group or /join one")?;
        let reference = |offset| room.numbered(offset).map(|key| Reference { key, offset });
        let refers_to = to.map(reference).transpose().map_err(anyhow::Error::msg)?;
        Ok((room.chat.clone(), refers_to))
    }

    /// Shows something that was typed to be done.
    fn echoed(&mut self, line: &str) -> anyhow::Result<()> {
        if !self.json && !line.is_empty() {
            self.screen.echoed(line)?;
        }
        Ok(())
    }

    fn note(&mut self, text: &str) -> anyhow::Result<()> {
        match self.json {
            true => eprintln!("hearth: {text}"),
            false => self.screen.note(text)?,
        }
        Ok(())
    }

    /// Something that was typed is not done.
    fn refused(&mut self, what: &str, error: &anyhow::Error) -> anyhow::Result<()> {
        if self.json {
            let code = refusal(error).map(|refused| refused.code.as_str());
            let line =
                json!({ "event": "refused", "what": what, "code": code, "error": format!("{error:#}") });
            return print_line(&line);
        }
        Ok(self.screen.note(&format!("{error:#}"))?)
    }

    fn show(&mut self, shown: Shown) -> anyhow::Result<()> {
        match shown {
            Shown::Line(line) => self.screen.line(line)?,
            Shown::Note(note) => self.screen.note(&note)?,
            Shown::Nothing => {}
        }
        Ok(())
    }
}

/// What the server said, where it is the server that said no.
fn refusal(error: &anyhow::Error) -> Option<&Refused> {
    error.chain().find_map(|cause| {
        if let Some(ControlError::Refused(refused)) = cause.downcast_ref() {
            return Some(refused);
        }
        if let Some(LookError::Refused(refused)) = cause.downcast_ref() {
            return Some(refused);
        }
        if let Some(OpenError::Refused(refused)) = cause.downcast_ref() {
            return Some(refused);
        }
        if let Some(HistoryError::Refused(refused)) = cause.downcast_ref() {
            return Some(refused);
        }
        match cause.downcast_ref() {
            Some(AccountError::Refused(refused)) => Some(refused),
            _ => None,
        }
    })
}

fn print_line(line: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
