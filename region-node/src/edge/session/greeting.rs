//! Who a session is of: a name in development mode, or whom an access token stands for.
//!
//! ```text
//!   Hello ─┬─ token ────────────────────▶ checked: what comes meanwhile waits ─┬─▶ Welcome
//!          ├─ name, in development mode ───────────────────────────────────────┘
//!          └─ else, or a token that is not accepted: told why, and closed
//! ```

use super::{Output, Session, refuse};
use crate::{
    accounts::Bearer,
    edge::{errors::close, request},
};
use proto::client::{self, ClientFrame};
use types::{Code, DeviceId, Refusal, UserId, limits};

/// Frames that may wait until a token is checked.
const WAITING_MAX: usize = 64;
/// The longest text of a client's software that is kept.
const AGENT_MAX_BYTES: usize = 128;

/// A Hello whose token is being checked.
#[derive(Debug)]
pub(super) struct Greeting {
    request_id: u64,
    hello: client::Hello,
    waiting: Vec<ClientFrame>,
}

impl Session {
    pub(super) fn hello(&mut self, id: u64, mut hello: client::Hello, out: &mut Vec<Output>) {
        if hello.protocol_version != limits::PROTOCOL_VERSION {
            let why = format!(
                "the client speaks version {}, and this node version {}",
                hello.protocol_version,
                limits::PROTOCOL_VERSION
            );
            refuse(id, Refusal::new(Code::UnsupportedVersion, why), out);
            let reason = "unsupported version";
            return out.push(Output::Close { code: close::UNSUPPORTED_VERSION, reason });
        }
        if hello.cursors.len() > limits::SESSION_LOGS_MAX {
            let why =
                format!("{} cursors, and {} are allowed", hello.cursors.len(), limits::SESSION_LOGS_MAX);
            return refuse(id, Refusal::new(Code::TooLarge, why), out);
        }
        if !hello.token.is_empty() {
            let token = std::mem::take(&mut hello.token);
            out.push(Output::Authenticate { token });
            self.greeting = Some(Box::new(Greeting { request_id: id, hello, waiting: Vec::new() }));
            return;
        }
        if !self.terms.development {
            let why = "hello has no token: a user is known by name only in development mode";
            return turn_away(id, Refusal::new(Code::Unauthenticated, why), out);
        }
        match request::user("user", &hello.user) {
            Ok(user) => self.begin(id, user, DeviceId::new(hello.device), &hello, out),
            Err(refusal) => refuse(id, refusal, out),
        }
    }

    /// Keeps a frame until the token is checked; one that cannot wait is refused.
    pub(super) fn wait(&mut self, frame: ClientFrame, out: &mut Vec<Output>) {
        match &mut self.greeting {
            Some(greeting) if greeting.waiting.len() < WAITING_MAX => greeting.waiting.push(frame),
            _ => {
                let why = format!("{WAITING_MAX} frames wait for the welcome, the most there may be");
                refuse(frame.request_id, Refusal::new(Code::Overloaded, why), out);
            }
        }
    }

    /// The token was checked.
    pub(super) fn authenticated(&mut self, result: Result<Bearer, Refusal>, out: &mut Vec<Output>) {
        let Some(greeting) = self.greeting.take() else { return };
        let Greeting { request_id, hello, waiting } = *greeting;
        match result {
            Err(refusal) => turn_away(request_id, refusal, out),
            Ok(bearer) => {
                out.push(Output::LookAfter(bearer.clone()));
                self.begin(request_id, bearer.user, bearer.device, &hello, out);
                for frame in waiting {
                    self.frame(frame, out);
                }
            }
        }
    }

    fn begin(
        &mut self,
        id: u64,
        user: UserId,
        device: DeviceId,
        hello: &client::Hello,
        out: &mut Vec<Output>,
    ) {
        let agent: String = hello.agent.chars().take(AGENT_MAX_BYTES).collect();
        tracing::debug!(%user, %device, agent, "a session begins");
        self.who = Some((user.clone(), device));
        out.push(Output::Welcome { request_id: id });
        for cursor in &hello.cursors {
            self.follow(0, &user, &cursor.log, &cursor.position, out);
        }
    }
}

