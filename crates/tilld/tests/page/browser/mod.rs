//! The cashier's screen: the till's page in the Chromium of Debian, pressed and read as a person
//! presses and reads it, with everything noted that the browser complains of.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use chromiumoxide::cdp::browser_protocol::log::{EventEntryAdded, LogEntryLevel};
use chromiumoxide::cdp::js_protocol::runtime::{
    ConsoleApiCalledType, EventConsoleApiCalled, EventExceptionThrown,
};
use chromiumoxide::types::{Command, Method, MethodId};
use chromiumoxide::{Browser, BrowserConfig, Page};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A screen that shows the page; dropping it ends its browser.
pub(crate) struct Screen {
    browser: Browser,
    page: Page,
    complaints: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
    /// Removed after the browser that writes there.
    _profile: TempDir,
}

/// Text that is not all there to be read.
#[derive(Debug, Deserialize)]
pub(crate) struct CutText {
    /// The text.
    pub(crate) text: String,
    /// What cuts it, and by how much.
    pub(crate) why: String,
}

/// Text as it stands out from what is behind it.
#[derive(Debug, Deserialize)]
pub(crate) struct Contrast {
    /// The text.
    pub(crate) text: String,
    /// By WCAG 2.2: 1 is invisible, 21 is black on white.
    pub(crate) ratio: f64,
}

/// A button and its size on the screen.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    /// Its id and its class.
    pub(crate) kind: String,
    /// CSS pixels.
    pub(crate) width: f64,
    /// CSS pixels.
    pub(crate) height: f64,
}

/// A node of the tree that screen readers are given.
#[derive(Debug)]
pub(crate) struct Spoken {
    /// What it is.
    pub(crate) role: String,
    /// What is said of it.
    pub(crate) name: String,
    /// How it interrupts when it changes: `assertive`, `polite`, or empty.
    pub(crate) live: String,
    /// All that is said inside of it.
    pub(crate) inside: String,
}

impl Screen {
    /// Shows what is at `address`.
    pub(crate) async fn open(address: &str) -> anyhow::Result<Screen> {
        Screen::open_in(Path::new(CHROMIUM), address).await
    }

    /// Shows what is at `address` in the browser at `program`.
    pub(crate) async fn open_in(program: &Path, address: &str) -> anyhow::Result<Screen> {
        anyhow::ensure!(
            program.is_file(),
            "no browser at {}; install the package chromium (apt-get install chromium)",
            program.display()
        );
        let profile = TempDir::new()?;
        let (browser, mut handler) = Browser::launch(settings(program, profile.path())?)
            .await
            .context("start the browser")?;
        let handling = tokio::spawn(async move {
            // A message that the library does not know is not an end.
            while handler.next().await.is_some() {}
        });
        let page = browser.new_page("about:blank").await?;
        let mut screen = Screen {
            browser,
            page,
            complaints: Arc::default(),
            tasks: vec![handling],
            _profile: profile,
        };
        screen.note_complaints().await?;
        screen.resize(1024, 768).await;
        screen.page.goto(address).await.context("load the page")?;
        Ok(screen)
    }

