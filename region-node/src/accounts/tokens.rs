//! Tokens: what a device shows instead of its user's password.
//!
//! | token | is | lives | is checked |
//! |---|---|---|---|
//! | access | PASETO v4.public (Ed25519): user, device, end | 10 minutes | by any node, offline, with the public keys of the placement |
//! | refresh | 256 random bits behind user and device | until revoked | by its hash in the account log |
//!
//! Each node signs with a key that it draws at its boot, and again each day. The private half never leaves the
//! process; the public half goes to the directory, which hands it to all nodes with the placement. A token names its
//! key, and is refused where that key is not (or not yet) known.

use data_encoding::BASE64URL_NOPAD;
use pasetors::{
    Public,
    keys::{AsymmetricKeyPair, AsymmetricPublicKey, Generate as _},
    token::UntrustedToken,
    version4::{PublicToken, V4},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use types::{Code, DeviceId, Refusal, UserId, VerifyingKey, account::TokenHash};
use uuid::Uuid;

/// How long an access token counts, in ms.
pub(crate) const ACCESS_TTL_MS: u64 = 10 * 60 * 1_000;
/// How far the wall clocks of two nodes may be apart without a token ending too early or not having begun, in ms.
const SKEW_MS: u64 = 5_000;
/// The longest token that is looked at, in bytes.
pub(crate) const TOKEN_MAX_BYTES: usize = 512;
const REFRESH_VERSION: u8 = 1;
const SECRET_BYTES: usize = 32;

/// What binds a token to what it is for (PASETO's implicit assertion): it is not sent, and both sides know it.
const PURPOSE: &[u8] = b"hearth access";

/// Whom an access token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bearer {
    /// The user.
    #[serde(rename = "sub")]
    pub(crate) user: UserId,
    /// The device.
    #[serde(rename = "dev")]
    pub(crate) device: DeviceId,
    /// From when it counts, in ms since 1970.
    pub(crate) from_ms: u64,
    /// Until when, in ms since 1970.
    pub(crate) until_ms: u64,
}

