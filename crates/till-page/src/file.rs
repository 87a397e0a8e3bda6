//! The page's files, embedded in the program so that the page needs neither disk nor network.

/// A file that the page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticFile {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The content.
    pub bytes: &'static [u8],
    /// The value of `ETag`, with its quotation marks.
    pub etag: &'static str,
}

/// The file of a path like `/static/till.css`, or of its bare name.
pub fn static_file(path: &str) -> Option<StaticFile> {
    let name = path.strip_prefix("/static/").unwrap_or(path);
    FILES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, file)| *file)
}

macro_rules! embed {
    ($name:literal, $content_type:literal) => {{
        const BYTES: &[u8] = include_bytes!(concat!("../static/", $name));
        const TAG: [u8; 18] = etag(BYTES);
        const ETAG: &str = match std::str::from_utf8(&TAG) {
            Ok(etag) => etag,
            Err(_) => panic!("hexadecimal digits are UTF-8"),
        };
        let file = StaticFile {
            content_type: $content_type,
            bytes: BYTES,
            etag: ETAG,
        };
        ($name, file)
    }};
}

const FILES: [(&str, StaticFile); 10] = [
    embed!("till.css", "text/css; charset=utf-8"),
    embed!("till.js", "text/javascript; charset=utf-8"),
    embed!("keypad.js", "text/javascript; charset=utf-8"),
    embed!("keys.js", "text/javascript; charset=utf-8"),
    embed!("readers.js", "text/javascript; charset=utf-8"),
    embed!("sound.js", "text/javascript; charset=utf-8"),
    embed!("stream.js", "text/javascript; charset=utf-8"),
    embed!("undo.js", "text/javascript; charset=utf-8"),
    embed!("words.js", "text/javascript; charset=utf-8"),
    embed!("till.svg", "image/svg+xml"),
];

/// FNV-1a in hexadecimal, between quotation marks; reckoned by the compiler.
const fn etag(bytes: &[u8]) -> [u8; 18] {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    let mut tag = [b'"'; 18];
    let mut digit = 0;
    while digit < 16 {
        tag[digit + 1] = b"0123456789abcdef"[(hash >> (60 - 4 * digit)) as usize & 15];
        digit += 1;
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, content_type: Option<&str>) {
        assert_eq!(
            static_file(path).map(|file| file.content_type),
            content_type,
            "{path}"
        );
    }

    #[test]
    fn the_page_finds_its_files_and_nothing_else() {
        check("/static/till.css", Some("text/css; charset=utf-8"));
        check("till.js", Some("text/javascript; charset=utf-8"));
        check("/static/till.svg", Some("image/svg+xml"));
        check("/static/../Cargo.toml", None);
        check("/static/", None);
        check("/static/TILL.CSS", None);
    }

    #[test]
    fn an_etag_is_the_hash_that_fnv_publishes() {
        // Draft-eastlake-fnv, test vectors for 64-bit FNV-1a.
        assert_eq!(&etag(b""), b"\"cbf29ce484222325\"");
        assert_eq!(&etag(b"a"), b"\"af63dc4c8601ec8c\"");
        assert_eq!(&etag(b"foobar"), b"\"85944171f73967e8\"");
    }
}
