//! Whether a directory may end a home because a node is silent (I10).
//!
//! Silence proves nothing to one who may be cut off itself. A leader is followed by a majority of the voters;
//! with voters in three failure domains it stands with at least one other domain, so what it does not hear is
//! not heard elsewhere either. With fewer the decision is an operator's to allow.

use std::collections::BTreeSet;
use types::RegionId;

/// Failure domains that the voters must stand in.
const DOMAINS_MIN: usize = 3;

/// What the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// `automatic-failover`, where it is set.
    pub(crate) wanted: Option<bool>,
}

/// Why automatic failover is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Off {
    #[error("automatic failover is off: the configuration says so")]
    Configured,
    #[error(
        "automatic failover is off: it needs three directory voters in three failure domains, and they stand in {0}"
    )]
    TooFewDomains(usize),
}

impl Policy {
    /// Whether silence may end a home where the voters stand in these regions.
    pub(crate) fn decides(self, voters: &BTreeSet<RegionId>) -> Result<(), Off> {
        match self.wanted {
            Some(true) => Ok(()),
            Some(false) => Err(Off::Configured),
            None if voters.len() >= DOMAINS_MIN => Ok(()),
            None => Err(Off::TooFewDomains(voters.len().max(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(names: &[&str]) -> BTreeSet<RegionId> {
        names.iter().map(|name| RegionId::new(name).expect("a valid name")).collect()
    }

    #[test]
    fn three_domains_decide_by_themselves_and_an_operator_may_say_otherwise() {
        let by_itself = Policy { wanted: None };
        assert_eq!(by_itself.decides(&regions(&["ap-south", "eu-west", "us-east"])), Ok(()));
        assert_eq!(by_itself.decides(&regions(&["eu-west", "us-east"])), Err(Off::TooFewDomains(2)));
        assert_eq!(by_itself.decides(&regions(&[])), Err(Off::TooFewDomains(1)));
        assert_eq!(Policy { wanted: Some(true) }.decides(&regions(&[])), Ok(()));
        let three = regions(&["ap-south", "eu-west", "us-east"]);
        assert_eq!(Policy { wanted: Some(false) }.decides(&three), Err(Off::Configured));
    }
}
