//! Groups on real sockets, over nodes that keep their logs in memory: who is told what when members change.

mod support;

use proto::client::{
    self, client_frame::Frame as Ask, entry::Body, open_chat, resumed, server_frame::Frame as Answer,
};
use support::{
    World,
    ws::{Client, text_of},
};
use uuid::Uuid;

const REGIONS: &[&str] = &["us-east", "eu-west", "ap-south"];

async fn open_group(client: &mut Client, members: &[&str]) -> String {
    let members = members.iter().map(|name| (*name).to_owned()).collect();
    let group = client::NewGroup { key: Uuid::new_v4().to_string(), members };
    let open = client::OpenChat { chat: Some(open_chat::Chat::Group(group)), ..Default::default() };
    match client.ask(Ask::OpenChat(open)).await {
        Answer::ChatOpened(opened) => opened.log,
        other => panic!("{other:?}"),
    }
}

fn change(log: &str, user: &str, role: &str) -> Ask {
    Ask::ChangeMembers(client::ChangeMembers {
        log: log.to_owned(),
        message_id: Uuid::now_v7().to_string(),
        changes: vec![client::MemberChange { user: user.to_owned(), role: role.to_owned() }],
    })
}

async fn changed(client: &mut Client, ask: Ask) -> u64 {
    match client.ask(ask).await {
        Answer::Sent(sent) => sent.offset,
        other => panic!("{other:?}"),
    }
}

/// What a session is told of a chat until it is told that its user is out: the offsets, and that of the end.
async fn told_until_removed(client: &mut Client) -> (Vec<u64>, client::Removed) {
    let mut offsets = Vec::new();
    loop {
        match client.told().await {
            Answer::Entries(entries) => offsets.extend(entries.entries.iter().map(|entry| entry.offset)),
            Answer::Removed(removed) => return (offsets, removed),
            other => panic!("{other:?}"),
        }
    }
}

/// Nothing was said unasked up to now.
async fn assert_silent(client: &mut Client) {
    let pong = client.ask(Ask::Ping(client::Ping { nonce: 1 })).await;
    assert!(matches!(pong, Answer::Pong(_)), "{pong:?}");
    let entries = client.kept.iter().filter(|frame| matches!(frame.frame, Some(Answer::Entries(_))));
    assert_eq!(entries.count(), 0, "something came behind the end");
}

#[tokio::test]
async fn a_removed_member_is_told_so_and_gets_nothing_behind_it() {
    let world = World::start(REGIONS).await;
    let mut ann = Client::hello(world.nodes[0].address, "ann", 1).await;
    let log = open_group(&mut ann, &["ben", "cem"]).await;
    let mut bens = Vec::new();
    for (device, node) in (1..).zip([0, 1, 1, 2]) {
        let mut ben = Client::hello(world.nodes[node].address, "ben", device).await;
        ben.follow(&log, "").await;
        bens.push(ben);
    }
    let mut cem = Client::hello(world.nodes[1].address, "cem", 1).await;
    cem.follow(&log, "").await;
    ann.send(&log, "for all").await;
    let removal = changed(&mut ann, change(&log, "ben", "")).await;
    for number in 0..20 {
        ann.send(&log, &format!("not for ben {number}")).await;
    }
    for ben in &mut bens {
        let (offsets, removed) = told_until_removed(ben).await;
        assert_eq!(offsets, (1..=removal).collect::<Vec<_>>());
        assert_eq!((removed.offset, &removed.log), (removal, &log));
    }
    let read = cem.entries_to(removal + 20).await;
    assert_eq!(read.len() as u64, removal + 20, "others are not held up");
    assert_eq!(text_of(read.last().expect("entries")), "not for ben 19");

    let mut ben = bens.remove(1);
    assert_silent(&mut ben).await;
    let again = ben.follow(&log, "").await;
    assert!(matches!(again.answer, Some(resumed::Answer::Continue(_))), "{again:?}");
    let (offsets, removed) = told_until_removed(&mut ben).await;
    assert_eq!(offsets, (1..=removal).collect::<Vec<_>>(), "what was his he reads again");
    let at_end = ben.follow(&log, &removed.position).await;
    let Some(resumed::Answer::Error(error)) = at_end.answer else { panic!("{at_end:?}") };
    assert_eq!((error.code.as_str(), error.retryable), ("forbidden", false));
    let refusal = ben.refusal(Ask::Send(support::ws::message(&log, Uuid::now_v7(), "let me in"))).await;
    assert_eq!(refusal.code, "forbidden");

    changed(&mut ann, change(&log, "ben", "member")).await;
    ben.follow(&log, &removed.position).await;
    let read = ben.entries_to(removal + 21).await;
    assert_eq!(text_of(&read[0]), "not for ben 0", "who comes back reads all of it");
    assert!(matches!(read.last().and_then(|last| last.body.as_ref()), Some(Body::Chat(_))));
    ann.send(&log, "welcome").await;
    assert_eq!(ben.entries_to(removal + 22).await.len(), 1);
}

