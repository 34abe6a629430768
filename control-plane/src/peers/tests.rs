//! Certificates that TLS takes, and revisions only for news.

use std::sync::Arc;

use proto::{proxy::peer_name, resource::Resource};
use rcgen::KeyPair;
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{ServerName, UnixTime},
    server::{ParsedCertificate, WebPkiClientVerifier},
};

use super::*;
use crate::{
    clock::ManualClock,
    store::{StoreConfig, changes::changes_since},
};

/// A time at which certificates of today are valid.
const NOW: i64 = 1_800_000_000_000;
const MINUTE: Duration = Duration::from_mins(1);

struct House {
    peers: Peers,
    store: Store,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { database_url: None, data_dir: folder.path().to_owned() };
        let store = Store::open(&config).await.unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let peers = start(&store, &clock).await;
        Self { peers, store, clock, _folder: folder }
    }

    async fn changed(&self, since: u64) -> Vec<String> {
        let mut read = self.store.begin_read().await.unwrap();
        let changes = changes_since(&mut read, since).await.unwrap().unwrap();
        changes.into_iter().map(|it| format!("{}/{}", it.kind, it.name)).collect()
    }

    async fn revision(&self) -> u64 {
        self.store.begin_read().await.unwrap().revision().await.unwrap()
    }
}

async fn start(store: &Store, clock: &Arc<ManualClock>) -> Peers {
    let time: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let fleet = Fleet::new(store.clone(), Arc::clone(&time), MINUTE);
    let sealer = Sealer::new(&proto::Secret::new([3; 32]));
    Peers::start(store.clone(), time, (fleet, &sealer), MINUTE).await.unwrap()
}

fn certified(peers: &Peers, proxy_id: &str) -> Certified {
    let key = KeyPair::generate().unwrap();
    peers.certify(proxy_id, key.public_key_raw()).unwrap()
}

/// Whether a listener that trusts `authority` takes a certificate `seconds` after it was made.
fn is_taken(authority: &Certified, given: &Certified, seconds: u64) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(authority.authority.clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let now = Duration::from_millis(NOW.unsigned_abs()) + Duration::from_secs(seconds);
    verifier.verify_client_cert(&given.certificate, &[], UnixTime::since_unix_epoch(now)).is_ok()
}

#[tokio::test]
async fn a_certificate_is_for_one_proxy_of_one_authority_and_for_its_time() {
    let (house, other) = (House::open().await, House::open().await);
    let (one, foreign) = (certified(&house.peers, "one"), certified(&other.peers, "one"));
    assert!(is_taken(&one, &one, 0));
    assert!(is_taken(&one, &one, 59));
    assert!(!is_taken(&one, &one, 61), "it has expired");
    assert!(!is_taken(&one, &foreign, 0), "another authority made it");
    let parsed = ParsedCertificate::try_from(&one.certificate).unwrap();
    let is_of = |id: &str| {
        let name = ServerName::try_from(peer_name(id)).unwrap();
        rustls::client::verify_server_name(&parsed, &name).is_ok()
    };
    assert!(is_of("one") && !is_of("two"));
    assert_eq!(one.expire_time_ms - one.issue_time_ms, 60_000);
}

#[tokio::test]
async fn every_control_plane_of_a_database_signs_as_the_same_authority() {
    let house = House::open().await;
    let again = start(&house.store, &house.clock).await;
    let (one, two) = (certified(&house.peers, "one"), certified(&again, "two"));
    assert_eq!(one.authority, two.authority);
    assert!(is_taken(&one, &two, 0));
    let key = KeyPair::generate().unwrap();
    for (id, key) in [("", key.public_key_raw()), ("one", &[4; 64][..]), ("one", &[3; 65][..])] {
        assert!(matches!(again.certify(id, key), Err(Error::Invalid(_))), "{id} {key:?}");
    }
}

