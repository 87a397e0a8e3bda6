//! The central server's program.

use std::future::Future;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};
use hub_ledger::HubLedger;
use hub_payments::{NexiConfig, NexiGateway, PaymentGateway};
use hubd::books::Books;
use hubd::config::Config;
use hubd::courier::{Courier, Receiver};
use hubd::exposure::watch_exposure;
use hubd::hub_key::open_key;
use hubd::marker::Marker;
use hubd::server::{Hub, serve};
use hubd::worker::Worker;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// The canteen's central server.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file; without it the defaults are used.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Check the configuration and end.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add the tenants, canteens, tills, products and accounts of a file; what is there already
    /// stays as it is.
    Load {
        /// The file, for example config/demo.toml.
        file: PathBuf,
    },
    /// Begin a new life of a database that was put back from a backup. Stop the hub first. Without
    /// --yes it tells what it would do.
    Restore {
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
    /// Print the description of the API (OpenAPI 3.1).
    Openapi,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hubd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(Command::Openapi) = arguments.command {
        println!("{}", hubd::open_api().to_pretty_json()?);
        return Ok(());
    }
    let path = arguments.config.as_deref().unwrap_or(Path::new("hub.toml"));
    let config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if arguments.check {
        return check(&config, path);
    }
    start_log(&config)?;
    match &arguments.command {
        Some(Command::Load { file }) => load(&config, file),
        Some(Command::Restore { yes }) => restore(&config, *yes),
        Some(Command::Openapi) | None => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the asynchronous runtime")?
            .block_on(serve_hub(&config, path)),
    }
}

fn check(config: &Config, path: &Path) -> anyhow::Result<()> {
    config.operators(path)?;
    install_tls()?;
    open_gateway(config)?;
    open_receiver(config)?;
    println!("{}: ok", path.display());
    Ok(())
}

fn load(config: &Config, file: &Path) -> anyhow::Result<()> {
    let fresh_epoch = getrandom::u64().context("the system gives no random numbers")?;
    let mut ledger = HubLedger::open(&config.hub.database, fresh_epoch, config.top_up_rules())?;
    let loaded = hubd::load::load(&mut ledger, file, Timestamp::now())?;
    ledger.bound_offline_sales(config.offline.bounds(), &config.offline.exceptions())?;
    ledger.set_block_grace(config.offline.block_grace())?;
    println!(
        "added {} tills, {} products and {} accounts",
        loaded.tills, loaded.products, loaded.accounts
    );
    Ok(())
}

/// What a person must know before a restored database goes to work.
const RESTORE: &str = "\
This begins a new life of the database. Do it after the database was put back from a backup, and only \
then.
- Tills send again what the database has lost, and keep the ceilings that they have.
- Until every till of a canteen has reported, nothing more is given to its tills, and money that they \
may be spending is not taken out. GET /v1/restore tells which tills are missing.
- No card is charged until the gateway's list of charges since the backup was taken in \
(POST /v1/top-ups/import, then /v1/top-ups/resume).
- Deposits and corrections since the backup are not here; book them again.";

fn restore(config: &Config, yes: bool) -> anyhow::Result<()> {
    let database = &config.hub.database;
    anyhow::ensure!(
        database.exists(),
        "there is no database {}",
        database.display()
    );
    let marker = Marker::of(database);
    let _held = marker.hold()?;
    println!("{}\n{RESTORE}", database.display());
    anyhow::ensure!(yes, "nothing was changed; run it again with --yes to do it");
    let fresh = getrandom::u64().context("the system gives no random numbers")?;
    let mut ledger = HubLedger::open(database, fresh, config.top_up_rules())?;
    let life = ledger.begin_new_life(fresh, Timestamp::now())?;
    marker.write(life)?;
    println!("The new life of the database is {}.", life.hub_epoch);
    Ok(())
}

