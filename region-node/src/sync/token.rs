//! The opaque form of where a client stands.
//!
//! ```text
//!   version 1 │ user 4 │ near chats 2 │ each: log 17, generation, epoch, offset, replicated, receipts 3 │ endings 32 │ sums 6 each │ check 4
//! ```
//!
//! Numbers are of variable length, seven bits a byte, the lowest first. `replicated` is by how many offsets that position
//! is before the other one, and behind it its generation and epoch unless that is 0; `receipts` is the sum over those
//! that were told. The check is over all before it.
//! A token is no capability: whose chats are told, the access token says; one of another user is refused so that a
//! client that mixes them up hears of it.

use super::{
    NEAR_MAX,
    stand::{Place, Stand, Sum},
};
use crate::live::ReceiptsSum;
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use types::{Code, Epoch, Generation, LogId, Offset, Position, Refusal, UserId};

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;
const SUM_BYTES: usize = 6;
const ENDINGS_BYTES: usize = 32;
/// The longest text that is looked at: more than the largest token whose numbers are as large as they can be.
const TEXT_MAX_BYTES: usize = 16 * 1024;

impl Stand {
    /// The token of a user who stands here.
    pub(crate) fn seal(&self, user: &UserId) -> String {
        let mut bytes = Vec::with_capacity(64 + self.near.len() * 27 + self.far.len() * SUM_BYTES);
        bytes.push(VERSION);
        bytes.extend(digest(user.as_str().as_bytes()));
        bytes.extend(u16::try_from(self.near.len()).unwrap_or(u16::MAX).to_be_bytes());
        for (log, place) in &self.near {
            bytes.extend(log.to_bytes());
            let Place { position, replicated, receipts } = place;
            put(&mut bytes, position.generation.get().into());
            put(&mut bytes, position.epoch.get());
            put(&mut bytes, position.offset.get());
            let before = position.offset.since(replicated.offset);
            put(&mut bytes, before);
            if before > 0 {
                put(&mut bytes, replicated.generation.get().into());
                put(&mut bytes, replicated.epoch.get());
            }
            bytes.extend(&receipts.get().to_be_bytes()[4 - ReceiptsSum::BYTES..]);
        }
        let mut endings = [0_u8; ENDINGS_BYTES];
        for ending in self.far.keys() {
            endings[usize::from(*ending) / 8] |= 1 << (ending % 8);
        }
        bytes.extend(endings);
        for Sum(sum) in self.far.values() {
            bytes.extend(&sum.to_be_bytes()[8 - SUM_BYTES..]);
        }
        let check = digest(&bytes);
        bytes.extend(check);
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// Where a token of a user stands; the empty text: at the beginning.
    ///
    /// # Errors
    /// `position_malformed`, or `forbidden` where it is another user's.
    pub(crate) fn open(user: &UserId, text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let malformed = |why: &str| {
            let text: String = text.chars().take(80).collect();
            Refusal::new(Code::PositionMalformed, format!("sync token {text:?} is malformed: {why}"))
        };
        if text.len() > TEXT_MAX_BYTES {
            return Err(malformed("it is too long"));
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed("it is no base64url"))?;
        let Some((content, check)) = bytes.split_last_chunk::<CHECK_BYTES>() else {
            return Err(malformed("it is too short"));
        };
        if digest(content) != *check {
            return Err(malformed("its check does not match"));
        }
        let mut rest = content;
        if take::<1>(&mut rest) != Some([VERSION]) {
            return Err(malformed("its version is unknown"));
        }
        let owner = take::<CHECK_BYTES>(&mut rest).ok_or_else(|| malformed("it is too short"))?;
        if owner != digest(user.as_str().as_bytes()) {
            let why = format!("the sync token belongs to another user than {user}");
            return Err(Refusal::new(Code::Forbidden, why));
        }
        stand(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| malformed("its content makes no sense"))
    }
}

fn stand(rest: &mut &[u8]) -> Option<Stand> {
    let mut stand = Stand::default();
    let near = usize::from(u16::from_be_bytes(take(rest)?));
    // One more for the account log.
    if near > NEAR_MAX + 1 {
        return None;
    }
    for _ in 0..near {
        let log = LogId::try_from(&take::<{ LogId::BYTES }>(rest)?[..]).ok()?;
        let position = Position::new(generation(rest)?, Epoch::new(get(rest)?), Offset::new(get(rest)?));
        let before = get(rest)?;
        let replicated = if before == 0 {
            position
        } else {
            let offset = Offset::new(position.offset.get().checked_sub(before)?);
            Position::new(generation(rest)?, Epoch::new(get(rest)?), offset)
        };
        let receipts: [u8; ReceiptsSum::BYTES] = take(rest)?;
        let receipts = ReceiptsSum::new(receipts.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
        if stand.near.insert(log, Place { position, replicated, receipts }).is_some() {
            return None;
        }
    }
    let endings: [u8; ENDINGS_BYTES] = take(rest)?;
    for ending in 0..=u8::MAX {
        if endings[usize::from(ending) / 8] & (1 << (ending % 8)) != 0 {
            let sum: [u8; SUM_BYTES] = take(rest)?;
            stand.far.insert(ending, Sum(sum.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))));
        }
    }
    Some(stand)
}

