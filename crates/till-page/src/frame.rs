//! The page itself, as the browser first gets it.

use askama::Template;

use crate::state::PageState;

/// What the page is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The state of the till at this moment, so that the first picture is right before the first
    /// event comes.
    pub state: &'a PageState,
}

/// The whole page as HTML, without script or style in it.
pub fn page(frame: &Frame<'_>) -> String {
    let state = serde_json::to_string(frame.state)
        .expect("a page state has string keys only, and such values always serialise");
    let till = TillPage {
        till: &frame.state.till,
        canteen: &frame.state.canteen,
        state: &state,
    };
    till.render()
        .expect("the template shows strings only, and those always render")
}

#[derive(Template)]
#[template(path = "till.html")]
struct TillPage<'a> {
    till: &'a str,
    canteen: &'a str,
    state: &'a str,
}

#[cfg(test)]
mod tests {
    use canteen::{Contact, OfflineRules};

    use super::*;
    use crate::file::static_file;
    use crate::state::{Basket, Person, Phase, Verdict, VerdictKind};
    use crate::text::Text;
    use crate::words::line::line_words;
    use crate::words::notice::NoticeShown;

    const HOSTILE: &str = "</script><script>alert('\"&')</script>";

    fn state(name: &str) -> PageState {
        let contact = Contact {
            online: true,
            age: std::time::Duration::ZERO,
        };
        let now = "2026-11-20T11:00:00Z".parse().unwrap();
        PageState {
            version: "1".to_owned(),
            till: name.to_owned(),
            canteen: name.to_owned(),
            boot: "b1".to_owned(),
            line: line_words(Some(contact), &OfflineRules::default(), None, 0, None, now),
            readers: Vec::new(),
            phase: Phase::Waiting,
            basket: Basket::default(),
            waiting_until: Some(30_000),
            verdict: Some(Verdict {
                id: "v1".to_owned(),
                kind: VerdictKind::Approved,
                title: Text::new("Godkendt", "Approved"),
                detail: Text::new(name, name),
                figure: None,
                person: Person {
                    name: Some(name.to_owned()),
                    photo: Some("/photo/7".to_owned()),
                },
                top_up: None,
            }),
            chip: None,
            recent: Vec::new(),
            products: Vec::new(),
            notices: vec![NoticeShown {
                text: Text::new(name, name),
                runbook: None,
            }],
            journal_ok: true,
        }
    }

    fn drawn(name: &str) -> String {
        let state = state(name);
        page(&Frame { state: &state })
    }

    fn unescape(html: &str) -> String {
        html.replace("&#60;", "<")
            .replace("&#62;", ">")
            .replace("&#34;", "\"")
            .replace("&#39;", "'")
            .replace("&#38;", "&")
    }

    #[test]
    fn names_stay_text() {
        let html = drawn(HOSTILE);
        assert!(!html.contains("<script>"), "{html}");
        assert!(html.contains("<title>&#60;/script&#62;&#60;script&#62;alert("));
        assert_eq!(html.matches("<script ").count(), 1);
    }

    #[test]
    fn the_first_picture_is_the_state_that_was_given() {
        let html = drawn(HOSTILE);
        let (_, rest) = html.split_once("data-state=\"").unwrap();
        let (escaped, _) = rest.split_once('"').unwrap();
        let carried: serde_json::Value = serde_json::from_str(&unescape(escaped)).unwrap();
        assert_eq!(carried, serde_json::to_value(state(HOSTILE)).unwrap());
        assert_eq!(carried["verdict"]["name"], HOSTILE);
        assert_eq!(carried["verdict"]["photo"], "/photo/7");
        assert_eq!(carried["verdict"]["kind"], "approved");
        assert_eq!(carried["phase"], "waiting");
        assert_eq!(carried["line"]["state"], "online");
    }

    /// The content security policy allows nothing inline.
    #[test]
    fn nothing_in_the_page_is_inline() {
        let html = drawn("Kasse 1");
        for tag in html.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            for attribute in tag.split_whitespace().skip(1) {
                assert!(!attribute.starts_with("on"), "{tag}");
                assert!(!attribute.starts_with("style="), "{tag}");
            }
            assert!(!tag.starts_with("style"), "{tag}");
        }
        assert!(html.contains("<script src=\"/static/till.js\" type=\"module\"></script>"));
    }

    #[test]
    fn all_that_the_page_asks_for_is_embedded() {
        let mut asked = Vec::new();
        for part in drawn("Kasse 1").split("\"/static/").skip(1) {
            asked.push(part.split('"').next().unwrap().to_owned());
        }
        let script = static_file("till.js").unwrap().bytes;
        let script = std::str::from_utf8(script).unwrap();
        for part in script.split("from \"./").skip(1) {
            asked.push(part.split('"').next().unwrap().to_owned());
        }
        assert_eq!(asked.len(), 10, "{asked:?}");
        for name in asked {
            assert!(static_file(&name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_danish_word_of_the_page_has_an_english_one() {
        let html = drawn("Kasse 1");
        let mut words = 0;
        for part in html.split("<span lang=\"da\">").skip(1) {
            let (da, rest) = part.split_once("</span>").unwrap();
            let en = rest.strip_prefix("<span lang=\"en\">").unwrap();
            let (en, _) = en.split_once("</span>").unwrap();
            assert!(
                !da.trim().is_empty() && !en.trim().is_empty(),
                "{da} / {en}"
            );
            words += 1;
        }
        assert!(words > 25, "{words}");
    }

    #[test]
    fn the_script_finds_every_word_and_element_that_it_names() {
        let html = drawn("Kasse 1");
        for name in ["till.js", "keypad.js", "undo.js", "words.js"] {
            let script = std::str::from_utf8(static_file(name).unwrap().bytes).unwrap();
            for (call, prefix) in [
                ("byId(\"", ""),
                ("word(\"", "word-"),
                ("button(\"", "word-"),
            ] {
                for part in script.split(call).skip(1) {
                    let id = part.split('"').next().unwrap();
                    // A second one would be found instead.
                    let named = html.matches(&format!("id=\"{prefix}{id}\"")).count();
                    assert_eq!(named, 1, "{prefix}{id}");
                }
            }
        }
    }

    #[test]
    fn the_scripts_stay_small_and_never_make_markup_of_text() {
        for name in [
            "till.js",
            "keypad.js",
            "keys.js",
            "readers.js",
            "sound.js",
            "stream.js",
            "undo.js",
            "words.js",
        ] {
            let script = std::str::from_utf8(static_file(name).unwrap().bytes).unwrap();
            assert!(script.lines().count() < 300, "{name}");
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
            ] {
                assert!(!script.contains(forbidden), "{name}: {forbidden}");
            }
        }
    }
}
