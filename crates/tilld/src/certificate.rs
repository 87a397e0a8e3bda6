//! The hub's certificate, checked also by a till whose clock cannot be believed.
//!
//! A certificate counts from one date to another, and a till whose coin cell is empty does not know
//! today's. It must reach its hub all the same, or it would never learn the time. So when nothing but
//! the dates is in the way, they are compared with what the till knows without its clock:
//!
//! - the hub's own word since the machine was booted, as exactly as any clock;
//! - else the last moment that was believed, before which it cannot be. The chain must be valid at
//!   that moment or begin to be so later. Only conversations in which every answer is signed by the
//!   hub's key, known since the enrolment, may go by this; the first contact may not.
//!
//! Names, signatures, issuers and all else are checked as ever.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use till_ledger::{KnownTime, Ledger, Moment};
use tracing::warn;

use crate::config::Config;

/// What the till knows of the time.
#[derive(Clone)]
pub(crate) struct TillTime {
    /// Knows the last moment that was believed, and the hub's word.
    pub(crate) ledger: Ledger,
    /// When the till was enrolled; a ledger that has just begun knows of nothing earlier.
    pub(crate) enrolled_at: Option<Timestamp>,
}

impl TillTime {
    fn known(&self, now: Moment) -> KnownTime {
        let known = self.ledger.progress().time.known(now);
        let Some(least) = self.enrolled_at else {
            return known;
        };
        match known {
            KnownTime::Told(_) => known,
            KnownTime::Shown(time) if time >= least => known,
            KnownTime::Shown(time) | KnownTime::NotBefore(time) => {
                KnownTime::NotBefore(time.max(least))
            }
        }
    }
}

/// What vouches for the hub in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vouching {
    /// Its certificate alone: the first contact.
    Certificate,
    /// Its signature under every answer, too.
    Signature,
}

/// How the till speaks TLS in one kind of conversation. `ca_file` holds the certificates to trust
/// instead of the system's own.
pub(crate) fn tls(
    ca_file: Option<&Path>,
    time: TillTime,
    vouching: Vouching,
) -> anyhow::Result<ClientConfig> {
    let provider = CryptoProvider::get_default().context("TLS is not set up")?;
    let chain =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca_file)?), provider.clone())
            .build()
            .context("no certificate can be checked")?;
    let verifier = HubCertificate {
        chain,
        time,
        vouching,
    };
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A session that goes on where an earlier one ended would not show its certificate again.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether the hub's certificate could be checked by what the settings name.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    if config.hub_url.starts_with("https:") {
        roots(config.ca_file.as_deref())?;
    }
    Ok(())
}

fn roots(ca_file: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        anyhow::ensure!(
            !roots.is_empty(),
            "the system trusts no certificates at all; install ca-certificates"
        );
        return Ok(roots);
    };
    let unusable = || format!("cannot use hub.ca_file {}", path.display());
    for certificate in CertificateDer::pem_file_iter(path).with_context(unusable)? {
        roots
            .add(certificate.with_context(unusable)?)
            .with_context(unusable)?;
    }
    anyhow::ensure!(
        !roots.is_empty(),
        "hub.ca_file {} holds no certificate (PEM)",
        path.display()
    );
    Ok(roots)
}

/// Checks what the hub shows.
#[derive(Debug)]
struct HubCertificate {
    chain: Arc<WebPkiServerVerifier>,
    time: TillTime,
    vouching: Vouching,
}

impl ServerCertVerifier for HubCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let check = |time| {
            self.chain.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                time,
            )
        };
        let failed = match check(now) {
            Err(error) if CertificateDates::of(&error).is_some() => error,
            other => return other,
        };
        match self.time.known(Moment::now()) {
            KnownTime::Told(time) => check(unix_time(time)),
            KnownTime::NotBefore(bound) if self.vouching == Vouching::Signature => {
                // Each certificate of the chain may begin later than the one before it.
                let verified = valid_from(bound, intermediates.len() + 1, check)?;
                warn!(%bound, "Took the hub's certificate by the last time that was believed");
                Ok(verified)
            }
            KnownTime::NotBefore(_) | KnownTime::Shown(_) => Err(failed),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl std::fmt::Debug for TillTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TillTime")
            .field("enrolled_at", &self.enrolled_at)
            .finish_non_exhaustive()
    }
}