/// A key that a node signs with.
pub(crate) struct Signer {
    id: u64,
    pair: AsymmetricKeyPair<V4>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Signer {
    /// Draws a key.
    ///
    /// # Errors
    /// `internal` where the machine has no randomness.
    pub(crate) fn draw() -> Result<Self, Refusal> {
        let pair = AsymmetricKeyPair::<V4>::generate().map_err(|error| defect(&error))?;
        Ok(Self { id: host::random::number(), pair })
    }

    /// What all nodes verify by.
    ///
    /// # Errors
    /// `internal` for a key that is none.
    pub(crate) fn verifying_key(&self) -> Result<VerifyingKey, Refusal> {
        let public = self.pair.public.as_bytes().try_into().map_err(|error| defect(&error))?;
        Ok(VerifyingKey { id: self.id, public })
    }

    /// An access token for a device, from now on.
    ///
    /// # Errors
    /// `internal` where it cannot be signed.
    pub(crate) fn sign(
        &self,
        user: UserId,
        device: DeviceId,
        now_ms: u64,
    ) -> Result<(String, Bearer), Refusal> {
        let bearer = Bearer { user, device, from_ms: now_ms, until_ms: now_ms.saturating_add(ACCESS_TTL_MS) };
        let said = serde_json::to_vec(&bearer).map_err(|error| defect(&error))?;
        let key = BASE64URL_NOPAD.encode(&self.id.to_be_bytes());
        let signed = PublicToken::sign(&self.pair.secret, &said, Some(key.as_bytes()), Some(PURPOSE));
        Ok((signed.map_err(|error| defect(&error))?, bearer))
    }
}

/// Whom a token stands for, by the keys that are known.
///
/// # Errors
/// `unauthenticated` for a token that nobody here has signed, `token_expired` for one that has ended.
pub(crate) fn verify(
    token: &str,
    key_of: impl FnOnce(u64) -> Option<VerifyingKey>,
    now_ms: u64,
) -> Result<Bearer, Refusal> {
    if token.len() > TOKEN_MAX_BYTES {
        return Err(unauthenticated("it is too long"));
    }
    let untrusted =
        UntrustedToken::<Public, V4>::try_from(token).map_err(|_| unauthenticated("it is malformed"))?;
    let id = key_id(untrusted.untrusted_footer()).ok_or_else(|| unauthenticated("it names no key"))?;
    let key = key_of(id).ok_or_else(|| unauthenticated("its key is not known"))?;
    let public = AsymmetricPublicKey::<V4>::from(&key.public).map_err(|error| defect(&error))?;
    let trusted = PublicToken::verify(&public, &untrusted, None, Some(PURPOSE))
        .map_err(|_| unauthenticated("its signature is wrong"))?;
    let bearer: Bearer =
        serde_json::from_str(trusted.payload()).map_err(|_| unauthenticated("it says nothing known"))?;
    if bearer.from_ms > now_ms.saturating_add(SKEW_MS) {
        return Err(unauthenticated("it has not begun"));
    }
    if bearer.until_ms.saturating_add(SKEW_MS) <= now_ms {
        return Err(Refusal::new(Code::TokenExpired, "the access token has ended: refresh it"));
    }
    Ok(bearer)
}

/// What follows from a request, so that a repetition finds what the first try made.
pub(crate) fn derived(domain: &[u8], request: Uuid, text: &str) -> [u8; 16] {
    let mut hash = Sha256::new();
    // The domains are constants of which none begins another one.
    hash.update(domain);
    hash.update(request.as_bytes());
    hash.update(text.as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|at| hash[at])
}

/// A device's id that follows from a request.
pub(crate) fn derived_device(domain: &[u8], request: Uuid, text: &str) -> DeviceId {
    let [a, b, c, d, e, f, g, h, ..] = derived(domain, request, text);
    // 0 is nobody's device: what the server writes by itself is written under it.
    DeviceId::new(u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1))
}

fn key_id(footer: &[u8]) -> Option<u64> {
    let bytes = BASE64URL_NOPAD.decode(footer).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn unauthenticated(why: &str) -> Refusal {
    Refusal::new(Code::Unauthenticated, format!("the access token is not accepted: {why}"))
}

fn defect(error: &dyn std::fmt::Debug) -> Refusal {
    Refusal::new(Code::Internal, format!("tokens cannot be made: {error:?}"))
}

/// A refresh token. Its text is `base64url(version, device, secret, user)`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    /// Whose.
    pub(crate) user: UserId,
    /// On which device.
    pub(crate) device: DeviceId,
    secret: [u8; SECRET_BYTES],
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RefreshToken({} {} …)", self.user, self.device)
    }
}

impl RefreshToken {
    /// Draws one for a device.
    pub(crate) fn draw(user: UserId, device: DeviceId) -> Self {
        Self { user, device, secret: host::random::bytes() }
    }

    /// Reads what a device shows.
    ///
    /// # Errors
    /// `unauthenticated` for what is none.
    pub(crate) fn read(text: &str) -> Result<Self, Refusal> {
        let none = || Refusal::new(Code::Unauthenticated, "the refresh token is not accepted");
        if text.len() > TOKEN_MAX_BYTES {
            return Err(none());
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| none())?;
        let ([version], rest) = bytes.split_first_chunk().ok_or_else(none)?;
        let (device, rest) = rest.split_first_chunk().ok_or_else(none)?;
        let (secret, user) = rest.split_first_chunk().ok_or_else(none)?;
        let user = std::str::from_utf8(user).ok().and_then(|user| UserId::new(user).ok());
        if *version != REFRESH_VERSION {
            return Err(none());
        }
        let device = DeviceId::new(u64::from_be_bytes(*device));
        Ok(Self { user: user.ok_or_else(none)?, device, secret: *secret })
    }

