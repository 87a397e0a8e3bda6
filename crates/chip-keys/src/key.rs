//! A secret AES key, and the key of one chip made from the key of many.

use std::fmt;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// An AES-128 key of a chip or of a site: wiped when dropped, compared in constant time, never
/// printed.
#[derive(Clone)]
pub struct ChipKey(Block);

/// A block of AES.
type Block = [u8; 16];

impl ChipKey {
    /// Takes the key's 16 bytes; wiping the caller's copy is the caller's part.
    pub fn new(mut bytes: [u8; 16]) -> ChipKey {
        let key = ChipKey(bytes);
        bytes.zeroize();
        key
    }

    /// The key for one chip, made from this master key by NXP's AN10922 (AES-128, section 2.2).
    ///
    /// `input` is what tells the chip apart: UID, then application, then the system's own name.
    /// `None` if it is empty or longer than 31 bytes.
    pub(crate) fn diversified(&self, input: &[u8]) -> Option<ChipKey> {
        let aes = Aes128::new((&self.0).into());
        let [first, last] = diversification_blocks(input, &subkeys(&aes))?;
        let mut key = Zeroizing::new(first);
        aes.encrypt_block((&mut *key).into());
        *key = xor(&key, &last);
        aes.encrypt_block((&mut *key).into());
        Some(ChipKey::new(*key))
    }

    /// The key that chips carry when they leave the factory: known to everyone.
    pub fn factory() -> ChipKey {
        ChipKey([0; 16])
    }

    /// Whether everyone knows it.
    pub fn is_factory_key(&self) -> bool {
        *self == ChipKey::factory()
    }

    /// The secret itself, for a cipher or a sealed letter and nothing else.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl PartialEq for ChipKey {
    fn eq(&self, other: &ChipKey) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ChipKey {}

/// Says only that it is a key.
impl fmt::Debug for ChipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChipKey(…)")
    }
}

impl Drop for ChipKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for ChipKey {}

/// The input behind its constant 01, as two blocks, the second one mixed with a subkey.
///
/// AN10922 always fills up to two blocks. Plain CMAC would fill an input of up to 15 bytes to one
/// block and give another key, which is why `cmac` cannot do this.
fn diversification_blocks(input: &[u8], [k1, k2]: &[Block; 2]) -> Option<[Block; 2]> {
    if input.is_empty() || input.len() > LONGEST_INPUT {
        return None;
    }
    let mut padded = [0; 32];
    padded[0] = DIVERSIFY_AES_128;
    padded[1..=input.len()].copy_from_slice(input);
    let full = input.len() == LONGEST_INPUT;
    if !full {
        padded[input.len() + 1] = 0x80;
    }
    let [first, last] = *padded.as_chunks::<16>().0 else {
        return None;
    };
    Some([first, xor(&last, if full { k1 } else { k2 })])
}

/// The subkeys K1 and K2 of CMAC (RFC 4493, section 2.3).
fn subkeys(aes: &Aes128) -> [Block; 2] {
    let mut zero = [0; 16];
    aes.encrypt_block((&mut zero).into());
    let k1 = doubled(u128::from_be_bytes(zero));
    [k1.to_be_bytes(), doubled(k1).to_be_bytes()]
}

/// Times x in the field of CMAC, without a branch on the secret.
fn doubled(value: u128) -> u128 {
    (value << 1) ^ ((value >> 127) * 0x87)
}

fn xor(a: &Block, b: &Block) -> Block {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// AN10922's constant for AES-128.
const DIVERSIFY_AES_128: u8 = 0x01;
pub(crate) const LONGEST_INPUT: usize = 31;

#[cfg(test)]
mod tests {
    use cmac::{Cmac, Mac};

    use super::*;
    use crate::hex;

    fn plain_cmac(key: &str, parts: &[&[u8]]) -> Block {
        let key: Block = hex(key);
        let mut mac = <Cmac<Aes128> as KeyInit>::new((&key).into());
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    fn check(master: &str, input: &str, expect: &str) {
        let key = ChipKey::new(hex(master)).diversified(&hex::<Vec<u8>>(input));
        assert_eq!(key.expect("diversified").0, hex::<Block>(expect), "{input}");
    }

    #[test]
    fn a_key_is_diversified_like_the_example_of_an10922() {
        check(
            "00112233445566778899AABBCCDDEEFF",
            "04782E21801D80 3042F5 4E585020416275",
            "A8DD63A3B89D54B37CA802473FDA9175",
        );
    }

    #[test]
    fn a_short_input_is_filled_to_two_blocks_too() {
        let (master, input) = ("F3F9377698707B688EAF84ABE39E3791", "04DEADBEEFFEED");
        check(master, input, "0BB408BAFF98B6EE9F2E1585777F6A51");
        let plain = plain_cmac(master, &[&hex::<Vec<u8>>("0104DEADBEEFFEED")]);
        assert_eq!(plain, hex::<Block>("721E2C01E81AF85D815633969CEA2607"));
    }

    #[test]
    fn an_input_that_needs_two_blocks_anyway_gives_plain_cmac() {
        let bytes = "00112233445566778899AABBCCDDEEFF";
        let master = ChipKey::new(hex(bytes));
        for length in 1..=LONGEST_INPUT {
            let input: Vec<u8> = (0x40..).take(length).collect();
            let plain = plain_cmac(bytes, &[&[DIVERSIFY_AES_128], &input]);
            let key = master.diversified(&input).expect("diversified");
            assert_eq!(key.0 == plain, length >= 16, "{length} bytes");
        }
    }

    #[test]
    fn an_empty_or_too_long_input_gives_no_key() {
        let master = ChipKey::new([1; 16]);
        assert_eq!(master.diversified(&[]), None);
        assert_eq!(master.diversified(&[1; LONGEST_INPUT + 1]), None);
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = ChipKey::new([0xA5; 16]);
        assert_eq!(
            format!("{key:?} {:?}", Some(&key)),
            "ChipKey(…) Some(ChipKey(…))"
        );
    }
}