async fn serve_hub(config: &Config, path: &Path) -> anyhow::Result<()> {
    install_tls()?;
    let operators = config.operators(path)?;
    if operators.is_empty() {
        warn!("No operator is configured: only tills are served");
    }
    let gateway = open_gateway(config)?;
    let receiver = open_receiver(config)?;
    let mut rules = config.top_up_rules();
    if let Some(gateway) = &gateway {
        rules.not_found_believed = gateway.capabilities().remembers_for;
    }
    let marker = Marker::of(&config.hub.database);
    let _held = marker.hold()?;
    let (books, writer_stopped) = Books::open(&config.hub.database, rules)?;
    let life = books.read(|books| books.life()).await?;
    marker.check(life)?;
    let life = books.write(|books| books.renew_lease()).await?;
    marker.write(life)?;
    let key = open_key(&config.hub.database)?;
    let public_key = key.public();
    let (bounds, exceptions) = (config.offline.bounds(), config.offline.exceptions());
    let block_grace = config.offline.block_grace();
    books
        .write(move |books| books.bound_offline_sales(bounds, &exceptions))
        .await?;
    let alarm = config.offline.exposure_alarm;
    books
        .write(move |books| books.set_block_grace(block_grace))
        .await?;
    books
        .write(|books| books.post_debits(Timestamp::now()))
        .await?;
    let listener = TcpListener::bind(config.hub.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.hub.listen))?;
    let address = listener.local_addr()?;
    let (stop, stopping) = watch::channel(false);
    let keeper = tokio::spawn(marker.keep(books.clone(), stopping.clone()));
    let worker = gateway.map(|gateway| {
        let worker = Worker::new(books.clone(), gateway, Arc::new(Timestamp::now));
        tokio::spawn(worker.run(stopping.clone()))
    });
    if worker.is_none() {
        warn!("No card gateway is configured: automatic top-ups wait");
    }
    let courier = match receiver {
        Some(receiver) => {
            let courier = Courier::new(books.clone(), receiver, Arc::new(Timestamp::now))?;
            Some(tokio::spawn(courier.run(stopping.clone())))
        }
        None => {
            warn!("No receiver of notices is configured: they stand on the list and are not sent");
            None
        }
    };
    let signals = stop_signal(writer_stopped)?;
    let hub = Hub::new(books, operators, key, stopping.clone())?;
    let exposure = tokio::spawn(watch_exposure(hub.books(), alarm, stopping.clone()));
    let puller = config.pull.silence().map(|silence| {
        let puller = hub.puller();
        tokio::spawn(puller.run(silence, stopping))
    });
    info!(address = %address, key = %public_key, "Ready");
    notify(sd_notify::NotifyState::Ready);
    let stop_all = async move {
        let ended = signals.await;
        notify(sd_notify::NotifyState::Stopping);
        // Nobody listens any more when the server and the worker have ended already.
        let _ = stop.send(true);
        ended
    };
    let (ended_sender, ended) = oneshot::channel();
    let stop_server = async move {
        let _ = ended_sender.send(stop_all.await);
    };
    serve(listener, hub, stop_server)
        .await
        .context("the server failed")?;
    keeper.await.context("the marker's keeper failed")?;
    if let Some(worker) = worker {
        worker.await.context("the top-up worker failed")?;
    }
    if let Some(courier) = courier {
        courier.await.context("what delivers notices failed")?;
    }
    exposure.await.context("what watches the exposure failed")?;
    if let Some(puller) = puller {
        puller
            .await
            .context("what fetches entries from tills failed")?;
    }
    match ended.await {
        Ok(End::WriterGone) => anyhow::bail!("the database's writer stopped; start the hub again"),
        Ok(End::Asked) | Err(_) => Ok(()),
    }
}

/// Why the program ends.
enum End {
    /// It was asked to.
    Asked,
    /// Nothing can be written any more.
    WriterGone,
}

fn stop_signal(
    writer_stopped: oneshot::Receiver<()>,
) -> anyhow::Result<impl Future<Output = End> + Send> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => End::Asked,
            _ = interrupt.recv() => End::Asked,
            _ = writer_stopped => {
                error!("The database's writer stopped");
                End::WriterGone
            }
        }
    })
}

fn open_gateway(config: &Config) -> anyhow::Result<Option<Arc<dyn PaymentGateway>>> {
    let gateway = &config.gateway;
    if gateway.url.is_empty() {
        return Ok(None);
    }
    let opened = NexiGateway::open(&NexiConfig::new(&gateway.url, &gateway.secret_file))?;
    let window = opened.capabilities().duplicate_window;
    if config.top_up_rules().spacing <= window {
        warn!("top_up.spacing is not longer than the gateway's window for identical transactions");
    }
    Ok(Some(Arc::new(opened)))
}

fn open_receiver(config: &Config) -> anyhow::Result<Option<Receiver>> {
    let notices = &config.notices;
    if notices.url.is_empty() {
        return Ok(None);
    }
    Ok(Some(Receiver::open(&notices.url, &notices.secret_file)?))
}

fn install_tls() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS implementation is installed already"))
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.hub.log).context("hub.log is no log filter")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

/// Without systemd there is nobody to tell, which is fine.
fn notify(state: sd_notify::NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}
