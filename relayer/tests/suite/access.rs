//! Keys: what they open, and what they cost.

use kms_relayer::config::{AccessConfig, ConsoleAccess, KeyConfig};
use kms_relayer::http::{Access, new_key};

use crate::api::{Reply, Server, body, server_with};
use crate::support::handle;

/// The key of an operator, that of a customer, and a relayer that knows both.
pub(crate) async fn keyed(burst: f64, change: impl FnOnce(&mut AccessConfig)) -> (Server, String, String) {
    let ((operator, operators), (customer, customers)) = (new_key(), new_key());
    let key = |name: &str, sha256, operator| KeyConfig {
        name: name.to_owned(),
        sha256,
        requests_per_second: 1e-6,
        burst: 100.0,
        open_pulls: 1,
        operator,
    };
    let keys = vec![key("ops", operators, true), key("wallet", customers, false)];
    let mut config = AccessConfig { keys, ..AccessConfig::default() };
    change(&mut config);
    (server_with(burst, |api| api.access = Access::new(&config)).await, operator, customer)
}

impl Server {
    pub(crate) async fn get_with(&self, path: &str, name: &str, value: &str) -> Reply {
        self.reply(reqwest::Client::new().get(format!("{}{path}", self.url)).header(name, value)).await
    }

    async fn post_with(&self, key: &str, n: u8) -> Reply {
        let post = reqwest::Client::new().post(format!("{}/v2/public-decrypt", self.url));
        let post = post.header("content-type", "application/json").header("x-api-key", key);
        self.reply(post.body(body(handle(n), ""))).await
    }
}

#[tokio::test]
async fn a_key_has_limits_of_its_own_and_a_wrong_one_costs_a_call() {
    let (server, _, customer) = keyed(2.0, |_| {}).await;
    let path = format!("/requests/{}", handle(1));
    let bearer = format!("Bearer {customer}");
    for _ in 0..5 {
        assert_eq!(server.get_with(&path, "authorization", &bearer).await.status, 404);
    }
    for _ in 0..2 {
        let wrong = server.get_with(&path, "x-api-key", &customer[1..]).await;
        assert_eq!((wrong.status, wrong.label()), (401, Some("unknown_key")));
    }
    // Whoever guesses is soon one who has called too often; holders of keys are not held up.
    let guess = server.get_with(&path, "x-api-key", "kms_guess").await;
    assert_eq!((guess.status, guess.label()), (429, Some("rate_limited")));
    assert_eq!(server.get(&path).await.status, 429);
    for _ in 5..100 {
        assert_eq!(server.get_with(&path, "x-api-key", &customer).await.status, 404);
    }
    let limited = server.get_with(&path, "x-api-key", &customer).await;
    assert_eq!((limited.status, limited.retry_after), (429, Some(300)), "as long as is ever said");
}

#[tokio::test]
async fn open_jobs_are_counted_by_key_and_by_address_apart() {
    let (server, operator, customer) = keyed(1_000.0, |_| {}).await;
    assert_eq!(server.post_with(&customer, 1).await.status, 202);
    let more = server.post_with(&customer, 2).await;
    assert_eq!((more.status, more.label()), (429, Some("too_many_pulls")));
    assert_eq!(server.post_with(&customer, 1).await.status, 202, "asking again costs nothing");
    assert_eq!(server.post_with(&operator, 2).await.status, 202, "another key is another client");
    let full = server.post(body(handle(3), "")).await;
    assert_eq!((full.status, full.label()), (503, Some("overloaded")), "and all of them together are bounded");
}

#[tokio::test]
async fn decryptions_may_be_for_holders_of_keys_only() {
    let (server, _, customer) = keyed(1_000.0, |config| config.keys_required = true).await;
    let refused = server.post(body(handle(1), "")).await;
    assert_eq!((refused.status, refused.label()), (401, Some("key_required")));
    let queued = server.post_with(&customer, 1).await;
    assert_eq!(queued.status, 202);
    let id = queued.body["requestId"].as_str().unwrap();
    for (path, status) in [
        (format!("/v2/public-decrypt/{id}"), 401),
        (format!("/v2/user-decrypt/{id}"), 401),
        // Where a request stands is public, and so is how this relayer is.
        (format!("/requests/{id}"), 200),
        ("/readyz".to_owned(), 200),
    ] {
        assert_eq!(server.get(&path).await.status, status, "{path}");
    }
    assert_eq!(server.get_with(&format!("/v2/public-decrypt/{id}"), "x-api-key", &customer).await.status, 202);
    let bare = reqwest::get(format!("{}/v2/public-decrypt/{id}", server.url)).await.unwrap();
    assert_eq!(bare.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_page_may_send_its_key() {
    let (server, ..) = keyed(1_000.0, |_| {}).await;
    let url = format!("{}/v2/public-decrypt", server.url);
    let preflight = reqwest::Client::new().request(reqwest::Method::OPTIONS, url);
    let preflight = preflight.header("access-control-request-method", "POST").send().await.unwrap();
    let allowed = preflight.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("authorization") && allowed.contains("x-api-key"), "{allowed}");
}

#[tokio::test]
async fn the_console_is_for_operators() {
    const PATHS: [&str; 3] = ["/console/api/overview", "/console/api/requests", "/console/api/events"];
    let (server, operator, customer) = keyed(1_000.0, |_| {}).await;
    for path in PATHS {
        let nobody = server.get(path).await;
        assert_eq!((nobody.status, nobody.label()), (401, Some("key_required")), "{path}");
        let other = server.get_with(path, "x-api-key", &customer).await;
        assert_eq!((other.status, other.label()), (403, Some("operators_only")), "{path}");
    }
    for path in &PATHS[..2] {
        assert_eq!(server.get_with(path, "x-api-key", &operator).await.status, 200, "{path}");
    }
    // Its files are those of this program; what they show is behind the key.
    let page = reqwest::get(format!("{}/console", server.url)).await.unwrap();
    assert_eq!((page.status().as_u16(), page.url().path()), (200, "/console/"));
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = page.text().await.unwrap();
    let names =
        page.split('"').filter(|part| part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".svg"));
    for name in names.chain(["api.js", "dom.js", "overview.js", "requests.js", "request.js"]) {
        let file = reqwest::get(format!("{}/console/{name}", server.url)).await.unwrap();
        assert_eq!(file.status().as_u16(), 200, "{name}");
        assert_eq!(file.headers()["x-content-type-options"], "nosniff");
    }
    assert_eq!(server.get("/console/other.js").await.status, 404);
}

#[tokio::test]
async fn the_console_is_open_or_away_if_that_is_wanted_and_shut_if_nothing_is_said() {
    let (open, ..) = keyed(1_000.0, |config| config.console = ConsoleAccess::Open).await;
    assert_eq!(open.get("/console/api/overview").await.status, 200);
    let (off, operator, _) = keyed(1_000.0, |config| config.console = ConsoleAccess::Off).await;
    for path in ["/console/api/overview", "/console/", "/console/console.js"] {
        assert_eq!(off.get_with(path, "x-api-key", &operator).await.status, 404, "{path}");
    }
    let shut = server_with(1_000.0, |_| {}).await;
    let reply = shut.get("/console/api/overview").await;
    assert_eq!((reply.status, reply.label()), (403, Some("operators_only")));
    assert!(reply.body["error"]["message"].as_str().unwrap().contains("new-key"));
}
