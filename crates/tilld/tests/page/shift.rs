//! Somebody at the screen of a canteen, and what is looked at there.

use std::time::Duration;

use canteen::COPENHAGEN;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::browser::Screen;
use crate::rig::{Site, workspace};

/// A canteen with somebody at its screen.
pub(crate) struct Shift {
    pub(crate) screen: Screen,
    pub(crate) site: Site,
    _turn: MutexGuard<'static, ()>,
}

impl Shift {
    /// A till that is ready to sell, shown in Danish at 1024x768.
    pub(crate) async fn begin() -> Shift {
        // Two screens at a time would measure each other.
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let site = Site::open();
        let address = format!("http://127.0.0.1:{}/", site.page_port());
        let screen = Screen::open(&address).await.unwrap();
        screen.wait_for(KIND, json!("ready"), PATIENCE).await;
        Shift {
            screen,
            site,
            _turn: turn,
        }
    }

    /// Nothing may be left that the browser complains of.
    pub(crate) async fn end(self) {
        assert_eq!(self.screen.complaints(), [""; 0]);
        self.screen.close().await.unwrap();
    }

    /// Rings up one product and asks for a chip.
    pub(crate) async fn ring_up(&self, product: &str) {
        self.screen.press(".products", product).await;
        self.screen
            .wait_for(&format!("{BASKET}.length"), json!(1), SOON)
            .await;
        self.screen.press(".actions", "Betal").await;
        self.screen.wait_for(KIND, json!("waiting"), SOON).await;
    }

    pub(crate) async fn sell(&self, product: &str, chip: &str, outcome: Value) {
        self.ring_up(product).await;
        let chip = self.site.lay(chip);
        self.screen.wait_for(STAGE, outcome, SOON).await;
        chip.remove();
    }

    pub(crate) fn freeze_till(&self, signal: Signal) {
        let pid = Pid::from_raw(self.site.till_pid().cast_signed());
        kill(pid, signal).unwrap();
    }

    /// Takes a picture in both languages and checks what can be checked of any screen.
    pub(crate) async fn look(&self, name: &str) {
        self.screen.shoot(name).await;
        self.check_readable(name).await;
        self.screen.press(".languages", "English").await;
        self.screen
            .wait_for("document.documentElement.lang", json!("en"), SOON)
            .await;
        self.screen.shoot(&format!("{name}-en")).await;
        self.check_readable(&format!("{name} in English")).await;
        let danish: Vec<String> = self.screen.read(DANISH_ALONE).await;
        assert_eq!(
            danish, [""; 0],
            "{name}: only in Danish though English was chosen"
        );
        self.screen.press(".languages", "Dansk").await;
        self.screen
            .wait_for("document.documentElement.lang", json!("da"), SOON)
            .await;
    }

    pub(crate) async fn check_readable(&self, name: &str) {
        let cut = self.screen.cut_texts().await.into_iter();
        let cut: Vec<String> = cut
            .map(|cut| format!("{}: {}", cut.text, cut.why))
            .collect();
        assert_eq!(cut, [""; 0], "{name}");
        let contrasts = self.screen.contrasts().await;
        assert!(contrasts.len() > 3, "{name}: {contrasts:#?}");
        for contrast in contrasts {
            assert!(contrast.ratio >= 4.5, "{name}: {contrast:?}");
        }
        assert_eq!(self.nameless_buttons().await, 0, "{name}");
        for target in self.screen.targets().await {
            let is_main = MAIN
                .iter()
                .any(|main| target.kind.split(' ').any(|kind| kind == *main));
            // WCAG 2.2 asks for 24 of any target.
            let least = if is_main { 48.0 } else { 24.0 };
            let size = target.width.min(target.height);
            assert!(size >= least, "{name}: {target:?}");
        }
    }

    pub(crate) async fn nameless_buttons(&self) -> usize {
        let spoken = self.screen.spoken().await;
        let buttons = spoken.iter().filter(|node| node.role == "button");
        buttons
            .filter(|button| button.name.trim().is_empty())
            .count()
    }

    pub(crate) async fn check_colour(&self, colour: &str) {
        let seen: String = self
            .screen
            .read("getComputedStyle(document.querySelector('#stage')).backgroundColor")
            .await;
        assert_eq!(seen, colour);
    }

    /// A screen reader is told all of this at once.
    pub(crate) async fn check_said(&self, live: &str, words: &[&str]) {
        let spoken = self.screen.spoken().await;
        let regions: Vec<_> = spoken.iter().filter(|node| node.live == live).collect();
        let is_said = |inside: &str| words.iter().all(|word| inside.contains(word));
        assert!(
            regions.iter().any(|node| is_said(&node.inside)),
            "{words:?}: {regions:#?}"
        );
    }
}

