//! Ciphertext fetches from real stores.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use alloy_primitives::B256;
use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use kms_chain::handle::{COMPUTED_INDEX, Handle};
use kms_encoding::{FheType, ParamsId, Plaintext, SecretKeyKind, Word};
use kms_fhe::object::{self, MAX_BYTES};
use kms_fhe::{EvalKeys, bundle, crs, keygen};
use kms_node::ciphertexts::Ciphertexts;
use kms_node::config::ObjectStoreConfig;
use kms_node::error::CiphertextError;
use kms_node::guard::HandleGrant;
use kms_node::metrics::Metrics;

const PARAMS: ParamsId = ParamsId::InsecureTest;

/// Objects under one test key.
struct Objects {
    key_id: B256,
    /// A squashed uint8.
    integer: (Handle, Vec<u8>),
    /// A boolean and a uint16 in one compressed list.
    list: ([Handle; 2], Vec<u8>),
}

fn handle(n: u8, ty: FheType) -> Handle {
    Handle::new([n; 21], COMPUTED_INDEX, 31337, ty)
}

/// Made once; the CRS, which takes seconds and is not needed here but belongs to a bundle, stays in cargo's folder.
fn objects() -> &'static Objects {
    static OBJECTS: OnceLock<Objects> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = tmp.join(format!("bundle-{}", std::process::id()));
        let (public, _) = keygen::generate(PARAMS, true);
        let crs = crs::load_or_make_insecure(PARAMS, Some(tmp)).unwrap();
        let key_id = bundle::write(&folder, &public, &crs, [7; 32]).unwrap().key_id();
        let eval = EvalKeys::load_with_lists(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let squash =
            |ty, value: u128| eval.squash(&eval.trivial(Plaintext::truncated(ty, Word::from(value))).unwrap()).unwrap();
        let handles = [handle(1, FheType::Uint8), handle(2, FheType::Bool), handle(3, FheType::Uint16)];
        let byte = squash(FheType::Uint8, 200);
        let integer = object::encode_integer(PARAMS, &key_id, &handles[0].raw().0, &byte).unwrap();
        let (boolean, word) = (squash(FheType::Bool, 1), squash(FheType::Uint16, 999));
        let values = [(handles[1].raw().0, &boolean), (handles[2].raw().0, &word)];
        let list = object::encode_list(&eval, &key_id, &values).unwrap();
        Objects { key_id: key_id.into(), integer: (handles[0], integer), list: ([handles[1], handles[2]], list) }
    })
}

fn digest(bytes: &[u8]) -> B256 {
    object::digest(bytes).into()
}

fn grant(handle: Handle, bytes: &[u8]) -> HandleGrant {
    HandleGrant { handle, key_id: objects().key_id, digest: digest(bytes) }
}

/// A folder as object store.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ct")).unwrap();
        Self(dir)
    }

    fn url(&self) -> String {
        format!("file://{}", self.0.path().display())
    }

    fn path(&self, digest: B256) -> PathBuf {
        self.0.path().join("ct").join(alloy_primitives::hex::encode(digest))
    }

    fn put(&self, digest: B256, bytes: &[u8]) {
        std::fs::write(self.path(digest), bytes).unwrap();
    }
}

fn ciphertexts(urls: &[String]) -> Ciphertexts {
    let stores: Vec<_> = urls.iter().map(|url| ObjectStoreConfig { url: url.clone() }).collect();
    Ciphertexts::new(&stores, Arc::new(Metrics::new().unwrap())).unwrap()
}

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn a_committed_object_gives_the_blocks_of_its_handle() {
    let (handle, bytes) = &objects().integer;
    let folder = Folder::new();
    folder.put(digest(bytes), bytes);
    let store = ciphertexts(&[folder.url()]);
    let blocks = store.fetch(&grant(*handle, bytes), PARAMS).await.unwrap();
    assert_eq!((blocks.len(), blocks.first(), blocks.key()), (2, 0, SecretKeyKind::Squashing));
    // It is kept for the next question.
    std::fs::remove_file(folder.path(digest(bytes))).unwrap();
    assert_eq!(*store.fetch(&grant(*handle, bytes), PARAMS).await.unwrap(), *blocks);
}

#[tokio::test]
async fn handles_of_a_list_have_their_positions_in_it() {
    let ([boolean, word], bytes) = &objects().list;
    let folder = Folder::new();
    folder.put(digest(bytes), bytes);
    let store = ciphertexts(&[folder.url()]);
    let first = store.fetch(&grant(*boolean, bytes), PARAMS).await.unwrap();
    let second = store.fetch(&grant(*word, bytes), PARAMS).await.unwrap();
    assert_eq!((first.first(), first.len(), second.first(), second.len()), (0, 1, 1, 4));
    assert_eq!(second.key(), SecretKeyKind::SquashedCompression);
}

