//! A group whose members are at home in three regions: who is in it, in which role, and what those read who are not
//! any more, in every region, over the loss of its home and its way to another one.

use crate::{PROGRAM, rehoming};
use anyhow::{Context as _, ensure};
use client::{
    Chat, Client, Config, ControlError, Event, Events, From, InviteTerms, MemberRole, Message,
    bare::{BareError, Connection},
};
use lab::Lab;
use proto::client::{self as wire, AckPolicy, client_frame::Frame, server_frame::Frame as Answer};
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    placing::{home_of, pin_of, row, successor},
    session::{connect, follow, history, message, open_group, send, user},
};
use tokio::time::timeout;
use types::DeviceId;

/// Members by name, and what they are.
type Members = Vec<(String, String)>;

/// A client at a region, which goes to another one where that is lost.
fn client(lab: &Lab, region: &str, name: &str, device: u64) -> Client {
    let others = REGIONS.into_iter().filter(|other| *other != region);
    let edges = [region].into_iter().chain(others).map(|region| lab.edge(region).expect("a region"));
    let config = Config::new(edges.collect::<Vec<_>>(), user(name), DeviceId::new(device));
    Client::connect(config).expect("good settings")
}

/// Who is in a chat, as a region tells a member.
pub(crate) async fn members(lab: &Lab, region: &str, reader: &str, log: &str) -> anyhow::Result<Members> {
    let mut session = connect(&lab.edge(region)?, reader).await?;
    let read = wire::ReadMembers { log: log.to_owned(), after: String::new(), limit: 500 };
    match session.ask(Frame::ReadMembers(read)).await? {
        Answer::MembersPage(page) => {
            Ok(page.members.into_iter().map(|member| (member.user, member.role)).collect())
        }
        other => anyhow::bail!("{other:?}"),
    }
}

async fn members_everywhere(lab: &Lab, regions: &[&str], reader: &str, log: &str, expected: &[(&str, &str)]) {
    let expected: Members = expected.iter().map(|(user, role)| ((*user).into(), (*role).into())).collect();
    for region in regions {
        eventually("the same members in every region", patience(), async || {
            let told = members(lab, region, reader, log).await?;
            ensure!(told == expected, "{region} tells {told:?}");
            Ok(())
        })
        .await;
    }
}

/// What somebody who is out of a chat gets of it in a region: all up to an entry, and nothing behind it.
async fn reads_up_to(lab: &Lab, region: &str, name: &str, log: &str, last: u64) {
    let entries = eventually("history of one who is out", patience(), async || {
        let mut session = connect(&lab.edge(region)?, name).await?;
        Ok(history(&mut session, log).await?)
    })
    .await;
    assert!(entries.iter().map(|entry| entry.offset).eq(1..=last), "{name} reads {entries:?} in {region}");
    let mut session = connect(&lab.edge(region).expect("a region"), name).await.expect("connects");
    follow(&mut session, log, "").await.expect("what is theirs they may follow");
    let told = timeout(patience(), async {
        let mut offsets = Vec::new();
        loop {
            match session.next().await.expect("the session lives").frame {
                Some(Answer::Entries(more)) => offsets.extend(more.entries.iter().map(|entry| entry.offset)),
                Some(Answer::Removed(removed)) => return (offsets, removed.offset),
                _ => {}
            }
        }
    });
    let (offsets, end) = told.await.expect("they are told that they are out");
    assert!(offsets.iter().copied().eq(1..=last) && end == last, "{name} is told {offsets:?} in {region}");
    // What is pushed behind that would come before this answer.
    match session.ask(Frame::Send(message(log, "let me in"))).await {
        Err(BareError::Refused(error)) => assert_eq!(error.code, "forbidden"),
        other => panic!("{name} writes in {region}: {other:?}"),
    }
}

async fn replicated(chat: &Chat, message: impl Into<Message>) {
    let sending = chat.send(message).await.expect("is taken");
    timeout(patience(), sending.replicated()).await.expect("in time").expect("is replicated");
}

