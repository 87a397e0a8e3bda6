//! A card gateway in the shape of Nexi Checkout: a real HTTP server that takes no money.
//!
//! It keeps charges, refuses identical ones within ten minutes as real gateways do, and plays the
//! faults that cost money when they are read wrongly: an answer that is lost after the card was
//! charged, a request that never arrives, a 500 on top of a successful charge.
//!
//! # The gateway's own calls
//!
//! | call | does |
//! |---|---|
//! | `POST /v1/unscheduledsubscriptions/{agreement}/charges` | charges; `Idempotency-Key` is the reference |
//! | `GET /v1/unscheduledsubscriptions/{agreement}/charges/status` | what became of that `Idempotency-Key` |
//! | `GET /v1/unscheduledsubscriptions/{agreement}` | the agreement |
//! | `GET /v1/payments/{payment}` | a payment with its sums |
//! | `POST /v1/charges/{charge}/refunds` | refunds |
//!
//! All of them want an `Authorization` header; with a secret set, that very one. Where the real
//! gateway's reference is silent, the simulator does this: the status of a declined charge is the
//! same 402 as the charge was answered with, and an unknown key is 404.
//!
//! # The control surface
//!
//! | call | does |
//! |---|---|
//! | `GET /` | a page with all of this |
//! | `GET /simulator/agreements` | lists agreements and their scripts |
//! | `PUT /simulator/agreements/{agreement}` | makes one; again changes nothing |
//! | `DELETE /simulator/agreements/{agreement}` | ends it |
//! | `POST /simulator/agreements/{agreement}/outcomes` | `{"outcome": "no_funds"}` with optional `times`, `delay_seconds`, `answer_delay_seconds`, `retry_after_seconds` ([`Script`]); or a list of them |
//! | `DELETE /simulator/agreements/{agreement}/outcomes` | forgets the script |
//! | `GET /simulator/charges`, `GET /simulator/refunds` | what reached the gateway, oldest first |
//! | `GET /simulator/settlement` | the settlement file, as `POST /v1/settlements` of a hub takes it |
//! | `POST /simulator/charges/{reference}/complete` | decides a pending or suspended charge: paid |
//! | `GET`, `POST /simulator/clock` | `{"advance_seconds": 600}` moves the clock ahead |
//! | `GET`, `PUT /simulator/settings` | [`Settings`]: the window, duplicate handling, an outage |

use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, warn};

use crate::identity::{AttemptReference, CardAgreement};

mod books;
mod control_calls;
mod gateway_calls;
mod page;

use books::Books;
pub use books::{
    ChargeRecord, ChargeResult, DeclineCode, DuplicateHandling, Outage, RefundRecord, Script,
    ScriptedOutcome, Settings,
};

/// A running simulator; it stops when it is dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    url: String,
    desk: Desk,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// How a simulator starts.
#[derive(Clone, Default)]
pub struct Opening {
    /// Where charges are kept, so that a simulator that is killed forgets none.
    pub state_file: Option<PathBuf>,
    /// The only `Authorization` that is let in; without it any that is not empty.
    pub secret: Option<String>,
    /// Agreements that exist from the start.
    pub agreements: Vec<CardAgreement>,
}

