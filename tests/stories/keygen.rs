//! Keys that nobody dealt.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use alloy::primitives::U256;
use anyhow::{Context, Result, ensure};
use kms_algebra::{Codec, GrVec, PartyId};
use kms_chain::FheType;
use kms_encoding::share::ShareFile;
use kms_node::sealed::{self, Vault};
use kms_tests::{
    cluster::{Cluster, Key, Options},
    keygen::{self, Keygen, new_run},
    probe::Probe,
    remains::{self, Pattern},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than a restart takes on a busy machine.
const RESTARTS: u64 = 40;
/// Nobody is as slow as that when nobody is killed.
const ABSENT: u64 = 12;

/// A deployment of its own, without a key and without services.
async fn deployment(patience: u64, party_args: Vec<(usize, Vec<String>)>) -> Result<(tempfile::TempDir, Cluster)> {
    let home = tempfile::Builder::new().prefix("kms-keygen-").tempdir()?;
    let options = Options {
        services: false,
        key: Key::None,
        patience: Some(patience),
        party_args,
        ..Options::insecure_test(home.path())
    };
    Ok((home, Cluster::start(options, &|_| {}).await?))
}

/// All these parties come to the end with the same key, and can use it.
async fn all_have_one_key(cluster: &Cluster, run: &str, parties: &[u64]) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let views = keygen::ask(cluster, "status", run)?;
        let views: Vec<&Value> =
            views.iter().filter(|view| parties.iter().any(|party| view["party"] == *party)).collect();
        let same = views.iter().all(|view| {
            let finished = view["state"] == "KEY_GEN_STATE_FINISHED" && view["usable"] == true;
            finished && view["keyId"] == views[0]["keyId"]
        });
        if same && views.len() == parties.len() {
            return Ok(views[0]["keyId"].clone());
        }
        ensure!(Instant::now() < deadline, "no common key: {views:#?}\n{}", cluster.log_tails(15));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Nothing is left of a run but the key: no folder, and of all pseudorandom keys only those of the epoch can be opened.
async fn all_else_is_erased(cluster: &Cluster, party: usize, epochs: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let runs = fs::read_dir(cluster.path(&format!("party-{party}/keygen"))).map_or(0, Iterator::count);
        let mut keys = 0;
        for entry in fs::read_dir(cluster.path(&format!("party-{party}/sealed")))? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            keys += usize::from(name.starts_with("prss-") && name.ends_with(".key"));
        }
        if (runs, keys) == (0, epochs) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "party {party} still has {runs} runs and {keys} pseudorandom keys");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

pub(crate) async fn the_parties_made_the_key_and_it_decrypts(cluster: &mut Cluster) -> Result<()> {
    ensure!(!cluster.path("dealer").exists(), "somebody dealt");
    let run = keygen::last_run(cluster)?;
    all_have_one_key(cluster, &run, &[1, 2, 3, 4]).await?;
    for party in 1..=4 {
        all_else_is_erased(cluster, party, 1).await?;
        // All public files are equal, byte by byte: the description names their digests.
        let own = fs::read_dir(cluster.path(&format!("party-{party}/public")))?.next().context("a key")??.path();
        let same = fs::read(own.join("key.json"))? == fs::read(cluster.path("keygen/public/key.json"))?;
        ensure!(same, "party {party} has another key");
    }
    let mut probe = Probe::deploy(cluster).await?;
    let value = U256::from(4711);
    let handles = probe.make(cluster, &[value], FheType::Uint32).await?;
    let asked = probe.ask(cluster, &handles, 1).await?;
    ensure!(probe.wait_for_answer(cluster, asked.id, PATIENCE).await? == [value], "wrong value");
    Ok(())
}

pub(crate) async fn killed_parties_go_on_and_all_come_to_the_same_key(_: &mut Cluster) -> Result<()> {
    let (_home, mut cluster) = deployment(RESTARTS, Vec::new()).await?;
    let run = new_run();
    let tool = Keygen::start(&cluster.options, &run, &[])?;
    // One, two at once, all: each time somewhere in the middle.
    for (percent, victims) in [(5, vec![2]), (30, vec![0, 3]), (55, vec![0, 1, 2, 3]), (80, vec![1])] {
        keygen::reached(&cluster, 1, &run, percent, PATIENCE).await?;
        for victim in &victims {
            cluster.parties[*victim].kill();
        }
        for victim in &victims {
            cluster.parties[*victim].restart()?;
        }
    }
    let finished = tool.finished().await?;
    let key = all_have_one_key(&cluster, &run, &[1, 2, 3, 4]).await?;
    ensure!(finished["keyId"] == key, "{finished}");
    ensure!(finished["wrong"] == json!([]), "an honest party was named: {finished}");
    for party in 1..=4 {
        all_else_is_erased(&cluster, party, 1).await?;
    }
    Ok(())
}