fn turn_away(id: u64, refusal: Refusal, out: &mut Vec<Output>) {
    let (code, reason) = closing(refusal.code);
    refuse(id, refusal, out);
    out.push(Output::Close { code, reason });
}

/// With which close code a session ends whose token is not accepted.
pub(crate) const fn closing(code: Code) -> (u16, &'static str) {
    match code {
        Code::DeviceRevoked => (close::REVOKED, "logged out"),
        Code::TokenExpired => (close::UNAUTHENTICATED, "the token has ended"),
        _ => (close::UNAUTHENTICATED, "unauthenticated"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Finished, Input, Terms},
        *,
    };
    use proto::client::{client_frame, server_frame::Frame};

    fn session(development: bool) -> Session {
        let (region, node) = ("us-east".to_owned(), "us-east-1".to_owned());
        Session::new(0, Terms { region, node, development, writes_max: 8, silence_ms: 30_000 })
    }

    fn handle(session: &mut Session, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        session.handle(0, input, &mut out);
        out
    }

    fn hello(user: &str, token: &str) -> Input {
        let hello = client::Hello {
            protocol_version: limits::PROTOCOL_VERSION,
            user: user.to_owned(),
            token: token.to_owned(),
            ..client::Hello::default()
        };
        frame(1, client_frame::Frame::Hello(hello))
    }

    fn frame(request_id: u64, frame: client_frame::Frame) -> Input {
        Input::Frame(ClientFrame { request_id, frame: Some(frame) })
    }

    fn ping() -> client_frame::Frame {
        client_frame::Frame::Ping(client::Ping { nonce: 7 })
    }

    fn alice() -> Bearer {
        let user = UserId::new("alice").expect("valid");
        Bearer { user, device: DeviceId::new(5), from_ms: 0, until_ms: 600_000 }
    }

    #[test]
    fn a_name_is_enough_in_development_mode_only() {
        let out = handle(&mut session(true), hello("alice", ""));
        assert!(matches!(out[..], [Output::Welcome { request_id: 1 }]), "{out:?}");
        let out = handle(&mut session(false), hello("alice", ""));
        let [Output::Answer { frame: Frame::Error(error), .. }, Output::Close { code, .. }] = &out[..] else {
            panic!("{out:?}");
        };
        assert_eq!((error.code.as_str(), *code), ("unauthenticated", close::UNAUTHENTICATED));
    }

    #[test]
    fn what_comes_before_the_token_is_checked_waits_and_is_bounded() {
        let mut session = session(false);
        let out = handle(&mut session, hello("", "a token"));
        assert!(matches!(&out[..], [Output::Authenticate { token }] if token == "a token"), "{out:?}");
        for number in 0..WAITING_MAX as u64 {
            assert!(handle(&mut session, frame(2 + number, ping())).is_empty());
        }
        let out = handle(&mut session, frame(99, ping()));
        let [Output::Answer { request_id: 99, frame: Frame::Error(error) }] = &out[..] else {
            panic!("{out:?}");
        };
        assert_eq!(error.code, "overloaded");
        let result = Ok(alice());
        let out = handle(&mut session, Input::Finished(Finished::Authenticated { result }));
        let (first, rest) = out.split_at(2);
        assert!(matches!(first, [Output::LookAfter(_), Output::Welcome { request_id: 1 }]), "{first:?}");
        assert_eq!(rest.len(), WAITING_MAX);
        assert_eq!(session.who, Some((alice().user, DeviceId::new(5))), "whatever name hello says");
    }

    #[test]
    fn a_revoked_device_is_told_and_closed() {
        let mut session = session(true);
        handle(&mut session, hello("alice", "a token"));
        let result = Err(Refusal::new(Code::DeviceRevoked, "gone"));
        let out = handle(&mut session, Input::Finished(Finished::Authenticated { result }));
        let [Output::Answer { frame: Frame::Error(error), .. }, Output::Close { code, .. }] = &out[..] else {
            panic!("{out:?}");
        };
        assert_eq!((error.code.as_str(), *code), ("device_revoked", close::REVOKED));
        assert_eq!(session.who, None);
    }
}
