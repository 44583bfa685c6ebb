//! The directory's names and keys in memory.

use super::stand_in::StandIn;
use async_trait::async_trait;
use region_node::service::{Claim, NameOwner, NameStanding, Names};
use types::{Code, Home, Name, Refusal, UserId, VerifyingKey};

#[async_trait]
impl Names for StandIn {
    async fn claim(&self, names: &[Name], user: &UserId, freed_before_ms: u64) -> Result<Claim, Refusal> {
        let mut state = self.directory()?;
        for name in names {
            let Some(by) = state.names.get(name) else { continue };
            let is_free = match by.standing {
                NameStanding::Freed { at_ms } => at_ms <= freed_before_ms || by.user == *user,
                NameStanding::Claimed { .. } | NameStanding::Held => by.user == *user,
            };
            if !is_free {
                return Ok(Claim::Taken { name: name.clone(), by: by.clone() });
            }
        }
        let standing = NameStanding::Claimed { at_ms: host::clock::wall_ms() };
        for name in names {
            let is_mine =
                |by: &NameOwner| by.user == *user && !matches!(by.standing, NameStanding::Freed { .. });
            if !state.names.get(name).is_some_and(is_mine) {
                state.names.insert(name.clone(), NameOwner { user: user.clone(), standing });
            }
        }
        Ok(Claim::Yours)
    }

    async fn hold(&self, names: &[Name], user: &UserId) -> Result<(), Refusal> {
        let mut state = self.directory()?;
        for name in names {
            match state.names.get_mut(name) {
                Some(by) if by.user == *user => by.standing = NameStanding::Held,
                _ => return Err(Refusal::new(Code::Conflict, format!("{name} is not {user}'s"))),
            }
        }
        Ok(())
    }

    async fn take_over(&self, names: &[Name], user: &UserId, from: &UserId) -> Result<Claim, Refusal> {
        let mut state = self.directory()?;
        for name in names {
            match state.names.get(name) {
                Some(by) if by.user != *from && by.user != *user => {
                    return Ok(Claim::Taken { name: name.clone(), by: by.clone() });
                }
                _ => {}
            }
            let standing = NameStanding::Claimed { at_ms: host::clock::wall_ms() };
            state.names.insert(name.clone(), NameOwner { user: user.clone(), standing });
        }
        Ok(Claim::Yours)
    }

    async fn release(&self, names: &[Name], user: &UserId) -> Result<(), Refusal> {
        let mut state = self.directory()?;
        for name in names {
            let Some(by) = state.names.get_mut(name).filter(|by| by.user == *user) else { continue };
            match by.standing {
                NameStanding::Claimed { .. } => drop(state.names.remove(name)),
                NameStanding::Held => by.standing = NameStanding::Freed { at_ms: host::clock::wall_ms() },
                NameStanding::Freed { .. } => {}
            }
        }
        Ok(())
    }

    async fn resolve(&self, names: &[Name]) -> Result<Vec<Option<NameOwner>>, Refusal> {
        let state = self.directory()?;
        Ok(names.iter().map(|name| state.names.get(name).cloned()).collect())
    }

    /// The node itself sees its key at once; the others when they are told of all keys.
    async fn publish_key(&self, node: &Home, key: &VerifyingKey) -> Result<(), Refusal> {
        self.directory()?.keys.entry(node.node.clone()).or_default().push(key.clone());
        Ok(())
    }
}
