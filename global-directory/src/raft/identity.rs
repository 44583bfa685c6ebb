//! Who a replica is, and how a group is born.
//!
//! A replica is its name *and* its disk: the disk draws a name of its own when it is first used, the group
//! keeps both, and every message of consensus names both. So a replica that comes back under its old name on an
//! empty disk is not the one that voted before: it is refused, loudly, and never votes a second time in a term.
//! It is replaced by a new one: remove the old name, add a new one.
//!
//! A group is born once, by the replica with the lowest name of those in `peers`, and only when all of them
//! answer and none has ever been in a group. A lost disk therefore never founds a second group beside the first.

use super::{
    disk::{APPLIED, DISK, Disk, VOTE, log_key},
    network::Network,
    types::{Member, Raft, ReplicaId},
};
use crate::{
    config::Peer,
    kv::{self, Kv},
    random,
    rows::{self, decode, encode},
};
use proto::directory::{IdentifyReply, IdentifyRequest};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use types::{RegionId, StoreId};

/// A replica, on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) replica: ReplicaId,
    pub(crate) store: StoreId,
}

/// A folder cannot be this replica's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Another replica's vote is in it.
    #[error("replica-id is {configured}, and this folder belongs to replica {found}")]
    OtherReplica {
        /// What the configuration says.
        configured: ReplicaId,
        /// Whose folder it is.
        found: ReplicaId,
    },
    /// It holds the rows of a directory of one process.
    #[error("this folder holds a directory without replicas; a group begins with an empty folder")]
    NoReplica,
    /// It cannot be read or written.
    #[error(transparent)]
    Store(#[from] kv::Error),
}

/// Reads who this is; an empty disk becomes this replica's.
pub(super) fn identify(kv: &dyn Kv, configured: ReplicaId) -> Result<Identity, IdentityError> {
    let (mut known, mut has_rows) = (None, false);
    kv.read(&mut |tx| {
        known = tx.get(DISK)?.map(|row| decode::<Identity>(DISK, &row)).transpose()?;
        has_rows = rows::meta(tx)?.is_some();
        Ok(())
    })?;
    match known {
        Some(known) if known.replica == configured => Ok(known),
        Some(known) => Err(IdentityError::OtherReplica { configured, found: known.replica }),
        None if has_rows => Err(IdentityError::NoReplica),
        None => {
            let identity = Identity { replica: configured, store: random::store_id() };
            kv.write(&mut |tx| tx.put(DISK, &encode(&identity)?))?;
            Ok(identity)
        }
    }
}

/// Refuses the folder of a replica to a directory without replicas.
pub(crate) fn is_a_replica(kv: &dyn Kv) -> Result<bool, kv::Error> {
    let mut found = false;
    kv.read(&mut |tx| {
        found = tx.get(DISK)?.is_some();
        Ok(())
    })?;
    Ok(found)
}

/// Whether this disk has ever voted, or held anything of a group.
pub(super) fn has_group(disk: &Disk) -> Result<bool, kv::Error> {
    let mut has = false;
    disk.kv().read(&mut |tx| {
        has = tx.get(VOTE)?.is_some() || tx.get(APPLIED)?.is_some() || tx.get(&log_key(0))?.is_some();
        Ok(())
    })?;
    Ok(has)
}

/// How often the other replicas are asked until a group can be born.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// What a replica that has no group yet needs to know.
pub(super) struct Birth {
    pub(super) identity: Identity,
    pub(super) member: Member,
    pub(super) peers: Vec<Peer>,
    pub(super) network: Network,
    pub(super) disk: Disk,
}

impl Birth {
    /// Founds the group if that is this replica's to do; returns when it is in one.
    pub(super) async fn attend(self, raft: Raft) {
        let founder = self.peers.iter().map(|peer| peer.replica).min();
        let mut said = String::new();
        let mut say = |why: String| {
            if why != said {
                tracing::warn!(replica = %self.identity.replica, why, "this replica is in no group yet");
                said = why;
            }
        };
        while !matches!(has_group(&self.disk), Ok(true)) {
            if founder == Some(self.identity.replica) {
                match self.gather().await {
                    Ok(members) => match raft.initialize(members).await {
                        Ok(()) => tracing::info!("the group of directory replicas is born"),
                        Err(error) => say(error.to_string()),
                    },
                    Err(why) => say(why),
                }
            } else {
                say(match founder {
                    Some(founder) => {
                        format!("replica {founder} founds the group, or has lost sight of this disk")
                    }
                    None => "it waits to be added: hearth admin directory add".to_owned(),
                });
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Everyone who is to be in the group, or why it cannot be born now.
    async fn gather(&self) -> Result<BTreeMap<ReplicaId, Member>, String> {
        let mut members = BTreeMap::from([(self.identity.replica, self.member.clone())]);
        for peer in self.peers.iter().filter(|peer| peer.replica != self.identity.replica) {
            let found = identity_of(&self.network, peer.replica, &peer.address).await?;
            if found.has_group {
                return Err(format!(
                    "replica {} is in a group already, which does not know this disk: if the disk of replica {} \
                     was lost, remove it (hearth admin directory remove {}) and add a replica with a new id",
                    peer.replica, self.identity.replica, self.identity.replica
                ));
            }
            members.insert(peer.replica, found.member);
        }
        Ok(members)
    }
}

/// A replica as it describes itself.
pub(super) struct Found {
    pub(super) member: Member,
    pub(super) has_group: bool,
}

/// Asks the process at `address` whether it is that replica, and on which disk.
pub(super) async fn identity_of(
    network: &Network,
    replica: ReplicaId,
    address: &str,
) -> Result<Found, String> {
    let unreachable =
        |why: &dyn std::fmt::Display| format!("replica {replica} at {address} does not answer: {why}");
    let mut client = network.client(replica, address).map_err(|error| unreachable(&error))?;
    let asked = tokio::time::timeout(ASK_TIMEOUT, client.identify(IdentifyRequest {})).await;
    let reply =
        asked.map_err(|_| unreachable(&"timeout"))?.map_err(|status| unreachable(&status.message()))?;
    let IdentifyReply { replica: answered, store, region, address: own, has_group } = reply.into_inner();
    if answered != replica.get() {
        return Err(format!("{address} is replica {answered}, not {replica}"));
    }
    let store = proto::store_id("identify.store", &store).map_err(|error| error.to_string())?;
    let region = RegionId::new(&region).map_err(|error| error.to_string())?;
    Ok(Found { member: Member { address: own, region, store }, has_group })
}
