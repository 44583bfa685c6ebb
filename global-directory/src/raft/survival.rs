//! Whether the group would go on without a region.

use super::{Group, ReplicaId};
use crate::bounds;
use proto::directory::{InspectRequest, replicas_client::ReplicasClient};
use std::{collections::BTreeMap, time::Duration};
use tokio::{task::JoinSet, time::timeout};
use types::RegionId;

/// The voters, and who of them answers and follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Voters {
    count: usize,
    answering: BTreeMap<ReplicaId, RegionId>,
}

impl Voters {
    /// Whether those elsewhere that answer are a majority.
    pub(crate) fn survive_without(&self, region: &RegionId) -> bool {
        let elsewhere = self.answering.values().filter(|other| *other != region).count();
        elsewhere > self.count / 2
    }
}

impl Group {
    /// Asks every voter whether it follows this one, which leads.
    pub(crate) async fn voters(&self) -> Voters {
        let (leader, mut answering, mut asked) = (self.identity.replica, BTreeMap::new(), JoinSet::new());
        let voters: BTreeMap<ReplicaId, (String, RegionId)> = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let members = metrics.membership_config.membership();
            let member = |id| members.get_node(&id).map(|it| (id, (it.address.clone(), it.region.clone())));
            members.voter_ids().filter_map(member).collect()
        };
        let count = voters.len();
        for (replica, (address, region)) in voters {
            if replica == leader {
                answering.insert(replica, region);
                continue;
            }
            let Ok(channel) = self.network.channel(replica, &address) else { continue };
            asked.spawn(async move {
                let mut client = ReplicasClient::new(channel);
                let within = Duration::from_millis(bounds::INSPECT_TIMEOUT_MS);
                let answer = timeout(within, client.inspect(InspectRequest {})).await.ok()?.ok()?;
                (answer.into_inner().leader == leader.get()).then_some((replica, region))
            });
        }
        while let Some(answer) = asked.join_next().await {
            answering.extend(answer.ok().flatten());
        }
        Voters { count, answering }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(count: usize, answering: &[&str]) -> Voters {
        let region = |name: &str| RegionId::new(name).expect("a valid name");
        let answering = answering.iter().zip(1..).map(|(name, id)| (ReplicaId::new(id), region(name)));
        Voters { count, answering: answering.collect() }
    }

    #[test]
    fn a_majority_elsewhere_that_answers_goes_on() {
        let us = RegionId::new("us-east").expect("a valid name");
        for (count, answering, survives) in [
            (3, &["us-east", "eu-west", "ap-south"][..], true),
            (3, &["us-east", "eu-west"], false),
            (3, &["eu-west", "ap-south"], true),
            (2, &["us-east", "eu-west"], false),
            (1, &["eu-west"], true),
            (1, &["us-east"], false),
            (5, &["us-east", "us-east", "eu-west", "eu-west", "ap-south"], true),
            (5, &["us-east", "us-east", "eu-west", "ap-south"], false),
        ] {
            assert_eq!(voters(count, answering).survive_without(&us), survives, "{count} {answering:?}");
        }
    }
}