pub(crate) async fn an_aborted_run_never_starts_again_and_a_new_one_does(_: &mut Cluster) -> Result<()> {
    let (_home, mut cluster) = deployment(RESTARTS, Vec::new()).await?;
    let (first, second) = (new_run(), new_run());
    let tool = Keygen::start(&cluster.options, &first, &[])?;
    keygen::reached(&cluster, 1, &first, 20, PATIENCE).await?;
    // Two are left: they can't finish.
    cluster.parties[2].kill();
    cluster.parties[3].kill();
    drop(tool);
    let other = Keygen::start(&cluster.options, &second, &[])?.finished().await;
    let refusal = other.err().context("two runs were open at once")?.to_string();
    ensure!(refusal.contains("one at a time"), "{refusal}");
    let partly = keygen::ask(&cluster, "abort", &first).err().context("parties that are down were aborted")?;
    ensure!(partly.to_string().contains("not ended at parties 3, 4"), "{partly}");
    // They are back, and on their own; the operator repeats the call.
    cluster.parties[2].restart()?;
    cluster.parties[3].restart()?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = keygen::ask(&cluster, "abort", &first) {
        ensure!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for view in keygen::ask(&cluster, "status", &first)? {
        let ended = view["state"] == "KEY_GEN_STATE_ABORTED" || view["state"] == "KEY_GEN_STATE_FAILED";
        ensure!(ended, "{view}");
    }
    for party in 1..=4 {
        all_else_is_erased(&cluster, party, 0).await?;
    }
    // Also not after a restart.
    cluster.parties[0].kill();
    cluster.parties[0].restart()?;
    let again = Keygen::start(&cluster.options, &first, &[])?.finished().await;
    let refusal = again.err().context("an aborted run was started again")?.to_string();
    ensure!(refusal.contains("ended without a key"), "{refusal}");
    Keygen::start(&cluster.options, &second, &[])?.finished().await?;
    all_have_one_key(&cluster, &second, &[1, 2, 3, 4]).await?;
    let aborted = keygen::ask(&cluster, "abort", &second);
    ensure!(aborted.is_err(), "a key was aborted: {aborted:?}");
    Ok(())
}

pub(crate) async fn a_party_that_is_gone_for_good_is_not_missed(_: &mut Cluster) -> Result<()> {
    let (_home, mut cluster) = deployment(ABSENT, Vec::new()).await?;
    let run = new_run();
    let tool = Keygen::start(&cluster.options, &run, &[])?;
    keygen::reached(&cluster, 1, &run, 20, PATIENCE).await?;
    cluster.parties[3].kill();
    let finished = tool.finished().await?;
    ensure!(finished["late"] == json!([4]) && finished["wrong"] == json!([]), "{finished}");
    all_have_one_key(&cluster, &run, &[1, 2, 3]).await.map(drop)
}

pub(crate) async fn a_full_disk_makes_a_party_wait_and_costs_nothing(_: &mut Cluster) -> Result<()> {
    let (_home, cluster) = deployment(RESTARTS, Vec::new()).await?;
    let run = new_run();
    // Where party 2 writes the largest part of the key there is never any room.
    let folder = cluster.path(&format!("party-2/keygen/{}", run.trim_start_matches("0x")));
    fs::create_dir_all(&folder)?;
    let full = folder.join("bodies-3");
    std::os::unix::fs::symlink("/dev/full", &full)?;
    let tool = Keygen::start(&cluster.options, &run, &[])?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let views = keygen::ask(&cluster, "status", &run)?;
        let problem = views.get(1).and_then(|view| view["problem"].as_str()).unwrap_or_default();
        if problem.contains("No space left on device") {
            break;
        }
        ensure!(Instant::now() < deadline, "party 2 does not say that its disk is full: {views:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    fs::remove_file(&full)?;
    let finished = tool.finished().await?;
    ensure!(finished["wrong"] == json!([]), "{finished}");
    all_have_one_key(&cluster, &run, &[1, 2, 3, 4]).await.map(drop)
}

pub(crate) async fn a_liar_is_named_and_the_key_is_right(_: &mut Cluster) -> Result<()> {
    let home = tempfile::Builder::new().prefix("kms-keygen-").tempdir()?;
    let lie = ["--insecure-misbehave", "wrong-in-keygen"].map(str::to_owned).to_vec();
    let options =
        Options { patience: Some(RESTARTS), party_args: vec![(2, lie)], ..Options::insecure_test(home.path()) };
    let cluster = Cluster::start(options, &|_| {}).await?;
    let run = keygen::last_run(&cluster)?;
    all_have_one_key(&cluster, &run, &[1, 3, 4]).await?;
    for view in keygen::ask(&cluster, "status", &run)? {
        let honest = view["party"] != 2;
        ensure!(!honest || view["wrong"] == json!([2]), "{view}");
    }
    let mut probe = Probe::deploy(&cluster).await?;
    let value = U256::from(815);
    let handles = probe.make(&cluster, &[value], FheType::Uint32).await?;
    let asked = probe.ask(&cluster, &handles, 1).await?;
    ensure!(probe.wait_for_answer(&cluster, asked.id, PATIENCE).await? == [value], "wrong value");
    Ok(())
}

pub(crate) async fn two_signed_frames_are_proved_to_anybody(_: &mut Cluster) -> Result<()> {
    let lie = ["--insecure-misbehave", "two-frames-in-keygen"].map(str::to_owned).to_vec();
    let (_home, cluster) = deployment(ABSENT, vec![(2, lie)]).await?;
    let run = new_run();
    let finished = Keygen::start(&cluster.options, &run, &[])?.finished().await?;
    all_have_one_key(&cluster, &run, &[1, 3, 4]).await?;
    ensure!(finished["wrong"] == json!([2]), "{finished}");
    let manifest = cluster.path("manifest.json").display().to_string();
    let check = |file: &Path| {
        let file = file.display().to_string();
        cluster.kms(&["--json", "keygen", "check-proof", "--manifest", &manifest, &file])
    };
    let mut proofs = 0;
    // Only who got both frames can show them.
    let folders = [1, 3, 4].map(|party| cluster.path(&format!("party-{party}/evidence")));
    for folder in folders.iter().filter(|folder| folder.exists()) {
        for file in remains::files(folder)? {
            let proved: Value = serde_json::from_str(&check(&file)?)?;
            let right = json!({ "party": 2, "runId": run, "proved": "it signed two different frames" });
            ensure!(proved == right, "{}: {proved}", file.display());
            // Neither about somebody else, nor about anything else.
            let mut forged = fs::read(&file)?;
            let last = forged.last_mut().context("an empty proof")?;
            *last ^= 1;
            let forgery = cluster.path("forgery");
            fs::write(&forgery, forged)?;
            ensure!(check(&forgery).is_err(), "a forged proof holds");
            proofs += 1;
        }
    }
    ensure!(proofs > 0, "nobody has a proof\n{}", cluster.log_tails(15));
    Ok(())
}

/// The secret key whose shares these parties have sealed, and the first party's own share, as words. Only a test with a key
/// to throw away may do that.
fn reconstruct(cluster: &Cluster) -> Result<(Vec<u128>, Vec<u128>)> {
    let passphrase = sealed::read_passphrase(&cluster.path("insecure-passphrase"))?;
    let mut shares = Vec::new();
    for party in PartyId::all(4) {
        let vault = Vault::open(&cluster.path(&format!("party-{party}/sealed")), &passphrase)?;
        let names = vault.names()?;
        let name = names.iter().find(|name| name.starts_with("share-")).context("a sealed share")?;
        let file = ShareFile::from_bytes(&vault.get(name)?)?;
        let vector = file.vectors.first().context("shares of a secret key")?;
        let words: Vec<u128> = (0..vector.degree()).flat_map(|c| vector.coordinate(c).to_vec()).collect();
        shares.push((party, GrVec::<u128, 4>::from_words(words).context("whole elements")?));
    }
    let list: Vec<_> = shares.iter().map(|(party, share)| (*party, share)).collect();
    let decoded = Codec::<u128, 4>::new(4, 1)?.decode(&list)?;
    ensure!(decoded.agreeing.len() == 4, "{decoded:?}");
    let bits = decoded.values.coefficient(0).to_vec();
    ensure!(bits.iter().all(|bit| *bit < 2) && bits.contains(&1) && bits.contains(&0), "no vector of bits");
    Ok((bits, shares[0].1.coefficient(0).to_vec()))
}

pub(crate) async fn nobody_ever_has_the_key(_: &mut Cluster) -> Result<()> {
    let (home, cluster) = deployment(RESTARTS, Vec::new()).await?;
    let run = new_run();
    let tool = Keygen::start(&cluster.options, &run, &[])?;
    // What is in memory while the key is made, and when it is there and in use.
    let mut dumps = Vec::new();
    for moment in ["making", "made"] {
        if moment == "making" {
            keygen::reached(&cluster, 1, &run, 40, PATIENCE).await?;
        } else {
            all_have_one_key(&cluster, &run, &[1, 2, 3, 4]).await?;
        }
        for (process, party) in cluster.parties.iter().zip(1..) {
            let dump = home.path().join(format!("dump-{moment}-{party}"));
            let bytes = remains::dump(process.id().context("a running party")?, &dump)?;
            ensure!(bytes > 1 << 20, "only {bytes} bytes of memory of party {party}");
            dumps.push(dump);
        }
    }
    tool.finished().await?;

    let (key, share) = reconstruct(&cluster)?;
    let patterns = Pattern::bits(&key[..128]);
    let own = [Pattern::new("share", share[..32].iter().flat_map(|word| word.to_le_bytes()).collect())];
    // What party 1 has in memory to decrypt with is seen, so a key would be seen, too.
    let in_use = home.path().join("dump-made-1");
    ensure!(!remains::found(&in_use, &own)?.is_empty(), "the share that party 1 uses is not found in its memory");
    for dump in &dumps {
        let found = remains::found(dump, &patterns)?;
        ensure!(found.is_empty(), "{}: {found:?}", dump.display());
        fs::remove_file(dump)?;
    }
    for file in remains::files(home.path())? {
        let found = [remains::found(&file, &patterns)?, remains::found(&file, &own)?].concat();
        ensure!(found.is_empty(), "{}: {found:?}", file.display());
    }
    Ok(())
}
