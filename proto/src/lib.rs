//! What crosses a wire: generated code, and the conversions between it and [`types`].
//!
//! The .proto files are the contract; `proto/README.md` tells it to people who write clients in other
//! languages, `proto/vectors/` lets them test what they wrote. Conversions into [`types`] check every
//! bound and name the offending field; conversions out of it cannot fail. A field that a newer peer
//! added is ignored, never an error.

#[allow(clippy::all, missing_docs, unreachable_pub)]
mod hearth {
    pub mod log {
        pub mod v1 {
            tonic::include_proto!("hearth.log.v1");
        }
    }
    pub mod client {
        pub mod v1 {
            tonic::include_proto!("hearth.client.v1");
            include!(concat!(env!("OUT_DIR"), "/hearth.client.v1.serde.rs"));
        }
    }
    pub mod directory {
        pub mod v1 {
            tonic::include_proto!("hearth.directory.v1");
        }
    }
    pub mod node {
        pub mod v1 {
            tonic::include_proto!("hearth.node.v1");
        }
    }
}

pub use hearth::{client::v1 as client, directory::v1 as directory, log::v1 as log, node::v1 as node};

mod account;
mod batch;
mod chat;
mod convert;
mod entry;
pub mod outbox;
mod page;
mod placement;
mod record;
mod schemas;

pub use account::{decode_account, encode_account, encode_account_change};
pub use batch::{batch_records, epoch_runs};
pub use chat::{
    decode_chat, encode_chat, encode_chat_change, kind_name, member, parse_kind, parse_role, role_name,
    wire_member,
};
pub use convert::{Malformed, log_id, message_id, request_id, store_id};
pub use entry::{ack_policy_from_client, ack_policy_to_client, client_entry, client_error};
pub use page::{history_page, history_page_json};
pub use record::{ack_policy, decode_import, decode_record, encode_import, encode_record, entry_body};
pub use schemas::CLIENT_SCHEMAS;