/// Waits until the client is told that its user is out of the chat.
async fn told_out(events: &mut Events) {
    let waiting = async {
        loop {
            if let Event::Unfollowed { error, .. } = events.next().await.expect("the client lives") {
                return error;
            }
        }
    };
    let error = timeout(patience(), waiting).await.expect("they are told that they are out");
    assert_eq!(error.code, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_three_regions_goes_on_with_its_members_and_roles_when_its_home_is_lost() {
    let [home, near, far] = REGIONS;
    let lab = start(options(PROGRAM)).await;
    let (ann, ben) = (client(&lab, home, "ann", 1), client(&lab, near, "ben", 1));
    let (cem, dan) = (client(&lab, far, "cem", 1), client(&lab, far, "dan", 1));
    let mut at_cem = cem.events().await;

    let group = ann.open_group(*uuid::Uuid::new_v4().as_bytes(), &[user("ben")]).await.expect("opens");
    let log = group.log().to_string();
    let pin = pin_of(&lab, &log).await.expect("a pin");
    let before = row(&lab, pin.partition).await.expect("a row");
    assert_eq!(*home_of(&before), lab.node_id(home).expect("a region"));
    group.rename("garden").await.expect("is named");
    group.set_role(&user("ben"), MemberRole::Admin).await.expect("is made admin");
    let bens = ben.chat(group.log());
    bens.add(&[user("cem")]).await.expect("an admin lets in");
    let (cems, dans) = (cem.chat(group.log()), dan.chat(group.log()));
    cems.follow(From::Start).await;
    match cems.add(&[user("eve")]).await {
        Err(ControlError::Refused(refused)) => assert_eq!(refused.code, "forbidden"),
        other => panic!("a member lets in: {other:?}"),
    }
    let invitation = bens.invite(InviteTerms::default()).await.expect("is made");
    dan.join(&invitation).await.expect("joins");
    for chat in [&group, &bens, &cems, &dans] {
        replicated(chat, "for all").await;
    }
    let removal = bens.remove(&[user("cem")]).await.expect("is removed").offset;
    replicated(&group, "not for cem").await;
    told_out(&mut at_cem).await;
    for region in REGIONS {
        reads_up_to(&lab, region, "cem", &log, removal).await;
    }
    let expected = [("ann", "owner"), ("ben", "admin"), ("dan", "member")];
    members_everywhere(&lab, &REGIONS, "ben", &log, &expected).await;

    lab.kill(home).await.expect("is killed");
    successor(&lab, pin.partition, before.epoch).await;
    members_everywhere(&lab, &[near, far], "ben", &log, &expected).await;
    replicated(&dans, "not for cem either").await;
    for region in [near, far] {
        reads_up_to(&lab, region, "cem", &log, removal).await;
    }
    bens.remove(&[user("dan")]).await.expect("an admin removes a member");
    dan.join(&invitation).await.expect("the invite counts on");
    match dans.set_role(&user("dan"), MemberRole::Owner).await {
        Err(ControlError::Refused(refused)) => assert_eq!(refused.code, "forbidden"),
        other => panic!("a member gives roles: {other:?}"),
    }
    // Ann goes on at another region, as the owner that she was.
    group.set_role(&user("dan"), MemberRole::Admin).await.expect("an owner gives roles");
    let info = bens.info().await.expect("is told");
    assert_eq!((&info.name[..], info.members, info.role), (&b"garden"[..], 3, MemberRole::Admin));

    lab.restart(home).await.expect("starts");
    lab.wait_in_sync(patience()).await.expect("every copy is in sync");
    let expected = [("ann", "owner"), ("ben", "admin"), ("dan", "admin")];
    members_everywhere(&lab, &REGIONS, "ann", &log, &expected).await;
    same_everywhere(&lab, &REGIONS, "ann", &log).await;
    for region in REGIONS {
        reads_up_to(&lab, region, "cem", &log, removal).await;
    }
    lab.stop().await.expect("stops");
}

/// A message that is in every in-sync region when this is answered.
async fn say(session: &mut Connection, log: &str, text: &str) -> u64 {
    let safe = wire::Send { ack: AckPolicy::Replicated.into(), ..message(log, text) };
    send(session, safe).await.expect("is replicated").offset
}

#[tokio::test(flavor = "multi_thread")]
async fn who_left_a_group_reads_up_to_there_wherever_it_goes_afterwards() {
    let [one, two, three] = REGIONS;
    let lab = start(options(PROGRAM)).await;
    let mut ann = connect(&lab.edge(one).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben", "cem", "dan"]).await.expect("opens");
    say(&mut ann, &log, "for all").await;
    let [ben, cem] = [("ben", two), ("cem", three)].map(|(name, region)| client(&lab, region, name, 2));
    let group = log.parse().expect("a log id");
    let left = ben.chat(group).leave().await.expect("leaves").offset;
    say(&mut ann, &log, "not for ben").await;

    rehoming::begin(&lab, &log, two).await.expect("is begun");
    assert_eq!(rehoming::homed_in(&lab, &log, 2).await, two);
    say(&mut ann, &log, "in the second partition").await;
    let left_later = cem.chat(group).leave().await.expect("leaves").offset;
    say(&mut ann, &log, "not for cem").await;
    rehoming::begin(&lab, &log, three).await.expect("is begun");
    assert_eq!(rehoming::homed_in(&lab, &log, 3).await, three);
    let last = say(&mut ann, &log, "in the third partition").await;

    for region in REGIONS {
        reads_up_to(&lab, region, "ben", &log, left).await;
        reads_up_to(&lab, region, "cem", &log, left_later).await;
    }
    let whole = same_everywhere(&lab, &REGIONS, "dan", &log).await;
    assert_eq!(whole.len() as u64, last);
    // Who comes back reads all of it, through all its partitions.
    let mut changes = wire::ChangeMembers { log: log.clone(), ..Default::default() };
    changes.message_id = uuid::Uuid::now_v7().to_string();
    changes.changes = vec![wire::MemberChange { user: "ben".to_owned(), role: "member".to_owned() }];
    ann.ask(Frame::ChangeMembers(changes.clone())).await.expect("is let in");
    let again = same_everywhere(&lab, &REGIONS, "ben", &log).await;
    place_of(&again, &changes.message_id);
    assert_eq!(again.len() as u64, last + 1);
    lab.stop().await.expect("stops");
}

/// What the entries of a chat add up to.
fn fold(entries: &[wire::Entry]) -> anyhow::Result<Members> {
    let mut members = std::collections::BTreeMap::new();
    for entry in entries {
        match &entry.body {
            Some(wire::entry::Body::Created(created)) => {
                members
                    .extend(created.members.iter().map(|member| (member.user.clone(), member.role.clone())));
            }
            Some(wire::entry::Body::Chat(change)) => {
                let change = change.change.as_ref().context("a change of nothing")?;
                let wire::chat_change::Change::Members(changes) = change else { continue };
                for wire::MemberChange { user, role } in &changes.changes {
                    match role.is_empty() {
                        true => drop(members.remove(user)),
                        false => drop(members.insert(user.clone(), role.clone())),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(members.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_of_a_user_race_and_all_regions_agree_on_what_came_of_it() {
    let [home, near, far] = REGIONS;
    let lab = start(options(PROGRAM)).await;
    let (phone, laptop) = (client(&lab, near, "ann", 1), client(&lab, far, "ann", 2));
    let mut opener = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut opener, &["ben", "cem"]).await.expect("opens");
    let group = log.parse().expect("a log id");
    let (at_phone, at_laptop) = (phone.chat(group), laptop.chat(group));

    let (ben, cem) = (user("ben"), user("cem"));
    let (mut made, mut refused) = (0, 0);
    for round in 0..12 {
        let (one, other) = match round % 3 {
            0 => (MemberRole::Admin, MemberRole::Owner),
            1 => (MemberRole::Member, MemberRole::Member),
            _ => (MemberRole::Owner, MemberRole::Admin),
        };
        let (role, role_too, gone, role_of_cem) = tokio::join!(
            at_phone.set_role(&ben, one),
            at_laptop.set_role(&ben, other),
            at_phone.remove(std::slice::from_ref(&cem)),
            at_laptop.set_role(&cem, MemberRole::Admin),
        );
        for outcome in [role, role_too, gone, role_of_cem] {
            match outcome {
                Ok(_) => made += 1,
                Err(ControlError::Refused(error)) if error.code == "conflict" => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(made > 0 && refused > 0, "{made} changes were made, {refused} refused");

    // Both read, each another entry: how far the user has come is the further one.
    let last = say(&mut opener, &log, "the last one").await;
    let page = at_phone.history_before(&client::Position::start(), 2).await.expect("a page").entries;
    let [earlier, latest] = &page[..] else { panic!("two entries") };
    assert_eq!(latest.offset, last);
    for (chat, entry) in [(&at_phone, latest), (&at_laptop, earlier)] {
        chat.follow(From::End).await;
        chat.mark_read(entry).await;
    }
    let whole = same_everywhere(&lab, &REGIONS, "ann", &log).await;
    let expected = fold(&whole).expect("changes");
    for region in REGIONS {
        eventually("one outcome in all regions", patience(), async || {
            let told = members(&lab, region, "ann", &log).await?;
            ensure!(told == expected, "{region} tells {told:?}, and the entries say {expected:?}");
            let mut session = connect(&lab.edge(region)?, "ann").await?;
            let read = wire::ReadReceipts { log: log.clone(), ..Default::default() };
            let Answer::ReceiptsPage(page) = session.ask(Frame::ReadReceipts(read)).await? else {
                anyhow::bail!("no page")
            };
            let of_ann = page.receipts.into_iter().find(|receipt| receipt.user == "ann");
            let read = of_ann.and_then(|receipt| receipt.read).context("ann has read nothing")?;
            ensure!(read.offset == last, "{region} tells that ann has read up to {}", read.offset);
            Ok(())
        })
        .await;
    }
    lab.stop().await.expect("stops");
}
