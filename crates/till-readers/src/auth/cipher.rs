//! AES-128 the way the chips use it: CBC over whole blocks, CMAC, and the few shuffles of bytes
//! that the authentications of NXP have in common.

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use cmac::{Cmac, Mac};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use chip_keys::ChipKey;

/// A block of AES, a random number of a side, an initialisation vector.
pub(super) type Block = [u8; 16];

/// EV2First and Ultralight AES start every step afresh.
pub(super) const ZERO_IV: Block = [0; 16];

/// Encrypts whole blocks in place (CBC without padding); bytes after the last whole block stay.
pub(super) fn encrypt(key: &ChipKey, iv: &Block, bytes: &mut [u8]) {
    let aes = Aes128::new(key.as_bytes().into());
    let mut previous = *iv;
    for block in bytes.as_chunks_mut::<16>().0 {
        *block = xor(block, &previous);
        aes.encrypt_block(block.into());
        previous = *block;
    }
}

/// Decrypts whole blocks in place (CBC without padding); bytes after the last whole block stay.
pub(super) fn decrypt(key: &ChipKey, iv: &Block, bytes: &mut [u8]) {
    let aes = Aes128::new(key.as_bytes().into());
    let mut previous = *iv;
    for block in bytes.as_chunks_mut::<16>().0 {
        let sealed = *block;
        aes.decrypt_block(block.into());
        *block = xor(block, &previous);
        previous = sealed;
    }
}

