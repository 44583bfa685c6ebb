//! Who tells what an account is: a copy what it has, the home what was acked, and only while its lease runs.

use crate::{
    Pair,
    world::{PATIENCE, Peer, until},
};
use proto::{
    log::AccountStanding,
    node::{self as wire, peer_reply::Reply},
};
use tokio::time::timeout;

async fn standing(peer: &mut Peer, id: u64, any_copy: bool) -> Option<AccountStanding> {
    peer.read_account(id, any_copy).await;
    match peer.answer().await {
        (_, Reply::AccountRead(wire::AccountRead { account, .. })) => {
            Some(account.map_or(AccountStanding::None, |account| account.standing()))
        }
        (_, Reply::NotHome(_)) => None,
        other => panic!("no answer to a question for an account: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_home_whose_lease_runs_tells_what_an_account_is() {
    let pair = Pair::start().await;
    let (mut home, mut follower) = (Peer::connect(&pair.home).await, Peer::connect(&pair.follower).await);
    assert_eq!(standing(&mut home, 1, false).await, Some(AccountStanding::None));
    home.void_account(2).await;
    home.acked().await;
    assert_eq!(standing(&mut home, 3, false).await, Some(AccountStanding::Voided));
    assert_eq!(standing(&mut follower, 1, true).await, Some(AccountStanding::Voided), "it was replicated");
    assert_eq!(standing(&mut follower, 2, false).await, None, "a copy is no home");
    home.void_account(4).await;
    assert!(
        matches!(home.answer().await.1, Reply::Refused(refused) if refused.code == "account_exists"),
        "an account begins once"
    );

    pair.directory.mute(true);
    until("the lease has lapsed", || async { pair.home.status().await.lease_left_ms == 0 }).await;
    assert_eq!(standing(&mut home, 5, false).await, None, "another home may have acked more by now");
    assert_eq!(standing(&mut home, 6, true).await, Some(AccountStanding::Voided));
    pair.directory.mute(false);
    until("the lease runs again", || async { pair.home.status().await.lease_left_ms > 0 }).await;
    assert_eq!(standing(&mut home, 7, false).await, Some(AccountStanding::Voided));
    pair.directory.drain(&pair.follower.name);
    let told = async {
        let mut id = 8;
        while standing(&mut home, id, false).await.is_some() {
            id += 1;
        }
    };
    timeout(PATIENCE, told).await.expect("who has given the partition away tells nothing more");
}