#[tokio::test]
async fn a_page_that_ends_for_one_is_read_on_for_the_others() {
    let world = World::start(&["us-east"]).await;
    let mut ann = Client::hello(world.nodes[0].address, "ann", 1).await;
    let log = open_group(&mut ann, &["ben", "cem"]).await;
    for number in 0..5 {
        ann.send(&log, &format!("{number}")).await;
    }
    let removal = changed(&mut ann, change(&log, "ben", "")).await;
    for number in 0..5 {
        ann.send(&log, &format!("not for ben {number}")).await;
    }
    // Both stand at the beginning, so that one page is read for them together where it can be.
    let mut ben = Client::hello(world.nodes[0].address, "ben", 1).await;
    let mut cem = Client::hello(world.nodes[0].address, "cem", 1).await;
    let subscribe = || Ask::Subscribe(client::Subscribe { log: log.clone(), ..Default::default() });
    ben.say(subscribe()).await;
    cem.follow(&log, "").await;
    assert_eq!(cem.entries_to(removal + 5).await.len() as u64, removal + 5);
    let Answer::Resumed(resumed) = ben.answer(1 + 1).await else { panic!("it is resumed") };
    assert!(matches!(resumed.answer, Some(resumed::Answer::Continue(_))), "{resumed:?}");
    let (offsets, removed) = told_until_removed(&mut ben).await;
    assert_eq!((offsets, removed.offset), ((1..=removal).collect(), removal));
}

#[tokio::test]
async fn what_is_asked_of_a_chat_is_answered_by_any_node() {
    let world = World::start(REGIONS).await;
    let mut ann = Client::hello(world.nodes[0].address, "ann", 1).await;
    let log = open_group(&mut ann, &["ben", "cem"]).await;
    let named = client::SettingsChange { name: Some("sealed".into()), ..Default::default() };
    let settings = client::ChangeSettings {
        log: log.clone(),
        message_id: Uuid::now_v7().to_string(),
        change: Some(named),
    };
    changed(&mut ann, Ask::ChangeSettings(settings)).await;
    for node in &world.nodes {
        let mut ben = Client::hello(node.address, "ben", 4).await;
        let read = || Ask::ReadChat(client::ReadChat { log: log.clone() });
        let Answer::ChatInfo(info) = ben.ask(read()).await else { panic!("it is told") };
        assert_eq!((&info.name[..], info.members, info.role.as_str()), (&b"sealed"[..], 3, "member"));
        let page = |after: &str| client::ReadMembers { log: log.clone(), after: after.to_owned(), limit: 2 };
        let Answer::MembersPage(first) = ben.ask(Ask::ReadMembers(page(""))).await else { panic!("a page") };
        let names: Vec<_> = first.members.iter().map(|member| member.user.as_str()).collect();
        assert_eq!((names, first.at_end), (vec!["ann", "ben"], false));
        let Answer::MembersPage(last) = ben.ask(Ask::ReadMembers(page("ben"))).await else {
            panic!("a page")
        };
        assert_eq!((last.members.len(), last.at_end), (1, true));
        let refusal = ben.refusal(Ask::ReadInvites(client::ReadInvites { log: log.clone() })).await;
        assert_eq!(refusal.code, "forbidden", "who may not invite sees no invites");
        let mut zoe = Client::hello(node.address, "zoe", 1).await;
        assert_eq!(zoe.refusal(read()).await.code, "forbidden");
    }
}

#[tokio::test]
async fn a_reply_and_a_reaction_say_what_they_refer_to() {
    let world = World::start(REGIONS).await;
    let mut ann = Client::hello(world.nodes[0].address, "ann", 1).await;
    let mut ben = Client::hello(world.nodes[1].address, "ben", 2).await;
    let log = open_group(&mut ann, &["ben"]).await;
    ben.follow(&log, "").await;
    let said = ann.send(&log, "hello").await;
    let to = client::Reference {
        sender: "ann".to_owned(),
        device: 1,
        message_id: said.message_id.clone(),
        offset: said.offset,
    };
    let reaction = client::Send {
        kind: "reaction".to_owned(),
        refers_to: Some(to.clone()),
        ..support::ws::message(&log, Uuid::now_v7(), "+1")
    };
    assert!(matches!(ben.ask(Ask::Send(reaction.clone())).await, Answer::Sent(_)));
    let read = ben.entries_to(3).await;
    let entry = read.last().expect("entries");
    assert_eq!((entry.kind.as_str(), entry.refers_to.as_ref()), ("reaction", Some(&to)));
    let nothing = client::Send { refers_to: None, ..reaction };
    assert_eq!(ben.refusal(Ask::Send(nothing)).await.code, "bad_request");
}
