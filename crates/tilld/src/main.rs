//! The till's daemon: reads chips, decides purchases offline, records them before the light turns
//! green, shows the cashier page and keeps the hub up to date.

mod answer;
mod certificate;
mod chip_enrolment;
mod chip_keys;
mod clock;
mod config;
mod contact;
mod control;
mod day_report;
mod disk;
mod event;
mod follow;
mod http;
mod hub;
mod mark;
mod old_ledgers;
mod page_state;
mod pull;
mod renewal;
mod sale;
mod sibling;
mod sights;
mod standing;
mod state_dir;
mod sync;
mod till;
mod unsent;
mod upload;
mod void;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use sd_notify::NotifyState;
use sync_proto::TillPublicKey;
use till_ledger::{Identity, Ledger, LedgerError, Moment, StartRequest, StoreOptions};
use till_readers::Readers;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use crate::certificate::TillTime;
use crate::chip_keys::KeyCase;
use crate::config::{Config, LogFormat};
use crate::contact::{Alarm, ContactBook};
use crate::control::Control;
use crate::disk::Disk;
use crate::event::Event;
use crate::http::PageServer;
use crate::hub::Hub;
use crate::sights::Sights;
use crate::standing::Standing;
use crate::state_dir::{Enrolment, Renewal, StateDir};
use crate::sync::{Sync, Wake};
use crate::till::{Parts, Till};
use crate::unsent::UnsentSales;

/// The daemon of one canteen till.
#[derive(Parser)]
#[command(version, about, long_about = None)]
struct Arguments {
    /// The settings.
    #[arg(long, value_name = "FILE", default_value = "/etc/kasse/till.toml")]
    config: PathBuf,
    /// Check the settings and end: 0 when they are good, 78 when not.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Print the description of the page's routes (OpenAPI 3.1) and end.
    Openapi,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Openapi) = arguments.command {
        print!("{}", http::openapi());
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("tilld: {error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    if arguments.check {
        if let Err(error) = certificate::check(&config) {
            eprintln!("tilld: {}: {error:#}", arguments.config.display());
            return ExitCode::from(EX_CONFIG);
        }
        println!("{}: ok", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    start_log(&config);
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("tilld cannot run: {error:#}");
            // Whatever is logged, why the till is not there must be said once.
            if !tracing::enabled!(tracing::Level::ERROR) {
                eprintln!("tilld: {error:#}");
            }
            ExitCode::from(EX_SOFTWARE)
        }
    }
}

fn start_log(config: &Config) {
    // Each start would tell of migrations that are not due; the settings may ask for it all the same.
    let filter = format!("refinery_core=warn,{}", config.log_filter);
    let filter = EnvFilter::try_new(filter).unwrap_or_default();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn run(config: &Config) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("TLS was set up twice"))?;
    let state = StateDir::open(&config.state_dir)?;
    let mut life = Life::first();
    loop {
        renewal::put_old_ledger_away(config, &state)?;
        let key = state.key()?;
        let ledger = open_ledger(config, &state, key.public()).context("cannot open the ledger")?;
        let epoch = ledger.identity().epoch;
        renewal::forget_done(&state, epoch)?;
        life.renewal = if life.is_first {
            renewal::wish_of_settings(config, &state, epoch)?
        } else {
            state.renewal()?.filter(|renewal| renewal.from == epoch)
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let ended = runtime.block_on(serve(config, &state, key, ledger, &life));
        runtime.shutdown_timeout(TASKS_END);
        match ended? {
            Ended::Stopped => return Ok(()),
            Ended::Renewed => life = Life::next(None),
            Ended::NotRenewed(why) => life = Life::next(Some(why)),
        }
    }
}

/// One run of the till on one ledger.
struct Life {
    is_first: bool,
    renewal: Option<Renewal>,
    /// Why the ledger could not begin anew.
    failed: Option<String>,
    not_before: tokio::time::Instant,
}

impl Life {
    fn first() -> Life {
        Life {
            is_first: true,
            renewal: None,
            failed: None,
            not_before: tokio::time::Instant::now(),
        }
    }

    fn next(failed: Option<String>) -> Life {
        let wait = if failed.is_some() {
            RENEWAL_WAIT
        } else {
            Duration::ZERO
        };
        Life {
            is_first: false,
            renewal: None,
            failed,
            not_before: tokio::time::Instant::now() + wait,
        }
    }
}

/// How a run of the till ended.
enum Ended {
    /// A signal came.
    Stopped,
    /// The hub knows a new life of the ledger.
    Renewed,
    /// It does not, and why.
    NotRenewed(String),
}