fn generation(rest: &mut &[u8]) -> Option<Generation> {
    u32::try_from(get(rest)?).ok().map(Generation::new)
}

fn digest(of: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::digest(of);
    [digest[0], digest[1], digest[2], digest[3]]
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn get(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take::<1>(rest)?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("a valid name")
    }

    fn position() -> impl Strategy<Value = Position> {
        (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(generation, epoch, offset)| {
            Position::new(Generation::new(generation), Epoch::new(epoch), Offset::new(offset))
        })
    }

    fn place() -> impl Strategy<Value = Place> {
        (position(), position(), any::<u32>()).prop_map(|(position, replicated, receipts)| {
            let is_before = replicated.offset < position.offset;
            let replicated = if is_before { replicated } else { position };
            Place { position, replicated, receipts: ReceiptsSum::new(receipts) }
        })
    }

    fn any_stand() -> impl Strategy<Value = Stand> {
        let near = proptest::collection::btree_map(any::<[u8; 16]>().prop_map(LogId::group), place(), 0..9);
        let sum = (0..1_u64 << 48).prop_map(Sum);
        let far = proptest::collection::btree_map(any::<u8>(), sum, 0..9);
        (near, far).prop_map(|(near, far)| Stand { near, far })
    }

    proptest! {
        #[test]
        fn a_token_opens_to_where_it_was_sealed(stand in any_stand()) {
            let token = stand.seal(&user("alice"));
            prop_assert_eq!(Stand::open(&user("alice"), &token), Ok(stand));
            let other = Stand::open(&user("bob"), &token).map_err(|refusal| refusal.code);
            prop_assert_eq!(other, Err(Code::Forbidden));
        }

        #[test]
        fn a_changed_token_never_opens(stand in any_stand(), at: prop::sample::Index, with in "[A-Za-z0-9_-]") {
            let mut token = stand.seal(&user("alice"));
            let at = at.index(token.len());
            prop_assume!(token[at..=at] != with);
            token.replace_range(at..=at, &with);
            prop_assert!(Stand::open(&user("alice"), &token).is_err());
        }

        #[test]
        fn any_text_is_answered(text in ".{0,200}") {
            let _ = Stand::open(&user("alice"), &text);
        }
    }

    #[test]
    fn a_token_of_another_version_is_refused_by_name() {
        let mut bytes =
            BASE64URL_NOPAD.decode(Stand::default().seal(&user("alice")).as_bytes()).expect("base64");
        bytes[0] = VERSION + 1;
        let end = bytes.len() - CHECK_BYTES;
        let check = digest(&bytes[..end]);
        bytes[end..].copy_from_slice(&check);
        let refusal =
            Stand::open(&user("alice"), &BASE64URL_NOPAD.encode(&bytes)).expect_err("it is refused");
        assert_eq!(refusal.code, Code::PositionMalformed);
        assert!(refusal.to_string().contains("its version is unknown"), "{refusal}");
    }

    #[test]
    fn the_token_of_a_user_with_the_most_chats_has_its_bound() {
        let at = Position::new(Generation::new(3), Epoch::new(9_000), Offset::new(2_000_000));
        let tail = Position::new(Generation::new(3), Epoch::new(9_000), Offset::new(1_999_990));
        let near = |number: usize| {
            let mut key = [7; 16];
            key[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let replicated = if number < 8 { tail } else { at };
            (LogId::group(key), Place { position: at, replicated, receipts: ReceiptsSum::new(1 << 23) })
        };
        let far = (0..=u8::MAX).map(|ending| (ending, Sum(1 << 47)));
        let stand = Stand { near: (0..=NEAR_MAX).map(near).collect(), far: far.collect() };
        let token = stand.seal(&user("alice"));
        assert!(token.len() <= 8 * 1024, "{} bytes", token.len());
        let few = Stand { near: (0..100).map(near).collect(), far: Default::default() };
        assert!(few.seal(&user("alice")).len() <= 3_700, "{} bytes", few.seal(&user("alice")).len());
        let large = Position::new(Generation::new(u32::MAX), Epoch::new(u64::MAX), Offset::new(u64::MAX));
        let stand = Stand {
            near: (0..=NEAR_MAX).map(|number| (near(number).0, Place::at(large))).collect(),
            far: (0..=u8::MAX).map(|ending| (ending, Sum(1 << 47))).collect(),
        };
        let text = stand.seal(&user("alice"));
        assert_eq!(Stand::open(&user("alice"), &text), Ok(stand), "{} bytes", text.len());
    }
}