/// Checks at the earliest moment from a bound on at which no certificate of a chain is still to
/// begin.
fn valid_from<T>(
    bound: Timestamp,
    certificates: usize,
    check: impl Fn(UnixTime) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut checked = check(unix_time(bound));
    for _ in 0..certificates {
        match checked {
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => checked = check(not_before),
            other => return other,
        }
    }
    checked
}

/// The dates of a certificate that does not count at the time it was checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificateDates {
    /// It does not count yet.
    Begins {
        /// The time that it was checked by.
        checked: Timestamp,
        /// Its first moment.
        begins: Timestamp,
    },
    /// It counts no longer.
    Ended {
        /// The time that it was checked by.
        checked: Timestamp,
        /// Its last moment.
        ended: Timestamp,
    },
}

impl CertificateDates {
    /// The dates that are in the way, if it is dates.
    pub(crate) fn of(error: &Error) -> Option<CertificateDates> {
        let Error::InvalidCertificate(error) = error else {
            return None;
        };
        match error {
            CertificateError::NotValidYetContext { time, not_before } => {
                Some(CertificateDates::Begins {
                    checked: timestamp(*time),
                    begins: timestamp(*not_before),
                })
            }
            CertificateError::ExpiredContext { time, not_after } => Some(CertificateDates::Ended {
                checked: timestamp(*time),
                ended: timestamp(*not_after),
            }),
            _ => None,
        }
    }
}

impl std::fmt::Display for CertificateDates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CertificateDates::Begins { checked, begins } => {
                write!(f, "it begins at {begins}, and it is {checked} here")
            }
            CertificateDates::Ended { checked, ended } => {
                write!(f, "it ended at {ended}, and it is {checked} here")
            }
        }
    }
}

