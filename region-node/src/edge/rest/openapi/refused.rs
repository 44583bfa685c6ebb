//! What calls are refused with, in the document: the statuses of an operation, each with the codes that it tells.

use crate::edge::errors;
use std::{collections::BTreeMap, marker::PhantomData};
use types::Code;
use utoipa::{
    IntoResponses,
    openapi::{ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type},
};

/// What any call can be refused with.
const ANY: &[Code] = &[
    Code::BadRequest,
    Code::Overloaded,
    Code::RateLimited,
    Code::Behind,
    Code::HomeUnavailable,
    Code::DirectoryUnavailable,
    Code::NotReady,
    Code::Indeterminate,
    Code::Internal,
];

/// Codes that a part of a call is refused with.
pub(in crate::edge::rest) trait Codes {
    const CODES: &'static [&'static [Code]];
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $($code:ident)|+;)*) => {$(
        $(#[$doc])*
        pub(in crate::edge::rest) enum $name {}

        impl Codes for $name {
            const CODES: &'static [&'static [Code]] = &[&[$(Code::$code),+]];
        }
    )*};
}

codes! {
    /// It has a body.
    Body = TooLarge;
    /// It is for those who have logged in.
    Bearer = Unauthenticated | TokenExpired | DeviceRevoked;
    /// It shows a refresh token.
    Token = Unauthenticated | DeviceRevoked;
    /// It shows a password.
    Password = BadCredentials;
    /// It claims names.
    NewNames = NameTaken;
    /// It reads an account, the caller's own or another one.
    SomeAccount = UnknownAccount;
    /// It changes the caller's account.
    OwnWrite = UnknownAccount | Forbidden | Conflict | MessageIdReused | TooLarge;
    /// It names a device.
    NamedDevice = UnknownDevice;
    /// It names an invite.
    NamedInvite = UnknownInvite;
    /// It names a message.
    NamedMessage = UnknownMessage;
    /// It reads a chat.
    ChatRead = UnknownChat | Forbidden;
    /// It names positions.
    Positions = PositionMalformed | PositionOfOtherChat | PositionUnknown | Diverged;
    /// It names where a client stands.
    Since = PositionMalformed | Forbidden;
    /// It opens a chat.
    Opening = ChatExists | UnknownRegion | UnknownAccount | Forbidden | UnknownChat | TooLarge;
    /// It writes an entry.
    ChatWrite = UnknownChat | Forbidden | Conflict | MessageIdReused | OutOfOrder | Expired | TooLarge;
}

macro_rules! together {
    ($($part:ident),+) => {
        impl<$($part: Codes),+> Codes for ($($part,)+) {
            // Each part has one list.
            const CODES: &'static [&'static [Code]] = &[$($part::CODES[0]),+];
        }
    };
}

together!(A, B);
together!(A, B, C);
together!(A, B, C, D);

/// The refusals of an operation of these parts.
pub(in crate::edge::rest) struct Refused<T>(PhantomData<T>);

impl<T: Codes> IntoResponses for Refused<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut told: BTreeMap<String, Vec<Code>> = BTreeMap::new();
        for code in T::CODES.iter().copied().chain([ANY]).flatten() {
            let codes = told.entry(errors::status(*code).as_str().to_owned()).or_default();
            if !codes.contains(code) {
                codes.push(*code);
            }
        }
        told.into_iter().map(|(status, codes)| (status, response(&codes))).collect()
    }
}

fn response(codes: &[Code]) -> RefOr<Response> {
    let names: Vec<String> = codes.iter().map(|code| format!("`{code}`: {}", code.meaning())).collect();
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response =
        ResponseBuilder::new().description(names.join("\n")).content("application/problem+json", problem);
    if !codes.iter().any(|code| code.is_retryable()) {
        return response.into();
    }
    let number = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0.0)).build();
    let header = |says: &str| HeaderBuilder::new().schema(Some(number())).description(Some(says)).build();
    response
        .header(
            "Retry-After",
            header("When a repetition makes sense, in s from now; left out where that is not known."),
        )
        .header("Retry-After-Ms", header("The same in ms."))
        .into()
}