    /// Ends the browser in order.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.browser.close().await?;
        self.browser.wait().await?;
        self.tasks.iter().for_each(JoinHandle::abort);
        Ok(())
    }

    /// What the browser complained of since it was last asked: errors and warnings of its own and
    /// of the page, above all what the content security policy stopped.
    pub(crate) fn complaints(&self) -> Vec<String> {
        std::mem::take(&mut *noted(&self.complaints))
    }

    /// The value of an expression in the page.
    pub(crate) async fn read<T: DeserializeOwned>(&self, expression: &str) -> T {
        let value = self.try_read(expression).await;
        value.unwrap_or_else(|error| panic!("{expression}: {error:#}"))
    }

    async fn try_read<T: DeserializeOwned>(&self, expression: &str) -> anyhow::Result<T> {
        let evaluate = json!({
            "expression": expression,
            "returnByValue": true,
            "awaitPromise": true,
        });
        let answer = self.order("Runtime.evaluate", evaluate).await?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("thrown: {thrown}");
        }
        let value = answer["result"]
            .get("value")
            .cloned()
            .unwrap_or(Value::Null);
        serde_json::from_value(value.clone()).with_context(|| format!("unexpected {value}"))
    }

    /// Waits until an expression has a value, and fails when it takes too long. A page that is
    /// being loaded anew has no values.
    pub(crate) async fn wait_for<T>(&self, expression: &str, expected: T, limit: Duration)
    where
        T: DeserializeOwned + PartialEq + Debug,
    {
        let deadline = Instant::now() + limit;
        loop {
            let seen = self.try_read::<T>(expression).await;
            if seen.as_ref().is_ok_and(|seen| *seen == expected) {
                return;
            }
            if Instant::now() > deadline {
                self.shoot("failed").await;
                panic!("after {limit:?} still {seen:?} and not {expected:?}: {expression}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Presses the button with these words on it, as soon as it can be pressed, in the middle;
    /// `within` is the part of the page that it stands in.
    pub(crate) async fn press(&self, within: &str, words: &str) {
        let (x, y) = self.find_button(within, words).await;
        for (kind, clicks) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 1)] {
            let event = json!({
                "type": kind, "x": x, "y": y, "clickCount": clicks,
                "button": if clicks == 0 { "none" } else { "left" },
            });
            self.order("Input.dispatchMouseEvent", event).await.unwrap();
        }
    }

    async fn find_button(&self, within: &str, words: &str) -> (f64, f64) {
        let find = format!("({FIND_BUTTON})({}, {})", json!(within), json!(words));
        let deadline = Instant::now() + PRESS_TIME;
        loop {
            match self.read(&find).await {
                Found::At { x, y } => return (x, y),
                Found::Not { why } => {
                    assert!(
                        Instant::now() < deadline,
                        "{words} cannot be pressed: {why}"
                    );
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Types keys with this time between them, whatever the machine is busy with: the browser is
    /// given the times along with the keys.
    pub(crate) async fn type_keys(&self, keys: &str, apart: Duration) {
        let mut at = jiff::Timestamp::now().as_duration().unsigned_abs();
        let mut typed = vec![];
        for key in keys.chars() {
            for kind in ["keyDown", "keyUp"] {
                let mut event = key_event(key);
                event["type"] = json!(kind);
                event["timestamp"] = json!(at.as_secs_f64());
                typed.push(self.order("Input.dispatchKeyEvent", event));
                at += apart / 2;
            }
        }
        futures::future::try_join_all(typed).await.unwrap();
    }

    /// Gives the screen another size.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.order("Emulation.setDeviceMetricsOverride", size)
            .await
            .unwrap();
    }

    /// Writes what is on the screen to `target/page-shots/NAME.png`.
    pub(crate) async fn shoot(&self, name: &str) {
        let format = json!({ "format": "png" });
        let answer = self.order("Page.captureScreenshot", format).await.unwrap();
        let picture = answer["data"].as_str().unwrap();
        let picture = base64::engine::general_purpose::STANDARD
            .decode(picture)
            .unwrap();
        let directory = shots();
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{name}.png")), picture).unwrap();
    }

    /// Text that is cut by its box or by the edge of the screen.
    pub(crate) async fn cut_texts(&self) -> Vec<CutText> {
        self.read(&format!("({CUT_TEXTS})()")).await
    }

    /// How all text that can be seen stands out.
    pub(crate) async fn contrasts(&self) -> Vec<Contrast> {
        self.read(&format!("({CONTRASTS})()")).await
    }

    /// The buttons that can be seen, with their sizes.
    pub(crate) async fn targets(&self) -> Vec<Target> {
        self.read(&format!("({TARGETS})()")).await
    }

    /// All that a screen reader is given.
    pub(crate) async fn spoken(&self) -> Vec<Spoken> {
        let answer = self
            .order("Accessibility.getFullAXTree", json!({}))
            .await
            .unwrap();
        let nodes = answer["nodes"].as_array().unwrap();
        let told = nodes.iter().filter(|node| node["ignored"] == false);
        told.map(|node| spoken(node, nodes)).collect()
    }

    async fn note_complaints(&mut self) -> anyhow::Result<()> {
        let mut entries = self.page.event_listener::<EventEntryAdded>().await?;
        let mut calls = self.page.event_listener::<EventConsoleApiCalled>().await?;
        let mut throws = self.page.event_listener::<EventExceptionThrown>().await?;
        self.page.enable_log().await?;
        self.page.enable_runtime().await?;
        let book = Arc::clone(&self.complaints);
        self.tasks.push(tokio::spawn(async move {
            loop {
                let complaint = tokio::select! {
                    Some(event) = entries.next() => entry_complaint(&event),
                    Some(event) = calls.next() => call_complaint(&event),
                    Some(event) = throws.next() => Some(format!("thrown: {:?}", event.exception_details)),
                    else => return,
                };
                noted(&book).extend(complaint);
            }
        }));
        Ok(())
    }

    async fn order(&self, method: &'static str, parameters: Value) -> anyhow::Result<Value> {
        let answer = self.page.execute(Order { method, parameters }).await;
        Ok(answer.with_context(|| format!("{method} failed"))?.result)
    }
}

/// A command of the DevTools protocol, untyped: answers of a browser that is newer than the
/// library must not fail on words that the library does not know.
#[derive(Debug)]
struct Order {
    method: &'static str,
    parameters: Value,
}

impl Serialize for Order {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.parameters.serialize(serializer)
    }
}

impl Method for Order {
    fn identifier(&self) -> MethodId {
        self.method.into()
    }
}

impl Command for Order {
    type Response = Value;
}

/// Where a button is.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Found {
    At { x: f64, y: f64 },
    Not { why: String },
}

fn settings(program: &Path, profile: &Path) -> anyhow::Result<BrowserConfig> {
    let builder = BrowserConfig::builder()
        .chrome_executable(program)
        .user_data_dir(profile)
        .new_headless_mode()
        .window_size(1024, 768)
        .viewport(None)
        .args(["disable-gpu", "disable-quic", "disable-component-update"]);
    // Chromium refuses to sandbox what root starts.
    let builder = if nix::unistd::geteuid().is_root() {
        builder.no_sandbox()
    } else {
        builder
    };
    builder.build().map_err(anyhow::Error::msg)
}

fn noted(book: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn entry_complaint(event: &EventEntryAdded) -> Option<String> {
    let entry = &event.entry;
    let grave = matches!(entry.level, LogEntryLevel::Error | LogEntryLevel::Warning);
    let (source, url) = (
        entry.source.as_ref(),
        entry.url.as_deref().unwrap_or_default(),
    );
    grave.then(|| format!("{source}: {} {url}", entry.text))
}

fn call_complaint(event: &EventConsoleApiCalled) -> Option<String> {
    let grave = [
        ConsoleApiCalledType::Error,
        ConsoleApiCalledType::Warning,
        ConsoleApiCalledType::Assert,
    ];
    grave
        .contains(&event.r#type)
        .then(|| format!("console: {:?}", event.args))
}

fn key_event(key: char) -> Value {
    match key {
        '\n' => {
            json!({ "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13 })
        }
        ' ' => json!({ "key": " ", "code": "Space", "text": " ", "windowsVirtualKeyCode": 32 }),
        _ => json!({ "key": key, "text": key, "windowsVirtualKeyCode": u32::from(key) }),
    }
}

fn spoken(node: &Value, nodes: &[Value]) -> Spoken {
    let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
    let properties = node["properties"].as_array();
    let live = properties
        .into_iter()
        .flatten()
        .find(|property| property["name"] == "live");
    Spoken {
        role: text(&node["role"]),
        name: text(&node["name"]),
        live: live
            .map(|property| text(&property["value"]))
            .unwrap_or_default(),
        inside: inside(node, nodes),
    }
}

fn inside(node: &Value, nodes: &[Value]) -> String {
    if node["role"]["value"] == "StaticText" {
        return node["name"]["value"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    }
    let children = node["childIds"].as_array().into_iter().flatten();
    let children = children.filter_map(|id| nodes.iter().find(|child| child["nodeId"] == *id));
    let texts: Vec<String> = children.map(|child| inside(child, nodes)).collect();
    texts
        .iter()
        .filter(|text| !text.is_empty())
        .cloned()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Beside the other things that are built: the directory of the test programs' directory.
fn shots() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("page-shots")
}

const CHROMIUM: &str = "/usr/bin/chromium";
const PRESS_TIME: Duration = Duration::from_secs(3);
const FIND_BUTTON: &str = include_str!("find_button.js");
const CUT_TEXTS: &str = include_str!("cut_texts.js");
const CONTRASTS: &str = include_str!("contrasts.js");
const TARGETS: &str = include_str!("targets.js");