/// The till's ledger; the first start begins its first epoch.
fn open_ledger(
    config: &Config,
    state: &StateDir,
    public_key: TillPublicKey,
) -> anyhow::Result<Ledger> {
    let path = state.ledger();
    let options = StoreOptions {
        rules: config.offline,
        ..Default::default()
    };
    let ledger = match Ledger::open(&path, options) {
        // It is not there, or a first start was cut short before it was one.
        Err(LedgerError::NotFound { .. }) => {
            let identity = Identity {
                till: config.till.clone(),
                epoch: renewal::next_epoch(config, state)?,
                public_key,
            };
            return Ok(Ledger::create(&path, &identity, options)?);
        }
        opened => opened?,
    };
    let Identity {
        till,
        public_key: known_key,
        ..
    } = ledger.identity();
    anyhow::ensure!(
        *till == config.till,
        "{} is the ledger of {till}, and till.id says {}; a till keeps its name",
        path.display(),
        config.till
    );
    anyhow::ensure!(
        *known_key == public_key,
        "{} was begun with another key; restore till.key beside it",
        path.display()
    );
    Ok(ledger)
}

async fn serve(
    config: &Config,
    state: &StateDir,
    key: sync_proto::TillKey,
    ledger: Ledger,
    life: &Life,
) -> anyhow::Result<Ended> {
    // From the first answer on, a signal ends the program in order.
    let mut stop = StopSignals::listen()?;
    let (events, inbox) = mpsc::channel(EVENTS_WAITING);
    let sights = Arc::new(Sights::default());
    let readers = Arc::new(Readers::open(
        config.readers.clone(),
        reader_sink(events.clone(), Arc::clone(&sights)),
    ));
    let keys = KeyCase::open(Arc::clone(&readers), ledger.clone(), state, &key);
    let sync = Arc::new(start_sync(config, state, (key, keys), &ledger, life)?);
    let contact = Arc::clone(&sync.contact);
    if contact.standing() == Standing::Revoked {
        sync.forget_people().await;
    }
    let disk = Arc::new(Disk::open(&config.state_dir, config.ballast_bytes));
    let parts = Parts {
        ledger: ledger.clone(),
        readers: Arc::clone(&readers),
        contact: Arc::clone(&contact),
        sync: Arc::clone(&sync),
        chip_wait: config.chip_wait,
        offline: config.offline,
        unsent: UnsentSales::default(),
        disk: Arc::clone(&disk),
        events: events.clone(),
    };
    let (till, page) = Till::new(parts);
    let start = StartRequest {
        id: Uuid::now_v7(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    if let Err(error) = ledger.start(start, Moment::now()).await {
        warn!(%error, "The start could not be recorded");
    }

    sync.keep_mark();

    let listener = tokio::net::TcpListener::bind(config.page)
        .await
        .with_context(|| {
            format!(
                "cannot serve the cashier page on {}; is another tilld running?",
                config.page
            )
        })?;
    let address = listener.local_addr()?;
    let server = PageServer {
        events: events.clone(),
        state: page,
        ledger: ledger.clone(),
        sync: Arc::clone(&sync),
    };
    let router = http::router(server, address);
    let control_listener = control::listen(&config.control_socket)?;
    let control = Arc::new(Control {
        ledger: ledger.clone(),
        readers: Arc::clone(&readers),
        contact: Arc::clone(&contact),
        sync: Arc::clone(&sync),
        offline: config.offline,
        started_at: Timestamp::now(),
        sights,
        disk: Arc::clone(&disk),
        events: events.clone(),
    });
    let mut till = tokio::spawn(till.run(inbox));
    tokio::spawn(clock::watch_clock(ledger.clone()));
    let disk_events = events.clone();
    tokio::spawn(async move { disk.watch(disk_events).await });
    tokio::spawn(forward_changes(
        events.clone(),
        ledger.clone(),
        contact,
        Arc::clone(&sync),
    ));
    tokio::spawn(Arc::clone(&sync).run_upload());
    tokio::spawn(Arc::clone(&sync).run_feed());
    tokio::spawn(Arc::clone(&sync).run_mark());
    tokio::spawn(Arc::clone(&sync).run_old_ledgers());
    tokio::spawn(Arc::clone(&sync).run_siblings(sibling::client()?));
    if let Some(door) = &config.pull {
        pull::serve(Arc::clone(&sync), door.listen).await?;
    }
    let mut control = tokio::spawn(control.run(control_listener, config.control_socket.clone()));
    let mut page_server = tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::spawn(keep_watchdog(events.clone()));

    info!(till = %config.till, epoch = %ledger.identity().epoch, page = %address, "The till is ready");
    notify(&[NotifyState::Ready, NotifyState::Status("selling")]);
    let ended = tokio::select! {
        () = stop.come() => Ok(Ended::Stopped),
        () = Arc::clone(&sync).ready_to_renew(life.not_before) => Ok(Ended::Renewed),
        _ = &mut till => Err(anyhow::anyhow!("the till's task ended")),
        _ = &mut control => Err(anyhow::anyhow!("the control socket's task ended")),
        served = &mut page_server => Err(anyhow::anyhow!("the page server ended: {served:?}")),
    };
    till.abort();
    page_server.abort();
    control.abort();
    let ended = match ended {
        Ok(Ended::Renewed) => match sync.renew().await {
            Ok(()) => Ok(Ended::Renewed),
            Err(error) => {
                error!("{error:#}");
                Ok(Ended::NotRenewed(error.to_string()))
            }
        },
        other => {
            notify(&[NotifyState::Stopping]);
            info!("The till stops");
            other
        }
    };
    sync.keep_mark();
    renewal::close(&ledger).await;
    let _ = std::fs::remove_file(&config.control_socket);
    ended
}

/// What the conversations with the hub begin with.
fn start_sync(
    config: &Config,
    state: &StateDir,
    (key, keys): (sync_proto::TillKey, KeyCase),
    ledger: &Ledger,
    life: &Life,
) -> anyhow::Result<Sync> {
    let epoch = ledger.identity().epoch;
    let rolled_back = mark::lost_entries(state, ledger)?;
    let kept = state.standing(epoch).unwrap_or_else(|error| {
        warn!(%error, "How the till stood is not known; the hub will say");
        Standing::Good
    });
    let standing = match rolled_back {
        Some(known_through) if kept.is_good() => Standing::RolledBack { known_through },
        Some(_) | None => kept,
    };
    let contact = ContactBook::new(ledger.progress().heard_at, standing);
    contact.alarm(Alarm::NotRenewed, life.failed.clone());
    let enrolment = state.enrolment(&config.till, epoch)?;
    let time = TillTime {
        ledger: ledger.clone(),
        enrolled_at: enrolment.as_ref().and_then(|enrolment| enrolment.at),
    };
    let hub = Hub::new(config, &time)?;
    hub.set_credentials(enrolment.as_ref().and_then(Enrolment::credentials));
    Ok(Sync {
        till: config.till.clone(),
        key,
        keys,
        ledger: ledger.clone(),
        hub,
        contact: Arc::new(contact),
        state: state.clone(),
        enrolment_code: std::sync::RwLock::new(config.enrolment_code.clone()),
        address: config.pull.as_ref().map(|door| door.address.clone()),
        rolled_back,
        renewal: watch::Sender::new(life.renewal.clone()),
        canteen: watch::Sender::new(enrolment.map(|known| known.canteen)),
        wake: Wake::default(),
    })
}

/// Passes readers' events on; a reader waits when the till is busy, and nothing is dropped.
fn reader_sink(events: mpsc::Sender<Event>, sights: Arc<Sights>) -> till_readers::EventSink {
    Arc::new(move |event| {
        sights.note(&event, Instant::now());
        // Nobody to tell means that the program is ending.
        let _ = events.blocking_send(Event::Reader(event));
    })
}

/// Tells the till's task when something that the page shows has changed elsewhere.
async fn forward_changes(
    events: mpsc::Sender<Event>,
    ledger: Ledger,
    contact: Arc<ContactBook>,
    sync: Arc<Sync>,
) {
    let mut head = ledger.watch();
    let mut contact = contact.changes();
    let mut canteen = sync.canteen.subscribe();
    loop {
        let changed = tokio::select! {
            changed = head.changed() => changed,
            changed = contact.changed() => changed,
            changed = canteen.changed() => changed,
        };
        if changed.is_err() || events.send(Event::Changed).await.is_err() {
            return;
        }
    }
}

/// Pets systemd's watchdog as long as the till's task takes events.
async fn keep_watchdog(events: mpsc::Sender<Event>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        tokio::time::sleep(limit / 3).await;
        if events.send(Event::Changed).await.is_err() {
            return;
        }
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "Cannot tell systemd");
    }
}

/// What ends the program in order.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> anyhow::Result<StopSignals> {
        let listen = |kind| signal(kind).context("cannot watch for signals");
        Ok(StopSignals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// How long what is under way may take when a ledger ends.
const TASKS_END: Duration = Duration::from_secs(5);
/// How long a new life waits that could not begin.
const RENEWAL_WAIT: Duration = Duration::from_secs(30);
/// As many events as can wait for the till's task.
const EVENTS_WAITING: usize = 256;
/// `EX_SOFTWARE` of sysexits.h.
const EX_SOFTWARE: u8 = 70;
/// `EX_CONFIG` of sysexits.h.
const EX_CONFIG: u8 = 78;
