//! Who calls: an address, or the holder of a key that the operator has given out.
//!
//! A key replaces the limits of the address by its own. Keys stand in the configuration as hashes and are compared with all
//! of them in constant time. A wrong key costs the address that tried it one call.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use alloy_primitives::B256;
use axum::Extension;
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::limits::{OneLimit, client_key};
use super::{Api, Failure};
use crate::config::{AccessConfig, ConsoleAccess};

/// Header of a key, if it does not come as `Authorization: Bearer`.
pub(super) const KEY_HEADER: &str = "x-api-key";
/// Longest key that is looked at.
const MAX_KEY: usize = 256;

/// Who may call.
#[derive(Debug, Default)]
pub struct Access {
    keys: Vec<Key>,
    keys_required: bool,
    console: ConsoleAccess,
}

#[derive(Debug)]
struct Key {
    digest: [u8; 32],
    limit: OneLimit,
    open_pulls: u64,
    operator: bool,
}

/// Who makes this call.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Whose jobs and followers are counted together.
    pub(super) client: Vec<u8>,
    /// Most open jobs that it may have asked for.
    pub(super) open_pulls: u64,
    has_key: bool,
    operator: bool,
}

impl Access {
    /// The configured keys.
    #[must_use]
    pub fn new(config: &AccessConfig) -> Self {
        let keys = config.keys.iter().map(|key| Key {
            digest: key.sha256.0,
            limit: OneLimit::new(key.requests_per_second, key.burst),
            open_pulls: key.open_pulls,
            operator: key.operator,
        });
        Self { keys: keys.collect(), keys_required: config.keys_required, console: config.console }
    }

    /// Whether there is a console.
    pub(super) fn has_console(&self) -> bool {
        self.console != ConsoleAccess::Off
    }

    /// The key with this text. Takes as long for every text of the same length.
    fn find(&self, text: &str) -> Option<&Key> {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let mut found = u32::MAX;
        for (position, key) in (0u32..).zip(&self.keys) {
            found.conditional_assign(&position, key.digest.ct_eq(&digest));
        }
        self.keys.get(usize::try_from(found).ok()?)
    }
}

/// The key that a call carries, if it does.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        // Other schemes are between the caller and a proxy.
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get(KEY_HEADER).map(|value| value.to_str().unwrap_or_default().trim()))
}

fn admit(api: &Api, client: IpAddr, headers: &HeaderMap) -> Result<Caller, Failure> {
    let limited = |wait: std::time::Duration, whose| {
        let message = format!("too many calls {whose}");
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Failure { retry_after: Some(wait.as_secs().saturating_add(1)), ..failure }
    };
    let text = presented(headers);
    let key = text.filter(|text| text.len() <= MAX_KEY).and_then(|text| api.access.find(text));
    if let Some(key) = key {
        key.limit.take().map_err(|wait| limited(wait, "with this key"))?;
        // Longer than any address, so never mistaken for one.
        let client = key.digest.iter().take(16).copied().collect();
        return Ok(Caller { client, open_pulls: key.open_pulls, has_key: true, operator: key.operator });
    }
    api.rate.take(client).map_err(|wait| limited(wait, "from this address"))?;
    if text.is_some() {
        return Err(Failure::new(StatusCode::UNAUTHORIZED, "unknown_key", "this key is not known here"));
    }
    let open_pulls = api.open_pulls_per_client;
    Ok(Caller { client: client_key(client), open_pulls, has_key: false, operator: false })
}

/// Learns who calls, and counts the call.
pub(super) async fn limit(
    Shared(api): Shared<Arc<Api>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    match admit(&api, client.ip(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

/// Lets only holders of keys pass, if the operator wants that.
pub(super) async fn keyed(
    Shared(api): Shared<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if api.access.keys_required && !caller.has_key {
        let message = "decryptions are for holders of keys: Authorization: Bearer …, or x-api-key";
        return Failure::new(StatusCode::UNAUTHORIZED, "key_required", message).into_response();
    }
    next.run(request).await
}

/// Lets only operators pass, unless the console is open.
pub(super) async fn operators(
    Shared(api): Shared<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let known = api.access.keys.iter().any(|key| key.operator);
    let failure = match (api.access.console, caller.operator, caller.has_key) {
        (ConsoleAccess::Open, ..) | (_, true, _) => return next.run(request).await,
        (_, false, true) => Failure::new(StatusCode::FORBIDDEN, "operators_only", "this key is not one of an operator"),
        (_, false, false) if known => {
            Failure::new(StatusCode::UNAUTHORIZED, "key_required", "the console wants an operator's key")
        }
        (_, false, false) => {
            let message = "no operator's key is configured: make one with `kms-relayer new-key`";
            Failure::new(StatusCode::FORBIDDEN, "operators_only", message)
        }
    };
    failure.into_response()
}

/// A new key, and the hash by which the configuration knows it.
#[must_use]
pub fn new_key() -> (String, B256) {
    let key = format!("kms_{}", hex::encode(rand::random::<[u8; 32]>()));
    let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    (key, digest.into())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::KeyConfig;

    #[test]
    fn a_key_is_found_by_its_hash_and_by_nothing_else() {
        let made: Vec<_> = (0..3).map(|_| new_key()).collect();
        let config = |(i, (_, sha256)): (usize, &(String, B256))| KeyConfig {
            name: i.to_string(),
            sha256: *sha256,
            requests_per_second: 1.0,
            burst: 1.0,
            open_pulls: i as u64 + 1,
            operator: i == 2,
        };
        let keys = made.iter().enumerate().map(config).collect();
        let access = Access::new(&AccessConfig { keys, ..AccessConfig::default() });
        for (i, (text, _)) in made.iter().enumerate() {
            assert_eq!(access.find(text).map(|key| key.open_pulls), Some(i as u64 + 1));
        }
        for wrong in ["", "kms_", &made[0].1.to_string(), &made[0].0.to_uppercase(), &format!("{} ", made[0].0)] {
            assert!(access.find(wrong).is_none(), "{wrong}");
        }
        assert!(Access::default().find(&made[0].0).is_none());
    }

    #[test]
    fn keys_come_in_two_headers() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))])
        };
        assert_eq!(presented(&headers("authorization", "Bearer abc")), Some("abc"));
        assert_eq!(presented(&headers("authorization", "bearer  abc ")), Some("abc"));
        assert_eq!(presented(&headers("x-api-key", "abc")), Some("abc"));
        assert_eq!(presented(&headers("authorization", "Basic abc")), None);
        assert_eq!(presented(&HeaderMap::new()), None);
        // A key that is none is still an attempt.
        assert_eq!(presented(&headers("x-api-key", "")), Some(""));
    }
}
