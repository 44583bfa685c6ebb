//! The texts that calls are made of, each with its form: one schema for each, wherever it stands.

use types::{PositionToken, account};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

macro_rules! forms {
    ($($(#[doc = $doc:literal])* $name:ident { $($bound:ident: $value:expr),* $(,)? })*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug)]
            pub(in crate::edge) enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let text = ObjectBuilder::new().schema_type(Type::String);
                    let text = text.description(Some(concat!($($doc),*).trim()));
                    $(let text = text.$bound($value);)*
                    text.into()
                }
            }

            impl ToSchema for $name {}
        )*

        /// Every form, by the name of its schema.
        pub(super) fn all() -> Vec<(String, RefOr<Schema>)> {
            vec![$((<$name as ToSchema>::name().into_owned(), <$name as PartialSchema>::schema())),*]
        }
    };
}

forms! {
    /// A log: a direct chat (`d_`), a group (`g_`) or an account (`a_`).
    LogId {
        pattern: Some("^[dga]_[a-z2-7]{25}[aeimquy4]$"),
        examples: ["d_o2eds7sfjdroyoxue627zh6pt4"],
    }
    /// A user, as chats name them.
    UserId {
        pattern: Some("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
        max_length: Some(types::UserId::MAX_BYTES),
        examples: ["uag7htplbqtmjpocxgtfdfxlyve"],
    }
    /// The number of a device: a text, for it has more digits than some languages' numbers.
    DeviceId {
        pattern: Some("^[0-9]{1,20}$"),
        examples: ["7301"],
    }
    /// A place in a chat: opaque, to be kept and sent back unread.
    Position {
        pattern: Some("^[A-Za-z0-9_-]{38}[AEIMQUYcgkosw048]$"),
        max_length: Some(PositionToken::MAX_BYTES),
        examples: ["AQAAAAEAAAAAAAAAAQAAAAAAAAAB4Ijh9-RA2fo"],
    }
    /// Where a client without a session stands: opaque, to be kept and sent back unread.
    SyncToken {
        pattern: Some("^[A-Za-z0-9_-]*$"),
        max_length: Some(16_384),
    }
    /// What a user is found by: a letter, then letters, digits, `.` and `_`. Capitals are taken for small letters.
    Username {
        pattern: Some("^[A-Za-z][A-Za-z0-9._]{2,31}$"),
        min_length: Some(types::Username::MIN_BYTES),
        max_length: Some(types::Username::MAX_BYTES),
        examples: ["alice"],
    }
    /// A phone number, as E.164 writes it.
    Phone {
        pattern: Some("^\\+[1-9][0-9]{6,14}$"),
        max_length: Some(types::Phone::MAX_DIGITS + 1),
        examples: ["+4915112345678"],
    }
    /// How a user wants to be called, or calls another: 1 to 128 bytes of UTF-8 beside the blanks around them.
    DisplayName {
        pattern: Some("\\S"),
        min_length: Some(1),
        max_length: Some(account::DisplayName::MAX_BYTES),
        examples: ["Alice"],
    }
    /// What users say of themselves, at most 512 bytes of UTF-8.
    About {
        max_length: Some(account::About::MAX_BYTES),
        examples: ["At sea."],
    }
    /// What users call a device of theirs: 1 to 64 bytes of UTF-8 beside the blanks around them.
    DeviceName {
        pattern: Some("\\S"),
        min_length: Some(1),
        max_length: Some(account::DeviceName::MAX_BYTES),
        examples: ["phone"],
    }
    /// The id of a picture.
    MediaId {
        pattern: Some("^[A-Za-z0-9_-]{1,64}$"),
        max_length: Some(account::MediaId::MAX_BYTES),
        examples: ["m1"],
    }
    /// What an invite is revoked by.
    InviteId {
        pattern: Some("^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"),
        examples: ["n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"],
    }
    /// The secret of an invite: 16 to 64 random bytes, drawn by the client, as base64url without padding.
    Secret {
        pattern: Some("^[A-Za-z0-9_-]{22,86}$"),
        examples: ["MDEyMzQ1Njc4OWFiY2RlZg"],
    }
    /// A password: 8 characters at least, 256 bytes of UTF-8 at most.
    Password {
        min_length: Some(8),
        max_length: Some(256),
        examples: ["correct horse battery"],
    }
}

#[cfg(test)]
mod tests {
    use super::all;
    use types::{LogId, Position};

    #[test]
    fn examples_are_what_they_are_examples_of() {
        let example = |name: &str| {
            let all: Vec<_> = all();
            let (_, schema) = all.iter().find(|(known, _)| known == name).expect("a form");
            let schema = serde_json::to_value(schema).expect("JSON");
            schema["examples"][0].as_str().expect("an example").to_owned()
        };
        let log: LogId = example("LogId").parse().expect("a log");
        assert!(types::PositionToken::open(log, &example("Position")).is_ok_and(|at| at > Position::START));
        assert!(types::UserId::new(&example("UserId")).is_ok_and(|user| user.is_of_account()));
        assert!(types::Username::new(&example("Username")).is_ok());
        assert!(types::Phone::new(&example("Phone")).is_ok());
        assert!(types::chat::InviteHash::parse(&example("InviteId")).is_some());
    }
}
