//! The program itself: configuration, start, and an orderly end.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use kms_telemetry::collector::Collector;
use rand::Rng;
use serde_json::{Value, json};

use crate::aws::{ACCESS, FakeKms, KEY_ID, REGION};
use crate::support::{Anvil, CHAIN, handle};

/// A manifest whose parties nobody is, for one chain.
fn manifest() -> Value {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/manifest.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let mut manifest = golden[0]["manifest"].clone();
    let mut chain = manifest["chains"][0].clone();
    chain["chainId"] = json!(CHAIN);
    chain["deploymentBlock"] = json!(0);
    manifest["chains"] = json!([chain]);
    for (place, party) in manifest["parties"].as_array_mut().unwrap().iter_mut().enumerate() {
        party["clientUrl"] = json!(format!("https://127.0.0.1:{}", place + 1));
    }
    manifest
}

/// Below the ports that outgoing connections are given, which may have taken any other one when the relayer comes to it.
fn free_port() -> u16 {
    let mut ports = (0..1_000).map(|_| rand::rng().random_range(10_000..32_000));
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

fn configure(dir: &Path, rpc: &str, listen: &str) -> std::path::PathBuf {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["relayer".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("manifest.json"), manifest().to_string()).unwrap();
    let dir_name = dir.display();
    let text = format!(
        "database = \"sqlite://{dir_name}/relayer.db\"\nlisten = \"{listen}\"\nmanifest = \"{dir_name}/manifest.json\"\n\
         [tls]\ncert = \"{dir_name}/cert.pem\"\nkey = \"{dir_name}/key.pem\"\n\
         [[chains]]\nchain_id = {CHAIN}\nrpc = [\"{rpc}\"]\npoll_ms = 50\n[signer]\nenv = \"TEST_KEY\"\n"
    );
    let path = dir.join("relayer.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn relayer(command: &str, config: &Path) -> Command {
    let mut relayer = Command::new(env!("CARGO_BIN_EXE_kms-relayer"));
    relayer.args([command, "--config"]).arg(config);
    relayer.env("TEST_KEY", "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
    relayer
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn check_config_says_what_is_there_and_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path(), "http://127.0.0.1:1", "127.0.0.1:0");
    let good = relayer("check-config", &config).output().unwrap();
    assert!(good.status.success(), "{}", text(&good));
    assert!(text(&good).contains("4 parties, threshold 3, 1 chains, account 0xf39F"), "{}", text(&good));
    for (name, value, part) in [
        ("KMS_RELAYER__COLOUR", "red", "colour"),
        ("KMS_RELAYER__MANIFEST", "/nowhere", "/nowhere"),
        ("KMS_RELAYER__SIGNER__ENV", "NO_SUCH_KEY", "NO_SUCH_KEY is not set"),
        ("KMS_RELAYER__TLS__KEY", "/nowhere", "/nowhere"),
        ("TEST_KEY", "secret words", "TEST_KEY is not a private key"),
    ] {
        let bad = relayer("check-config", &config).env(name, value).output().unwrap();
        assert_eq!(bad.status.code(), Some(1), "{name}");
        assert!(text(&bad).contains(part), "{name}: {}", text(&bad));
        assert!(!text(&bad).contains("secret words"), "a key never reaches the log");
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(config: &Path) -> Self {
        Self::spawn(&mut relayer("run", config))
    }

    fn spawn(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn terminate(mut self) -> ExitStatus {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap()
    }
}

/// Asks until the status is as wanted.
async fn wait_for(url: &str, status: u16) -> Value {
    loop {
        if let Ok(response) = reqwest::get(url).await
            && response.status().as_u16() == status
        {
            return serde_json::from_str(&response.text().await.unwrap()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Nobody is at the other end: it is asked for again and again, and said so.
async fn wait_until_nobody_answers(request: &str) {
    loop {
        let timeline = wait_for(request, 200).await;
        assert_ne!(timeline["stage"], "refused", "{timeline}");
        let unreachable =
            timeline["parties"].as_array().unwrap().iter().filter(|p| p["status"] == "unreachable").count();
        if unreachable == 4 && timeline["waitingFor"].as_str().is_some_and(|w| w.starts_with("0 of 3 answers")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks for a handle, and returns the id of the request.
async fn ask(base: &str) -> String {
    let body = json!({ "ciphertextHandles": [handle(1)], "extraData": "0x00" }).to_string();
    let post = reqwest::Client::new().post(format!("{base}/v2/public-decrypt"));
    let response = post.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 202);
    let queued: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    queued["requestId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn it_starts_takes_work_ends_when_asked_and_goes_on_where_it_was() {
    let anvil = Anvil::start().await;
    anvil.mine(3).await;
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = configure(dir.path(), &anvil.url, &format!("127.0.0.1:{port}"));
    let base = format!("http://127.0.0.1:{port}");

    let running = Running::start(&config);
    wait_for(&format!("{base}/readyz"), 200).await;
    let request = format!("{base}/requests/{}", ask(&base).await);
    wait_until_nobody_answers(&request).await;
    assert!(running.terminate().success(), "an end that was asked for is no failure");

    // The next process knows the request.
    let running = Running::start(&config);
    wait_for(&format!("{base}/readyz"), 200).await;
    assert_eq!(wait_for(&request, 200).await["stage"], "dispatched");
    assert!(running.terminate().success());
}

#[tokio::test]
async fn operators_see_what_is_around_a_real_relayer() {
    let anvil = Anvil::start().await;
    anvil.mine(3).await;
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = configure(dir.path(), &anvil.url, &format!("127.0.0.1:{port}"));
    let text = std::fs::read_to_string(&config).unwrap() + "\n[access]\nconsole = \"open\"\n";
    std::fs::write(&config, text).unwrap();
    let running = Running::start(&config);
    let overview = format!("http://127.0.0.1:{port}/console/api/overview");
    let seen = loop {
        let seen = wait_for(&overview, 200).await;
        if !seen["sight"].is_null() && seen["ready"] == true {
            break seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let chain = &seen["sight"]["chains"][0];
    assert_eq!(chain["endpoints"], json!([{ "endpoint": anvil.url, "active": true, "head": 3, "problem": null }]));
    let account = &chain["account"];
    assert_eq!((account["balance"].as_str(), account["counted"].as_u64()), (Some("10000000000000000000000"), Some(0)));
    assert_eq!((account["low"].as_bool(), account["nextNonce"].is_null()), (Some(false), true));
    // Nobody is at the other end, and that is said first.
    let parties = seen["sight"]["parties"].as_array().unwrap();
    assert!(parties.len() == 4 && parties.iter().all(|p| p["answers"] == "down" && p["problem"].is_string()), "{seen}");
    assert_eq!(seen["attention"][0]["text"], "0 of 4 parties are ready and 3 are needed: requests wait");
    assert!(running.terminate().success());
}

#[test]
fn a_new_key_comes_with_what_belongs_into_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path(), "http://127.0.0.1:1", "127.0.0.1:0");
    let made = Command::new(env!("CARGO_BIN_EXE_kms-relayer")).arg("new-key").output().unwrap();
    let made = text(&made);
    let (key, section) = made.split_once("\n\n").unwrap();
    assert!(key.contains("kms_"), "{made}");
    let section = section.replace('…', "ops");
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &section).unwrap();
    let good = relayer("check-config", &config).output().unwrap();
    assert!(good.status.success() && !text(&good).contains("kms_"), "{}", text(&good));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_key_may_stay_in_aws_and_its_spans_are_sent_before_it_ends() {
    let (anvil, kms, collector) = (Anvil::start().await, FakeKms::start().await, Collector::start().await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = configure(dir.path(), &anvil.url, &format!("127.0.0.1:{port}"));
    let aws = format!("[signer.aws_kms]\nkey_id = \"{KEY_ID}\"\nregion = \"{REGION}\"\nendpoint = \"{}\"\n", kms.url);
    let local = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, local.replace("[signer]\nenv = \"TEST_KEY\"\n", &aws)).unwrap();
    let checked = relayer("check-config", &config).output().unwrap();
    assert!(checked.status.success() && text(&checked).contains("looked up at the start"));
    assert!(kms.calls().is_empty(), "a check connects to nothing");
    let command = |command: &str| {
        let mut command = relayer(command, &config);
        command.env("AWS_ACCESS_KEY_ID", ACCESS.0).env("AWS_SECRET_ACCESS_KEY", ACCESS.1);
        command.env("AWS_SESSION_TOKEN", "session").env("KMS_RELAYER__TRACES__ENDPOINT", &collector.url);
        command
    };
    // The key of another account is found out before anything is done with it.
    // In quotation marks, or TOML takes it for a number.
    let other = "\"0x0000000000000000000000000000000000000001\"";
    let wrong = command("run").env("KMS_RELAYER__SIGNER__AWS_KMS__ADDRESS", other).output().unwrap();
    assert!(!wrong.status.success() && text(&wrong).contains(&format!("it is the key of {}", kms.address)));

    let base = format!("http://127.0.0.1:{port}");
    let running = Running::spawn(&mut command("run"));
    wait_for(&format!("{base}/readyz"), 200).await;
    assert_eq!(kms.calls(), ["TrentService.GetPublicKey"; 2]);
    let request = ask(&base).await;
    wait_until_nobody_answers(&format!("{base}/requests/{request}")).await;
    assert!(running.terminate().success());

    // One trace, whose id is in the request's.
    let named = |name: &str| collector.named(name).into_iter().map(|received| received.span).collect::<Vec<_>>();
    let asked = named("ask party");
    assert!(asked.len() >= 4 && asked.iter().all(|span| hex::encode(&span.trace_id) == request[2..34]), "{asked:?}");
    let parties = named("parties");
    assert!(asked.iter().all(|span| parties.iter().any(|parent| parent.span_id == span.parent_span_id)));
    let asking = named("ask");
    assert!(parties.iter().all(|span| asking.iter().any(|parent| parent.span_id == span.parent_span_id)));
    let work = named("work");
    assert!(asking.iter().all(|span| work.iter().any(|parent| parent.span_id == span.parent_span_id)));
    assert!(work.iter().all(|span| hex::encode(&span.parent_span_id) == request[34..50]), "{work:?}");
}