fn unix_time(time: Timestamp) -> UnixTime {
    let seconds = u64::try_from(time.as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn timestamp(time: UnixTime) -> Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};
    use sync_proto::{Epoch, SnapshotHeader, TillKey};
    use tempfile::TempDir;
    use till_ledger::{Identity, StartRequest, StoreOptions};
    use uuid::Uuid;

    use super::*;

    /// A certificate authority that a till trusts, with an authority under it that signs for hubs.
    struct Authority {
        signing: CertifiedIssuer<'static, KeyPair>,
        dir: TempDir,
    }

    /// From one date to another.
    type Dates = [(i32, u8, u8); 2];

    const LONG: Dates = [(1990, 1, 1), (2090, 1, 1)];

    fn authority(signing: Dates) -> Authority {
        let issuer = |dates| {
            let mut params = params(&[], dates);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let root = CertifiedIssuer::self_signed(issuer(LONG), key()).unwrap();
        let signing = CertifiedIssuer::signed_by(issuer(signing), key(), &root).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), root.pem()).unwrap();
        Authority { signing, dir }
    }

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    fn params(names: &[&str], [from, to]: Dates) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        params
    }

    impl Authority {
        fn ca_file(&self) -> PathBuf {
            self.dir.path().join("ca.pem")
        }

        /// A hub whose certificate is for this name, and counts between two dates.
        fn hub(&self, name: &str, dates: Dates) -> Arc<ServerConfig> {
            let key = key();
            let certificate = params(&[name], dates)
                .signed_by(&key, &self.signing)
                .unwrap();
            let chain = vec![certificate.der().clone(), self.signing.der().clone()];
            let config = ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap());
            Arc::new(config.unwrap())
        }
    }

    /// A till that wrote its last entry at a time, before its machine was booted.
    struct Till {
        ledger: Ledger,
        dir: TempDir,
    }

    async fn till(last: &str) -> Till {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            till: "kasse-1".parse().unwrap(),
            epoch: Epoch(1),
            public_key: TillKey::from_seed(&[1; 32]).public(),
        };
        let path = dir.path().join("ledger.db");
        let ledger = Ledger::create(&path, &identity, StoreOptions::default()).unwrap();
        let start = StartRequest {
            id: Uuid::now_v7(),
            version: "0".into(),
        };
        let last: Timestamp = last.parse().unwrap();
        let at = Moment {
            utc_ms: last.as_millisecond(),
            boot_ms: 0,
            boot: Uuid::from_u128(7),
        };
        ledger.start(start, at).await.unwrap();
        Till { ledger, dir }
    }

    impl Till {
        fn client(&self, authority: &Authority, vouching: Vouching) -> ClientConfig {
            let time = TillTime {
                ledger: self.ledger.clone(),
                enrolled_at: None,
            };
            tls(Some(&authority.ca_file()), time, vouching).unwrap()
        }

        /// The hub tells the time in a snapshot, as it does in every page.
        async fn hear(&self, hub_time: Timestamp) {
            let header = SnapshotHeader {
                hub_epoch: 1,
                as_of: 0,
                hub_time: hub_time.to_string(),
            };
            let now = Moment::now();
            self.ledger
                .apply_snapshot(header, Vec::new(), now)
                .await
                .unwrap();
        }
    }

    /// A real handshake, with wires of memory.
    fn shake_hands(till: ClientConfig, hub: Arc<ServerConfig>) -> Result<(), Error> {
        let name = ServerName::try_from("hub.invalid").unwrap();
        let mut till = ClientConnection::new(Arc::new(till), name).unwrap();
        let mut hub = ServerConnection::new(hub).unwrap();
        while till.is_handshaking() || hub.is_handshaking() {
            let mut wire = Vec::new();
            while till.wants_write() {
                till.write_tls(&mut wire).unwrap();
            }
            let mut wire: &[u8] = &wire;
            while hub.read_tls(&mut wire).unwrap() > 0 {}
            // What the hub makes of a till that gives up is not asked.
            let _ = hub.process_new_packets();
            let mut wire = Vec::new();
            while hub.wants_write() {
                hub.write_tls(&mut wire).unwrap();
            }
            let mut wire: &[u8] = &wire;
            while read(&mut till, &mut wire)? > 0 {}
        }
        Ok(())
    }

    fn read(till: &mut ClientConnection, wire: &mut &[u8]) -> Result<usize, Error> {
        let read = till.read_tls(wire as &mut dyn io::Read).unwrap();
        till.process_new_packets()?;
        Ok(read)
    }

    /// A till that last believed its clock at a time meets a hub whose certificate counts between
    /// two dates.
    #[track_caller]
    fn check(till: &Till, vouching: Vouching, dates: Dates, taken: bool) {
        let authority = authority(LONG);
        let hub = authority.hub("hub.invalid", dates);
        let shaken = shake_hands(till.client(&authority, vouching), hub);
        match shaken {
            Ok(()) => assert!(taken, "{dates:?} was taken"),
            Err(error) => {
                assert!(!taken, "{dates:?}: {error}");
                assert!(CertificateDates::of(&error).is_some(), "{error}");
            }
        }
    }

    // The machine's own clock cannot be set by a test, so the world is: a till that has been in
    // 2041 takes today for a clock that went back, as at an empty coin cell; one that was last on in
    // 2001 takes it for a clock that jumped ahead.
    const FUTURE: &str = "2041-06-01T12:00:00Z";
    const PAST: &str = "2001-06-01T12:00:00Z";

    #[tokio::test]
    async fn sy_38_time_05_a_clock_that_is_not_believed_keeps_no_till_from_its_hub() {
        let set_back = till(FUTURE).await;
        // As it was when the till was last on, or renewed since.
        check(
            &set_back,
            Vouching::Signature,
            [(2041, 1, 1), (2042, 1, 1)],
            true,
        );
        check(
            &set_back,
            Vouching::Signature,
            [(2043, 1, 1), (2044, 1, 1)],
            true,
        );
        // It had ended when the till last knew the time.
        check(
            &set_back,
            Vouching::Signature,
            [(2040, 1, 1), (2041, 1, 1)],
            false,
        );
        let ahead = till(PAST).await;
        check(
            &ahead,
            Vouching::Signature,
            [(2001, 1, 1), (2002, 1, 1)],
            true,
        );
        check(
            &ahead,
            Vouching::Signature,
            [(2000, 1, 1), (2001, 1, 1)],
            false,
        );
    }

    #[tokio::test]
    async fn the_first_contact_goes_by_the_clock_alone() {
        let set_back = till(FUTURE).await;
        check(
            &set_back,
            Vouching::Certificate,
            [(2041, 1, 1), (2042, 1, 1)],
            false,
        );
        check(&set_back, Vouching::Certificate, LONG, true);
    }

    #[tokio::test]
    async fn a_clock_that_is_believed_is_gone_by() {
        let right = till(&Timestamp::now().to_string()).await;
        check(&right, Vouching::Signature, LONG, true);
        check(
            &right,
            Vouching::Signature,
            [(2001, 1, 1), (2002, 1, 1)],
            false,
        );
        check(
            &right,
            Vouching::Signature,
            [(2081, 1, 1), (2082, 1, 1)],
            false,
        );
    }

    #[tokio::test]
    async fn the_hubs_word_counts_like_a_clock() {
        let told = till(FUTURE).await;
        told.hear("2051-06-01T12:00:00Z".parse().unwrap()).await;
        for vouching in [Vouching::Signature, Vouching::Certificate] {
            check(&told, vouching, [(2051, 1, 1), (2052, 1, 1)], true);
            check(&told, vouching, [(2041, 1, 1), (2042, 1, 1)], false);
            check(&told, vouching, [(2053, 1, 1), (2054, 1, 1)], false);
        }
    }

    #[tokio::test]
    async fn a_ledger_that_has_just_begun_knows_nothing_earlier_than_the_enrolment() {
        let fresh = till("1970-01-01T00:00:00Z").await;
        let time = |enrolled_at: &str| TillTime {
            ledger: fresh.ledger.clone(),
            enrolled_at: Some(enrolled_at.parse().unwrap()),
        };
        let long_ago = Moment {
            utc_ms: 60_000,
            boot_ms: 60_000,
            boot: Uuid::from_u128(7),
        };
        let known = time(FUTURE).known(long_ago);
        assert_eq!(known, KnownTime::NotBefore(FUTURE.parse().unwrap()));
        let authority = authority(LONG);
        let client = |enrolled_at| {
            let ca_file = authority.ca_file();
            tls(Some(&ca_file), time(enrolled_at), Vouching::Signature).unwrap()
        };
        let dates = [(2041, 1, 1), (2042, 1, 1)];
        let hub = || authority.hub("hub.invalid", dates);
        assert_eq!(shake_hands(client(FUTURE), hub()), Ok(()));
        let ended = shake_hands(client("2042-06-01T12:00:00Z"), hub()).unwrap_err();
        assert!(matches!(
            CertificateDates::of(&ended),
            Some(CertificateDates::Ended { .. })
        ));
    }

    #[tokio::test]
    async fn every_certificate_of_the_chain_may_have_been_renewed() {
        let set_back = till(FUTURE).await;
        let authority = authority([(2042, 1, 1), (2060, 1, 1)]);
        for (dates, taken) in [
            ([(2043, 1, 1), (2044, 1, 1)], true),
            ([(2041, 1, 1), (2043, 1, 1)], true),
            // It ends before the one above it begins.
            ([(2041, 1, 1), (2041, 12, 1)], false),
        ] {
            let client = set_back.client(&authority, Vouching::Signature);
            let shaken = shake_hands(client, authority.hub("hub.invalid", dates));
            assert_eq!(shaken.is_ok(), taken, "{dates:?}: {shaken:?}");
        }
    }

    #[tokio::test]
    async fn all_but_dates_is_checked_as_ever() {
        let set_back = till(FUTURE).await;
        let ours = authority(LONG);
        let dates = [(2041, 1, 1), (2042, 1, 1)];
        let client = || set_back.client(&ours, Vouching::Signature);
        let foreign = authority(LONG).hub("hub.invalid", dates);
        let error = shake_hands(client(), foreign).unwrap_err();
        assert_eq!(CertificateDates::of(&error), None, "{error}");
        let other_name = ours.hub("other.invalid", dates);
        let error = shake_hands(client(), other_name).unwrap_err();
        assert!(error.to_string().contains("name"), "{error}");
    }

    #[tokio::test]
    async fn a_file_of_certificates_that_holds_none_is_told_of() {
        let till = till(PAST).await;
        let path = till.dir.path().join("ca.pem");
        for text in ["", "nothing of the kind"] {
            std::fs::write(&path, text).unwrap();
            let error = roots(Some(&path)).unwrap_err();
            assert!(
                error.to_string().contains("holds no certificate"),
                "{error}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        let error = roots(Some(&path)).unwrap_err();
        assert!(
            error.to_string().contains("cannot use hub.ca_file"),
            "{error}"
        );
    }
}