#[tokio::test]
async fn bytes_that_do_not_hash_to_the_digest_are_not_parsed() {
    let (handle, bytes) = &objects().integer;
    let (bad, good) = (Folder::new(), Folder::new());
    let mut flipped = bytes.clone();
    flipped[100] ^= 1;
    bad.put(digest(bytes), &flipped);
    let grant = grant(*handle, bytes);
    for spoiled in [&flipped[..], &bytes[..bytes.len() - 1], b""] {
        bad.put(grant.digest, spoiled);
        let error = ciphertexts(&[bad.url()]).fetch(&grant, PARAMS).await.unwrap_err();
        assert!(matches!(error, CiphertextError::Unavailable { .. }), "{error}");
        assert!(!error.is_final());
    }
    // Another store may have them.
    good.put(grant.digest, bytes);
    ciphertexts(&[bad.url(), good.url()]).fetch(&grant, PARAMS).await.unwrap();
}

#[tokio::test]
async fn an_oversized_object_is_not_read() {
    let (handle, _) = objects().integer;
    let folder = Folder::new();
    let huge = vec![0; MAX_BYTES + 1];
    let grant = grant(handle, &huge);
    folder.put(grant.digest, &huge);
    let error = ciphertexts(&[folder.url()]).fetch(&grant, PARAMS).await.unwrap_err();
    assert!(matches!(&error, CiphertextError::Unavailable { problem, .. } if problem.contains("larger")), "{error}");
}

#[tokio::test]
async fn a_missing_object_may_come() {
    let (handle, bytes) = &objects().integer;
    let folder = Folder::new();
    let grant = grant(*handle, bytes);
    let gone = "file:///nonexistent/kms".to_owned();
    let store = ciphertexts(&[gone, folder.url()]);
    let error = store.fetch(&grant, PARAMS).await.unwrap_err();
    assert!(matches!(error, CiphertextError::Missing { .. }), "{error}");
    folder.put(grant.digest, bytes);
    store.fetch(&grant, PARAMS).await.unwrap();
}

#[tokio::test]
async fn committed_bytes_that_are_no_good_object_are_refused_for_good() {
    let (handle, bytes) = &objects().integer;
    let folder = Folder::new();
    let mut version = bytes.clone();
    version[4] = 2;
    let mut params = bytes.clone();
    params[6] = 1;
    for committed in [&b"no object"[..], &version, &params, &bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat()] {
        let grant = grant(*handle, committed);
        folder.put(grant.digest, committed);
        let error = ciphertexts(&[folder.url()]).fetch(&grant, PARAMS).await.unwrap_err();
        assert!(matches!(error, CiphertextError::Malformed { .. }) && error.is_final(), "{error}");
    }
}

#[tokio::test]
async fn an_object_of_another_key_or_handle_is_refused_for_good() {
    let (own, bytes) = &objects().integer;
    let folder = Folder::new();
    folder.put(digest(bytes), bytes);
    let store = ciphertexts(&[folder.url()]);
    // Also when the object is in the cache under its own key.
    store.fetch(&grant(*own, bytes), PARAMS).await.unwrap();
    let other_key = HandleGrant { key_id: B256::ZERO, ..grant(*own, bytes) };
    let error = store.fetch(&other_key, PARAMS).await.unwrap_err();
    assert!(matches!(error, CiphertextError::Malformed { .. }), "{error}");
    let other_handle = grant(handle(9, FheType::Uint8), bytes);
    let error = store.fetch(&other_handle, PARAMS).await.unwrap_err();
    assert!(matches!(error, CiphertextError::Mismatch { .. }) && error.is_final(), "{error}");
    let error = ciphertexts(&[folder.url()]).fetch(&grant(*own, bytes), ParamsId::Production).await.unwrap_err();
    assert!(matches!(error, CiphertextError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn an_http_store_serves_and_its_absence_is_no_verdict() {
    let (handle, bytes) = &objects().integer;
    let path = format!("/base/ct/{}", alloy_primitives::hex::encode(digest(bytes)));
    let url = serve(Router::new().route(&path, get(async || bytes.clone()))).await;
    let fetch = async |base: &str| ciphertexts(&[format!("{url}{base}")]).fetch(&grant(*handle, bytes), PARAMS).await;
    fetch("/base").await.unwrap();
    fetch("/base/").await.unwrap();
    assert!(matches!(fetch("/other").await, Err(CiphertextError::Missing { .. })));
    let nobody = ciphertexts(&["http://127.0.0.1:1".into()]).fetch(&grant(*handle, bytes), PARAMS).await;
    assert!(matches!(nobody, Err(CiphertextError::Unavailable { .. })));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (handle, bytes) = &objects().integer;
    let path = format!("/ct/{}", alloy_primitives::hex::encode(digest(bytes)));
    let target = serve(Router::new().route(&path, get(async || bytes.clone()))).await;
    let to = format!("{target}{path}");
    let url = serve(Router::new().route(&path, get(async move || Redirect::temporary(&to)))).await;
    let error = ciphertexts(&[url]).fetch(&grant(*handle, bytes), PARAMS).await.unwrap_err();
    assert!(matches!(error, CiphertextError::Unavailable { .. }), "{error}");
}