pub(crate) fn stage(
    kind: &str,
    title: &str,
    detail: &str,
    figure: (&str, &str),
    name: &str,
) -> Value {
    let (label, amount) = figure;
    json!({
        "kind": kind, "title": title, "detail": detail, "label": label, "amount": amount,
        "name": name,
    })
}

pub(crate) fn waiting(amount: &str) -> Value {
    json!({
        "kind": "waiting", "title": "Hold chippen på læseren", "detail": null,
        "label": "At betale", "amount": amount, "name": null,
    })
}

pub(crate) fn approved(paid: &str, balance: &str, name: &str) -> Value {
    stage(
        "approved",
        "Godkendt",
        &format!("Betalt {paid}"),
        ("Ny saldo", balance),
        name,
    )
}

/// The demo's products as its file has them: categories and products in their order.
pub(crate) fn demo_shelves() -> Value {
    let path = workspace().join("config/demo.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let demo: toml::Table = text.parse().unwrap();
    let mut shelves: Vec<(String, Vec<Value>)> = Vec::new();
    for product in demo["tenant"][0]["canteen"][0]["product"]
        .as_array()
        .unwrap()
    {
        let word = |key| product[key].as_str().unwrap().to_owned();
        let button = json!([word("name"), word("price")]);
        match shelves
            .iter_mut()
            .find(|(category, _)| *category == word("category"))
        {
            Some((_, buttons)) => buttons.push(button),
            None => shelves.push((word("category"), vec![button])),
        }
    }
    json!(shelves)
}

/// The time in Denmark as the page writes it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now()
        .to_zoned(COPENHAGEN)
        .strftime("%H:%M")
        .to_string()
}

/// What a press or a tap does is seen within this time.
pub(crate) const SOON: Duration = Duration::from_secs(5);

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a cashier presses all day, by id or class.
pub(crate) const MAIN: &[&str] = &[
    "product",
    "pay",
    "clear",
    "other",
    "cancel",
    "keypad-add",
    "keypad-close",
];

pub(crate) const SHELVES: &str = "[...document.querySelectorAll('.shelf')].map((shelf) => [
    shelf.querySelector('h2').innerText,
    [...shelf.querySelectorAll('.product')].map((product) => product.innerText.split(/\\n+/))])";

pub(crate) const BASKET: &str = "[...document.querySelectorAll('#lines li:not(.empty)')].map((line) =>
    ['.quantity', '.text', '.amount'].map((part) => line.querySelector(part).textContent).join(' '))";

pub(crate) const TOTAL: &str = "document.querySelector('#total').textContent";

pub(crate) const LINE: &str = "document.querySelector('#line').innerText.trim()";

pub(crate) const KIND: &str = "document.querySelector('#stage').className.replace('stage ', '')";

pub(crate) const LOST: &str = "document.querySelector('#lost').checkVisibility()";

pub(crate) const LATEST: &str = "(() => {
    const sale = document.querySelector('#recent li');
    const parts = [...sale.querySelectorAll('.amount, .what, button')];
    return [sale.className, ...parts.map((part) => part.innerText)].join(' ');
})()";

pub(crate) const STAGE: &str = "(() => {
    const stage = document.querySelector('#stage');
    const text = (part) => stage.querySelector(part)?.textContent ?? null;
    return {
        kind: stage.className.replace('stage ', ''),
        title: text('.title [lang=da]'),
        detail: text('.detail [lang=da]'),
        label: text('.figure .label [lang=da]'),
        amount: text('.figure b'),
        name: text('figcaption'),
    };
})()";

pub(crate) const EVERYTHING: &str = "['#line', '#stage', '#lines', '#recent', '.actions']
    .map((part) => document.querySelector(part).innerText)
    .concat(document.documentElement.lang, document.querySelector('#keypad').open)";

pub(crate) const PHOTO: &str = "(() => {
    const picture = document.querySelector('#stage .person img');
    return picture != null && picture.complete && picture.naturalWidth > 0;
})()";

/// Words that stand in Danish on an English screen, without their English beside them.
pub(crate) const DANISH_ALONE: &str = "[...document.querySelectorAll('[lang=da]')]
    .filter((words) => words !== document.documentElement && words.checkVisibility()
        && !words.dataset.choose && !words.nextElementSibling?.checkVisibility())
    .map((words) => words.textContent)";

/// One of each fault that the tests look for.
pub(crate) const SPOIL: &str = "(() => {
    const script = document.createElement('script');
    script.textContent = 'alert(1)';
    document.body.append(script);
    const bad = document.createElement('div');
    Object.assign(bad.style, { position: 'fixed', top: 0, left: 0, width: '40px', overflow: 'hidden' });
    bad.style.background = '#fff';
    bad.style.zIndex = 9;
    bad.innerHTML = '<b>Kommunekantinen</b> <i>Bleg</i><button></button>';
    bad.querySelector('i').style.color = '#777';
    document.body.append(bad);
})()";