#[tokio::test]
async fn only_news_of_a_proxy_takes_a_revision() {
    let house = House::open().await;
    let announce = |address: &'static str, host| {
        house.peers.announce(&ProxyCaller::Local, "one", (address, host))
    };
    announce("10.0.0.1:4448", Host::None).await.unwrap();
    assert_eq!(house.changed(0).await, ["proxy/one"]);
    let first = house.revision().await;
    announce("10.0.0.1:4448", Host::None).await.unwrap();
    house.peers.announce(&ProxyCaller::Local, "two", ("", Host::Stdio)).await.unwrap();
    house.peers.announce(&ProxyCaller::Local, "two", ("no port", Host::Stdio)).await.unwrap();
    assert_eq!(house.revision().await, first);
    announce("10.0.0.1:4448", Host::Stdio).await.unwrap();
    assert_eq!(house.revision().await, first + 1);
    announce("", Host::Stdio).await.unwrap();
    assert_eq!(house.revision().await, first + 2);
    let mut read = house.store.begin_read().await.unwrap();
    assert!(peers::resources(read.connection()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_revoked_proxy_is_forgotten_and_an_unknown_one_is_not_found() {
    let house = House::open().await;
    let admin = Caller::local_admin("ada");
    let one = ProxyCaller::Enrolled { proxy_id: "one".to_owned() };
    let mut write = house.store.begin_write().await.unwrap();
    join_tokens::put_credential(write.connection(), "one", &[1; 32], NOW).await.unwrap();
    write.commit().await.unwrap();
    let announce = || house.peers.announce(&one, "one", ("10.0.0.1:4448", Host::None));
    announce().await.unwrap();
    assert!(house.peers.is_trusted(&one).await.unwrap());
    let revision = house.peers.revoke(&admin, "one").await.unwrap();
    assert_eq!(house.changed(revision - 1).await, ["proxy/one"]);
    // A stream that it has open does not bring it back.
    assert!(!house.peers.is_trusted(&one).await.unwrap());
    assert!(matches!(announce().await, Err(Error::NotFound { kind: "proxy", .. })));
    assert_eq!(house.revision().await, revision);
    let again = house.peers.revoke(&admin, "one").await;
    assert!(matches!(again, Err(Error::NotFound { kind: "proxy", .. })));
}

#[tokio::test]
async fn an_ended_session_is_told_once_and_forgotten_when_its_id_expires() {
    let house = House::open().await;
    let ended = |byte, expire_time_ms| EndedSession { id: [byte; 16], expire_time_ms };
    let session = ended(1, NOW + 1000);
    let expired = ended(2, NOW);
    let absurd = ended(3, i64::MAX);
    house.peers.end_sessions(&[session, expired, absurd]).await.unwrap();
    assert_eq!(house.changed(0).await, ["ended_sessions/0"]);
    let revision = house.revision().await;
    house.peers.end_sessions(&[session]).await.unwrap();
    house.peers.upkeep().await.unwrap();
    assert_eq!(house.revision().await, revision, "no news");
    house.clock.advance_ms(1000);
    house.peers.upkeep().await.unwrap();
    assert_eq!(house.revision().await, revision + 1);
    let mut read = house.store.begin_read().await.unwrap();
    assert!(ended_sessions::resources(read.connection()).await.unwrap().is_empty());
}

#[tokio::test]
async fn ended_sessions_are_told_in_batches() {
    let house = House::open().await;
    let ended = |number: u16| {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        EndedSession { id, expire_time_ms: NOW + 1000 + i64::from(number) }
    };
    for number in 0..100 {
        house.peers.end_sessions(&[ended(number)]).await.unwrap();
    }
    let many: Vec<_> = (90..300).map(ended).collect();
    house.peers.end_sessions(&many).await.unwrap();
    let names = ["ended_sessions/0", "ended_sessions/1", "ended_sessions/2"];
    assert_eq!(house.changed(0).await, names);
    let mut read = house.store.begin_read().await.unwrap();
    let told = ended_sessions::resources(read.connection()).await.unwrap();
    let told = told.iter().map(|resource| match resource {
        Resource::EndedSessions(ended) => ended.sessions.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), [128, 128, 44]);
    drop(read);
    house.clock.advance_ms(1000 + 130);
    let revision = house.revision().await;
    house.peers.upkeep().await.unwrap();
    assert_eq!(house.changed(revision).await, ["ended_sessions/0"]);
}