    /// What the device keeps.
    pub(crate) fn text(&self) -> String {
        BASE64URL_NOPAD.encode(&self.bytes())
    }

    /// What the account log keeps.
    pub(crate) fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.bytes()).into())
    }

    /// Whether this is the token of that hash; takes the same time for any.
    pub(crate) fn is(&self, hash: &TokenHash) -> bool {
        self.hash().0.ct_eq(&hash.0).into()
    }

    fn bytes(&self) -> Vec<u8> {
        let user = self.user.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(1 + 8 + SECRET_BYTES + user.len());
        bytes.push(REFRESH_VERSION);
        bytes.extend_from_slice(&self.device.get().to_be_bytes());
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(user);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn alice() -> UserId {
        UserId::new("alice").expect("valid")
    }

    fn signed() -> (Signer, String) {
        let signer = Signer::draw().expect("randomness");
        let (token, _) = signer.sign(alice(), DeviceId::new(7), NOW_MS).expect("signed");
        (signer, token)
    }

    fn key_of(signer: &Signer) -> impl FnOnce(u64) -> Option<VerifyingKey> + use<> {
        let key = signer.verifying_key().expect("a key");
        move |id| (key.id == id).then_some(key)
    }

    fn why(refused: Result<Bearer, Refusal>) -> String {
        refused.expect_err("refused").message
    }

    #[test]
    fn a_token_stands_for_its_device_until_it_ends() {
        let (signer, token) = signed();
        assert!(token.starts_with("v4.public.") && token.len() < TOKEN_MAX_BYTES, "{token}");
        let bearer = verify(&token, key_of(&signer), NOW_MS + ACCESS_TTL_MS).expect("the skew is granted");
        assert_eq!((bearer.user, bearer.device), (alice(), DeviceId::new(7)));
        let ended = verify(&token, key_of(&signer), NOW_MS + ACCESS_TTL_MS + SKEW_MS);
        assert_eq!(ended.expect_err("ended").code, Code::TokenExpired);
        let early = verify(&token, key_of(&signer), NOW_MS - SKEW_MS - 1);
        assert!(why(early).contains("it has not begun"));
    }

    #[test]
    fn a_forged_token_is_refused() {
        let (signer, token) = signed();
        let (other, _) = signed();
        let key = VerifyingKey { id: signer.id, ..other.verifying_key().expect("a key") };
        assert!(why(verify(&token, |_| Some(key), NOW_MS)).contains("its signature is wrong"));
        assert!(why(verify(&token, key_of(&other), NOW_MS)).contains("its key is not known"));

        // Each byte of it counts: header, what it says, signature, and the key that it names.
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).expect("ASCII");
            assert!(verify(&forged, key_of(&signer), NOW_MS).is_err(), "byte {at} of {forged}");
        }
        assert!(why(verify("", key_of(&signer), NOW_MS)).contains("malformed"));
        assert!(why(verify(&token.repeat(9), key_of(&signer), NOW_MS)).contains("too long"));
    }

    #[test]
    fn a_refresh_token_is_known_by_its_hash() {
        let token = RefreshToken::draw(alice(), DeviceId::new(7));
        let read = RefreshToken::read(&token.text()).expect("what was drawn");
        assert_eq!(read, token);
        assert!(read.is(&token.hash()));
        assert!(!RefreshToken::draw(alice(), DeviceId::new(7)).is(&token.hash()));
        assert_eq!(format!("{token:?}"), "RefreshToken(alice 7 …)");
    }

    #[test]
    fn what_is_no_refresh_token_is_refused() {
        let text = RefreshToken::draw(alice(), DeviceId::new(7)).text();
        for wrong in ["", "AA", &text[..40], &format!("C{}", &text[1..]), "not base64!", &"A".repeat(1_000)] {
            let refusal = RefreshToken::read(wrong).expect_err("refused");
            assert_eq!(refusal.code, Code::Unauthenticated, "{wrong}");
        }
    }
}
