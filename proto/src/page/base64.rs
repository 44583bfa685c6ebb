//! Base64 of bodies, two characters at a time: it is most of what a page costs as JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PAD: u8 = b'=';

/// The two characters of each 12 bits.
static PAIRS: [[u8; 2]; 4096] = pairs();

const fn pairs() -> [[u8; 2]; 4096] {
    let mut pairs = [[0; 2]; 4096];
    let mut bits = 0;
    while bits < pairs.len() {
        pairs[bits] = [ALPHABET[bits >> 6], ALPHABET[bits & 63]];
        bits += 1;
    }
    pairs
}

/// Appends bytes in the standard alphabet, padded.
pub(super) fn append(bytes: &[u8], into: &mut Vec<u8>) {
    let (threes, rest) = bytes.as_chunks::<3>();
    let begin = into.len();
    into.resize(begin + threes.len() * 4, 0);
    let (fours, _) = into[begin..].as_chunks_mut::<4>();
    for (three, four) in threes.iter().zip(fours) {
        *four = four_of(*three);
    }
    match *rest {
        [a] => {
            let [first, second, ..] = four_of([a, 0, 0]);
            into.extend_from_slice(&[first, second, PAD, PAD]);
        }
        [a, b] => {
            let [first, second, third, _] = four_of([a, b, 0]);
            into.extend_from_slice(&[first, second, third, PAD]);
        }
        _ => {}
    }
}

fn four_of([a, b, c]: [u8; 3]) -> [u8; 4] {
    let bits = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    let ([first, second], [third, fourth]) = (PAIRS[bits >> 12 & 0xFFF], PAIRS[bits & 0xFFF]);
    [first, second, third, fourth]
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_encoded_as_the_standard_says() {
        let bytes: Vec<u8> = (0..=255).rev().chain(0..=255).collect();
        for from in 0..60 {
            for len in [0, 1, 2, 3, 4, 5, 100, 450] {
                let mut into = Vec::new();
                super::append(&bytes[from..from + len], &mut into);
                assert_eq!(into, data_encoding::BASE64.encode(&bytes[from..from + len]).into_bytes());
            }
        }
    }
}
