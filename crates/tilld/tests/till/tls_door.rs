//! The TLS proxy that stands before a hub, with a certificate whose dates a test chooses.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// A proxy to a hub on this machine; it ends with this value.
pub(crate) struct TlsDoor {
    port: u16,
    authority: CertifiedIssuer<'static, KeyPair>,
    shown: Arc<Mutex<Arc<ServerConfig>>>,
    cut: watch::Sender<u32>,
    _runtime: Runtime,
}

impl TlsDoor {
    /// A door to the hub on a port, with a certificate that counts. What the till shall trust is
    /// written to `ca_file`.
    pub(crate) fn to(hub: u16, ca_file: &Path) -> TlsDoor {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = params(-400, 400);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, key()).unwrap();
        std::fs::write(ca_file, authority.pem()).unwrap();
        let shown = Arc::new(Mutex::new(certificate(&authority, -30, 60)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = watch::Sender::new(0);
        runtime.spawn(serve(listener, hub, Arc::clone(&shown), cut.clone()));
        TlsDoor {
            port,
            authority,
            shown,
            cut,
            _runtime: runtime,
        }
    }

    /// Where the till finds it.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on it shows a certificate that counts between two days, reckoned from today. Open
    /// connections are cut.
    pub(crate) fn show(&self, from: i64, to: i64) {
        let certificate = certificate(&self.authority, from, to);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
        self.cut.send_modify(|times| *times += 1);
    }
}

async fn serve(
    listener: TcpListener,
    hub: u16,
    shown: Arc<Mutex<Arc<ServerConfig>>>,
    cut: watch::Sender<u32>,
) {
    while let Ok((till, _)) = listener.accept().await {
        let shown = Arc::clone(&shown.lock().unwrap_or_else(PoisonError::into_inner));
        let mut cut = cut.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                // A till that takes no such certificate, or a hub that is away, ends it.
                _ = carry(till, hub, shown) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn carry(till: TcpStream, hub: u16, shown: Arc<ServerConfig>) -> std::io::Result<()> {
    let mut till = TlsAcceptor::from(shown).accept(till).await?;
    let mut hub = TcpStream::connect((Ipv4Addr::LOCALHOST, hub)).await?;
    copy_bidirectional(&mut till, &mut hub).await?;
    Ok(())
}

fn certificate(
    authority: &CertifiedIssuer<'static, KeyPair>,
    from: i64,
    to: i64,
) -> Arc<ServerConfig> {
    let key = key();
    let certificate = params(from, to).signed_by(&key, authority).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
    Arc::new(config.unwrap())
}

fn params(from: i64, to: i64) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let day = |days| {
        let day = day(days);
        let month = u8::try_from(day.month()).unwrap();
        rcgen::date_time_ymd(
            i32::from(day.year()),
            month,
            u8::try_from(day.day()).unwrap(),
        )
    };
    params.not_before = day(from);
    params.not_after = day(to);
    params
}

/// So many days from today.
fn day(days: i64) -> Date {
    let then = Timestamp::now() + SignedDuration::from_hours(24 * days);
    then.to_zoned(TimeZone::UTC).date()
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}
