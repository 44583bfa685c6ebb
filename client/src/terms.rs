//! What holds for a chat from its creation on.

use proto::client::{self as wire, open_chat};
use types::{AckPolicy, RegionId};

/// The terms on which a chat is opened. One that is there already has its own; what is left open here takes
/// them as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// When a message counts as acked: `Home` is fast, `Replicated` survives the loss of any one region. New
    /// chats are at `Home` where this is not said.
    pub ack: Option<AckPolicy>,
    /// The regions that may hold the chat; empty: all.
    pub allowed_regions: Vec<RegionId>,
}

impl Terms {
    pub(crate) fn of(self, chat: open_chat::Chat) -> wire::OpenChat {
        wire::OpenChat {
            chat: Some(chat),
            ack_policy: self.ack.map_or(wire::AckPolicy::Unspecified, proto::ack_policy_to_client).into(),
            allowed_regions: self.allowed_regions.iter().map(RegionId::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_left_to_the_server() {
        let chat = || open_chat::Chat::DirectWith("bob".to_owned());
        assert_eq!(Terms::default().of(chat()).ack_policy(), wire::AckPolicy::Unspecified);
        let terms = Terms { ack: Some(AckPolicy::Replicated), ..Terms::default() };
        assert_eq!(terms.of(chat()).ack_policy(), wire::AckPolicy::Replicated);
    }
}
