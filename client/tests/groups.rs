//! Groups, kinds of message and deletions, against a server in memory, over real sockets.

use client::{
    ChatChange, Client, Config, Control, ControlError, Encoding, Entry, EntryBody, Event, Events, From,
    InviteTerms, LookError, MemberRole, Message, MessageKind, SettingsChange, store::DiskStore, testing::*,
};
use std::time::Duration;
use types::{Code, DeviceId, LogId, MessageId, UserId};

const PATIENCE: Duration = Duration::from_secs(20);

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

fn config(server: &FakeServer, name: &str) -> Config {
    let mut config = Config::new([server.url()], user(name), DeviceId::new(7));
    (config.timing.backoff_base_ms, config.timing.backoff_cap_ms) = (10, 100);
    config
}

fn client(server: &FakeServer, name: &str) -> Client {
    Client::connect(config(server, name)).expect("good settings")
}

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("timed out: {what}"))
}

/// The next entries of a chat, until one is wanted.
async fn entry(events: &mut Events, wanted: impl Fn(&Entry) -> bool) -> Entry {
    loop {
        if let Event::Entry { entry, .. } = within("an entry", events.next()).await.expect("the client lives")
            && wanted(&entry)
        {
            return entry;
        }
    }
}

fn code(error: &ControlError) -> &str {
    match error {
        ControlError::Refused(refused) => &refused.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_group_is_made_named_joined_and_left_in_either_encoding() {
    let server = FakeServer::start().await;
    let (ann, cem) = (client(&server, "ann"), client(&server, "cem"));
    let mut json = config(&server, "dan");
    json.encoding = Encoding::Json;
    let dan = Client::connect(json).expect("good settings");
    let group = within("open", ann.open_group([1; 16], &[user("ben")])).await.expect("opened");
    let mut events = ann.events().await;
    group.follow(From::Start).await;

    within("a name", group.rename("garden")).await.expect("named");
    within("add", group.add(&[user("cem")])).await.expect("added");
    let again = within("add", group.add(&[user("cem")])).await.expect_err("is there already");
    assert_eq!((code(&again), again.is_retryable(), again.is_indeterminate()), ("conflict", false, false));
    within("a role", group.set_role(&user("cem"), MemberRole::Admin)).await.expect("given");
    within("remove", group.remove(&[user("ben")])).await.expect("removed");
    let removed = entry(&mut events, |entry| match &entry.body {
        EntryBody::Changed(ChatChange::Members(changes)) => changes == &[(user("ben"), None)],
        _ => false,
    });
    assert_eq!(removed.await.sender, user("ann"));

    let terms = InviteTerms { lifetime: Some(Duration::from_secs(9)), uses_max: Some(2) };
    let invitation = within("an invite", group.invite(terms)).await.expect("made");
    let known = within("invites", group.invites()).await.expect("told");
    assert_eq!((known.len(), &known[0].name, known[0].uses_max), (1, &invitation.name(), 2));
    let link = invitation.to_string().parse().expect("an invitation");
    let dans = within("join", dan.join(&link)).await.expect("joined");
    let info = within("info", dans.info()).await.expect("told");
    assert_eq!((&info.name[..], info.members, info.role), (&b"garden"[..], 3, MemberRole::Member));
    assert_eq!((info.expiry_ms, info.avatar), (None, None));
    let page = within("members", dans.members(Some(&user("ann")), 1)).await.expect("told");
    assert_eq!((page.members[0].user.as_str(), page.members[0].role), ("cem", MemberRole::Admin));
    assert!(!page.at_end);
    within("revoke", group.revoke_invite(&invitation.name())).await.expect("revoked");
    let late = within("join", client(&server, "eve").join(&invitation)).await.expect_err("revoked");
    assert_eq!(code(&late), "unknown_invite");

    within("leave", dans.leave()).await.expect("left");
    match within("info", dans.info()).await {
        Err(LookError::Refused(refused)) => assert_eq!(refused.known(), Some(Code::Forbidden)),
        other => panic!("{other:?}"),
    }
    within("an expiry", cem.chat(group.log()).set_expiry(Some(Duration::from_secs(60)))).await.expect("set");
    assert_eq!(within("info", group.info()).await.expect("told").expiry_ms, Some(60_000));
}

#[tokio::test]
async fn a_change_is_made_once_over_refusals_cuts_and_repetitions() {
    let server = FakeServer::start().await;
    let ann = client(&server, "ann");
    let group = within("open", ann.open_group([1; 16], &[])).await.expect("opened");
    server.with(|model| {
        let faults = [Fault::Refuse(Code::HomeUnavailable), Fault::DoubtOnly, Fault::WriteButDoubt];
        model.faults.extend(faults);
    });
    let added = within("add", group.add(&[user("ben")])).await.expect("added");
    assert_eq!(server.with(|model| model.entries(group.log()).len()), 2, "it is written once");
    assert_eq!(added.offset, 2);

    // It is written, and nobody hears the answer.
    server.with(|model| model.hold_replication = true);
    let id = MessageId::from_bytes([9; 16]);
    let control = || Control::Settings(SettingsChange { name: Some("n".into()), ..Default::default() });
    let changing = tokio::spawn({
        let group = group.clone();
        async move { group.change_as(id, control()).await }
    });
    within("the write", async {
        while server.with(|model| model.entries(group.log()).len()) < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.cut();
    server.with(|model| {
        model.hold_replication = false;
        model.replicate(group.log(), 3);
    });
    let changed = within("the change", changing).await.expect("ends").expect("changed");
    let again = within("again", group.change_as(id, control())).await.expect("the same");
    assert_eq!((changed.offset, &changed), (3, &again));
}

#[tokio::test]
async fn messages_say_their_kind_and_what_they_are_about_also_after_a_restart() {
    let server = FakeServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ann.state");
    let open = |path| DiskStore::open(path, &user("ann"), Some(DeviceId::new(7))).expect("opened");
    let (ann, mut kept) = Client::resume(config(&server, "ann"), open(&path)).expect("resumed");
    let chat = within("open", ann.open_direct(&user("ben"))).await.expect("opened");
    let ben = client(&server, "ben");
    let mut events = ben.events().await;
    ben.chat(chat.log()).follow(From::Start).await;
    chat.send("hello").await.expect("accepted").replicated().await.expect("replicated");
    let said = entry(&mut events, |entry| matches!(entry.body, EntryBody::Message(_))).await;
    assert_eq!((said.kind, &said.refers_to), (MessageKind::Text, &None));

    // What follows is in the store only, when its process dies.
    let refuse = Fault::Refuse(Code::HomeUnavailable);
    server.with(|model| model.faults.extend([refuse; 10_000]));
    let reaction = chat.send(Message::reaction(&said, "+1")).await.expect("accepted").message_id();
    chat.send(Message::edit(&said, "hello, Ben")).await.expect("accepted");
    chat.send(Message::media("cat.jpg")).await.expect("accepted");
    while kept.try_next().is_some() {}
    drop((chat, ann));
    within("the end", async { while kept.next().await.is_some() {} }).await;
    server.with(|model| model.faults.clear());
    let store = within("the file is free", async {
        loop {
            match DiskStore::open(&path, &user("ann"), None) {
                Ok(store) => return store,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let (_ann, _kept) = Client::resume(config(&server, "ann"), store.await).expect("resumed");
    let reacted = entry(&mut events, |entry| entry.message_id == reaction).await;
    assert_eq!((reacted.kind, reacted.refers_to), (MessageKind::Reaction, Some((&said).into())));
    let edited = entry(&mut events, |_| true).await;
    assert_eq!((edited.kind, edited.refers_to), (MessageKind::Edit, Some((&said).into())));
    let media = entry(&mut events, |_| true).await;
    assert_eq!((media.kind, media.refers_to), (MessageKind::Media, None));

    let bens = ben.chat(LogId::direct(&user("ann"), &user("ben")));
    within("delete", bens.delete(&[said.key()])).await.expect("deleted");
    let deleted = entry(&mut events, |entry| matches!(entry.body, EntryBody::Deleted(_))).await;
    assert_eq!(deleted.body, EntryBody::Deleted(vec![said.offset]));
    let page = within("history", bens.history_after(&client::Position::start(), 2)).await.expect("read");
    assert_eq!(page.entries[1].body, EntryBody::Erased);
}
