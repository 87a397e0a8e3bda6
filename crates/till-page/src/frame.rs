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