impl Simulator {
    /// Starts on an address with nothing known; port 0 picks a free one.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        Self::open(address, Opening::default()).await
    }

    /// Starts on an address.
    pub async fn open(address: SocketAddr, opening: Opening) -> io::Result<Self> {
        let desk = Desk::open(opening)?;
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let router = gateway_calls::guarded(&desk)
            .merge(control_calls::routes())
            .merge(page::routes())
            .with_state(desk.clone());
        let task = tokio::spawn(serve(listener, router, stopped));
        Ok(Self {
            address,
            url: format!("http://{address}"),
            desk,
            stop,
            task,
        })
    }

    /// The address to give to a gateway adapter.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes an agreement; again changes nothing.
    pub fn create_agreement(&self, agreement: &CardAgreement) -> io::Result<()> {
        self.desk.change(|books, _| {
            books.agreements.entry(agreement.to_string()).or_default();
        })
    }

    /// Ends an agreement.
    pub fn end_agreement(&self, agreement: &CardAgreement) -> io::Result<()> {
        self.desk.change(|books, _| {
            books.agreements.remove(agreement.as_str());
        })
    }

    /// Scripts what happens to the next new charges on an agreement, after what is scripted already.
    pub fn script(&self, agreement: &CardAgreement, script: Script) -> io::Result<()> {
        self.desk.change(|books, _| {
            let scripts = books.agreements.entry(agreement.to_string()).or_default();
            scripts.push_back(script);
        })
    }

    /// Sets the window, the handling of duplicates and outages.
    pub fn set(&self, settings: Settings) -> io::Result<()> {
        self.desk.change(|books, _| books.settings = settings)
    }

    /// Moves the clock ahead.
    pub fn advance(&self, seconds: u32) -> io::Result<()> {
        self.desk.change(|books, _| books.advance(seconds))
    }

    /// Decides a pending or suspended charge as paid; whether there was one.
    pub fn complete(&self, reference: &AttemptReference) -> io::Result<bool> {
        self.desk
            .change(|books, _| books.complete(reference.as_str()).is_ok())
    }

    /// Every charge that reached the gateway, oldest first.
    pub fn charges(&self) -> Vec<ChargeRecord> {
        self.desk.books().charges.clone()
    }

    /// Every refund, oldest first.
    pub fn refunds(&self) -> Vec<RefundRecord> {
        self.desk.books().refunds.clone()
    }

    /// Stops listening and cuts every connection, as a crash would; what was changed is kept in the
    /// state file, if there is one.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // An error here is a task that was aborted with its runtime, which is stopped all the same.
        if let Err(error) = self.task.await {
            debug!(%error, "Simulator's task ended early");
        }
    }
}

/// The books, shared by all calls.
#[derive(Debug, Clone)]
struct Desk {
    books: Arc<Mutex<Books>>,
    state_file: Option<Arc<Path>>,
    secret: Option<Secret>,
}

/// Kept out of `Debug`, since people paste those.
#[derive(Clone)]
struct Secret(Arc<str>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening")
            .field("state_file", &self.state_file)
            .field("agreements", &self.agreements)
            .finish_non_exhaustive()
    }
}

impl Desk {
    fn open(opening: Opening) -> io::Result<Self> {
        let mut books = match &opening.state_file {
            Some(path) => read_books(path)?,
            None => Books::default(),
        };
        for agreement in &opening.agreements {
            books.agreements.entry(agreement.to_string()).or_default();
        }
        let desk = Self {
            books: Arc::new(Mutex::new(books)),
            state_file: opening.state_file.map(Arc::from),
            secret: opening.secret.map(|secret| Secret(secret.into())),
        };
        // A state file that cannot be written is found now and not at the first charge.
        desk.change(|_, _| ())?;
        Ok(desk)
    }

    /// A panic in the middle of a change is a bug of this program; the records themselves are whole.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the books and keeps the change before anybody is told of it.
    fn change<T>(&self, change: impl FnOnce(&mut Books, i64) -> T) -> io::Result<T> {
        let mut books = self.books();
        let now = books.now();
        let result = change(&mut books, now);
        if let Some(path) = &self.state_file {
            write_books(path, &books)?;
        }
        Ok(result)
    }
}

impl Books {
    /// The simulator's time in seconds since 1970.
    fn now(&self) -> i64 {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since_1970.map_or(0, |since| since.as_secs());
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        seconds.saturating_add(self.clock_ahead_seconds)
    }

    fn advance(&mut self, seconds: u32) {
        self.clock_ahead_seconds = self.clock_ahead_seconds.saturating_add(i64::from(seconds));
    }
}

/// Put on an answer that is never to be sent: the connection is closed instead.
#[derive(Debug, Clone, Copy)]
struct HangUp;

/// Why a connection ended without an answer.
#[derive(Debug, thiserror::Error)]
#[error("hung up as scripted")]
struct HungUp;

async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    // Dropping the set cuts every connection in it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, router.clone()));
                }
                Err(error) => {
                    warn!(%error, "Cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = stopped.changed() => return,
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |request| {
        let answer = hyper::service::Service::call(&router, request);
        async move { sent_or_hung_up(answer.await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "Connection ended");
    }
}

/// The HTTP server closes a connection without a word when its service fails, which is exactly
/// what a lost answer looks like from outside.
fn sent_or_hung_up(answer: Result<Response, Infallible>) -> Result<Response, HungUp> {
    match answer {
        Ok(response) if response.extensions().get::<HangUp>().is_some() => Err(HungUp),
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

fn read_books(path: &Path) -> io::Result<Books> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Books::default()),
        Err(error) => Err(error),
    }
}

/// Written beside and renamed over, so that a kill leaves the old books or the new ones.
fn write_books(path: &Path, books: &Books) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(books)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
