//! Reading the frozen byte vectors of the tests.

/// Bytes from hex; spaces between them are for the eye.
pub(super) fn hex<T: TryFrom<Vec<u8>>>(text: &str) -> T {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("hex digits") as u8)
        .collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    let length = bytes.len();
    T::try_from(bytes).unwrap_or_else(|_| panic!("{length} bytes are not what the test wants"))
}

/// A chip that says exactly these answers and expects exactly these commands.
pub(super) fn scripted<'a>(
    script: &'a [(&'a str, &'a str)],
) -> impl FnMut(&[u8]) -> Result<Vec<u8>, crate::ChipFault> + 'a {
    let mut lines = script.iter();
    move |command| {
        let (expected, answer) = lines.next().expect("no more commands than the script has");
        assert_eq!(command, hex::<Vec<u8>>(expected), "the command");
        Ok(hex(answer))
    }
}
