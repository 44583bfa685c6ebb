//! Clients that show who they are.

use client::{
    Client, Config, Event, Refused,
    account::{AccountError, Credentials, Tokens},
    store::MemoryStore,
    testing::FakeServer,
};
use std::{
    future::{Future, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use types::{DeviceId, UserId};

const PATIENCE: Duration = Duration::from_secs(20);

type Answer = Result<String, AccountError>;

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("timed out: {what}"))
}

/// Gives `old`, until somebody says that it has ended.
struct Old {
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

impl Tokens for Old {
    fn token(&self, refused: Option<String>) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        self.asked.lock().expect("nobody panics").push(refused.clone());
        let token = if refused.as_deref() == Some("old") { "new" } else { "old" };
        Box::pin(ready(Ok(token.to_owned())))
    }
}

/// Belongs to a device that was logged out.
struct LoggedOut;

impl Tokens for LoggedOut {
    fn token(&self, _: Option<String>) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(ready(Err(AccountError::Refused(Refused {
            code: "device_revoked".to_owned(),
            message: "the device was logged out".to_owned(),
            retryable: false,
            indeterminate: false,
            retry_after_ms: None,
            common: None,
        }))))
    }
}

fn config(server: &FakeServer, tokens: impl Tokens) -> Config {
    let user = UserId::new("alice").expect("a valid name");
    let mut config = Config::new([server.url()], user, DeviceId::new(7));
    config.timing.backoff_base_ms = 10;
    config.credentials = Some(Credentials::new(tokens));
    config
}

#[tokio::test]
async fn a_token_that_has_ended_is_replaced_and_the_session_goes_on() {
    let server = FakeServer::start().await;
    server.with(|model| model.ended_tokens.insert("old".to_owned()));
    let asked = Arc::default();
    let alice = Client::connect(config(&server, Old { asked: Arc::clone(&asked) })).expect("good settings");
    let bob = UserId::new("bob").expect("a valid name");
    within("open", alice.open_direct(&bob)).await.expect("opened");
    assert_eq!(*asked.lock().expect("nobody panics"), [None, Some("old".to_owned())]);
}

#[tokio::test]
async fn a_device_without_a_token_is_told_and_tries_no_more() {
    let server = FakeServer::start().await;
    // Its events are there from the start.
    let (_alice, mut events) =
        Client::resume(config(&server, LoggedOut), MemoryStore::new()).expect("resumed");
    match within("an end", events.next()).await {
        Some(Event::Ended { error }) => assert_eq!(error.code, "device_revoked"),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.with(|model| model.connect()), 1, "it has not connected");
}