/// CMAC of RFC 4493 over the parts in a row.
pub(super) fn cmac(key: &ChipKey, parts: &[&[u8]]) -> Zeroizing<Block> {
    let mut mac = <Cmac<Aes128> as KeyInit>::new(key.as_bytes().into());
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// The CMAC as it goes over the air: its bytes 1, 3, … 15 (AN12196, section 5.4).
pub(super) fn short_cmac(key: &ChipKey, parts: &[&[u8]]) -> [u8; 8] {
    let whole = cmac(key, parts);
    std::array::from_fn(|i| whole[2 * i + 1])
}

/// The key that a session gets from both random numbers and a label for its purpose
/// (AN12196, table "session key generation"; Ultralight AES uses the same vector).
pub(super) fn session_key(key: &ChipKey, label: &[u8; 6], rnd_a: &Block, rnd_b: &Block) -> ChipKey {
    let mixed = Zeroizing::new(xor(rnd_a, &shifted_by_two(rnd_b)));
    let derived = cmac(
        key,
        &[label, &rnd_a[..2], &mixed[2..8], &rnd_b[6..], &rnd_a[8..]],
    );
    ChipKey::new(*derived)
}

/// The random number turned left by one byte: what a side sends back to show that it could read it.
pub(super) fn rotated(number: &Block) -> Zeroizing<Block> {
    let mut turned = Zeroizing::new(*number);
    turned.rotate_left(1);
    turned
}

/// Both random numbers as the reader's answer carries them: its own, then the chip's one turned.
pub(super) fn token(rnd_a: &Block, rnd_b: &Block) -> Zeroizing<[u8; 32]> {
    let mut token = Zeroizing::new([0; 32]);
    token[..16].copy_from_slice(rnd_a);
    token[16..].copy_from_slice(&*rotated(rnd_b));
    token
}

/// Compares without telling by its duration where the first difference is.
pub(super) fn equal(ours: &[u8], theirs: &[u8]) -> bool {
    ours.ct_eq(theirs).into()
}

pub(super) fn xor(a: &Block, b: &Block) -> Block {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// `RndA[2..8]` meets `RndB[0..6]`, so the latter moves right by two.
fn shifted_by_two(rnd_b: &Block) -> Block {
    let mut shifted = *rnd_b;
    shifted.rotate_right(2);
    shifted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example key and message of NIST SP 800-38A, section F.2.1 (CBC-AES128).
    const KEY: Block = 0x2b7e1516_28aed2a6_abf71588_09cf4f3c_u128.to_be_bytes();
    const IV: Block = 0x00010203_04050607_08090a0b_0c0d0e0f_u128.to_be_bytes();
    const PLAIN: [u128; 2] = [
        0x6bc1bee2_2e409f96_e93d7e11_7393172a,
        0xae2d8a57_1e03ac9c_9eb76fac_45af8e51,
    ];
    const SEALED: [u128; 2] = [
        0x7649abac_8119b246_cee98e9b_12e9197d,
        0x5086cb9b_507219ee_95db113a_917678b2,
    ];

    fn bytes(blocks: [u128; 2]) -> Vec<u8> {
        blocks
            .iter()
            .flat_map(|block| block.to_be_bytes())
            .collect()
    }

    #[test]
    fn cbc_gives_the_example_of_nist_both_ways() {
        let key = ChipKey::new(KEY);
        let mut text = bytes(PLAIN);
        encrypt(&key, &IV, &mut text);
        assert_eq!(text, bytes(SEALED));
        decrypt(&key, &IV, &mut text);
        assert_eq!(text, bytes(PLAIN));
    }

    #[test]
    fn cmac_gives_the_examples_of_rfc_4493() {
        let check = |message: &[u8], expect: u128| {
            let (front, back) = message.split_at(message.len() / 3);
            assert_eq!(
                *cmac(&ChipKey::new(KEY), &[front, back]),
                expect.to_be_bytes()
            );
        };
        check(&[], 0xbb1d6929_e9593728_7fa37d12_9b756746);
        check(&bytes(PLAIN)[..16], 0x070a16b4_6b4d4144_f79bdd9d_d04a287c);
    }

    fn hex<T: TryFrom<Vec<u8>>>(text: &str) -> T {
        crate::auth::vectors::hex(text)
    }

    /// A till does not believe these messages, since one can be replayed at another till; the
    /// examples show that cipher and CMAC are those of the chip.
    #[test]
    fn the_messages_in_links_of_an12196_come_out_of_the_same_cipher() {
        let factory = ChipKey::factory();
        let mut about_chip: Block = hex("EF963FF7828658A599F3041510671E88");
        decrypt(&factory, &ZERO_IV, &mut about_chip);
        // Tag, UID, counter, and what fills it up.
        let shown: [u8; 11] = hex("C7 04DE5F1EACC040 3D0000");
        assert_eq!(about_chip[..11], shown);

        let derived = |key: &ChipKey, label: &str, of: &str| {
            let (label, of) = (hex::<[u8; 6]>(label), hex::<[u8; 10]>(of));
            ChipKey::new(*cmac(key, &[&label, &of]))
        };
        let (encryption, mac) = ("C33C00010080", "3CC300010080");
        let key = ChipKey::new(hex("5ACE7E50AB65D5D51FD5BF5A16B8205B"));
        let of = "04C767F2066180 010000";
        let expect = |key: &str| ChipKey::new(hex(key));
        assert_eq!(
            derived(&key, encryption, of),
            expect("66DA61797E23DECA5D8ECA13BBADF7A9")
        );
        assert_eq!(
            derived(&key, mac, of),
            expect("3A3E8110E05311F7A3FCF0D969BF2B48")
        );

        let empty = derived(&factory, mac, "04DE5F1EACC040 3D0000");
        assert_eq!(short_cmac(&empty, &[]), hex::<[u8; 8]>("94EED9EE65337086"));
        let part = derived(&factory, mac, "04958CAA5C5E80 080000");
        let input = b"CEE9A53E3E463EF1F459635736738962&cmac=";
        assert_eq!(
            short_cmac(&part, &[input]),
            hex::<[u8; 8]>("ECC1E7F6C6C73BF6")
        );
    }

    #[test]
    fn bytes_after_the_last_whole_block_stay() {
        let mut text = [7; 20];
        encrypt(&ChipKey::new(KEY), &ZERO_IV, &mut text);
        assert_eq!(text[16..], [7; 4]);
        assert_ne!(text[..16], [7; 16]);
    }
}
