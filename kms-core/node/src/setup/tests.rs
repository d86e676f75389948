//! Set-ups of a committee of four over real mutual TLS: honest, with one that is late, lies, or is killed at each moment.

use kms_encoding::{FheType, PrssKeys};
use kms_mpc::vss::malicious::SharingLie;
use kms_mpc::{PartyId, PartySet};

use super::stored::PREFIX;
use super::*;
use crate::engine::EngineOptions;
use crate::sealed::Cost;
use crate::testkit::cluster::{Cluster, EPOCH, KEY, Node};
use crate::testkit::until;

/// Long enough for a machine with other things to do; only absent parties make anybody wait for it.
const BOUND: Duration = Duration::from_secs(10);
/// Nobody waits that long in these tests.
const PATIENT: Duration = Duration::from_secs(3600);

struct Member {
    node: Node,
    setup: Setup,
    store: Store,
}

fn honest() -> SetupOptions {
    SetupOptions { patience: PATIENT, bound: BOUND, lie: None, dies_at: None }
}

fn impatient() -> SetupOptions {
    SetupOptions { patience: Duration::ZERO, ..honest() }
}

fn vault(cluster: &Cluster, index: u16) -> Vault {
    let dir = cluster.dir(index).join("sealed");
    if dir.exists() {
        Vault::open(&dir, b"insecure test").unwrap()
    } else {
        Vault::create(&dir, b"insecure test", Cost::INSECURE_TEST).unwrap()
    }
}

/// What is sealed as the keys of the epoch.
fn agreed(cluster: &Cluster, index: u16) -> Option<PrssKeys> {
    load_agreed(&cluster.fixture.party(index), &vault(cluster, index), EPOCH).unwrap()
}

/// Starts a party with its share and whatever keys it has sealed, as a process does.
async fn start(cluster: &Cluster, index: u16, options: SetupOptions) -> Member {
    let keys = Arc::new(Keys::default());
    match agreed(cluster, index) {
        Some(prss) => keys.insert(crate::keys::KeyMaterial::new(cluster.share(index), Arc::new(prss))),
        None => keys.wait(cluster.share(index)),
    }
    let node = cluster.start_keys(index, None, EngineOptions::default(), keys.clone()).await;
    let store = cluster.store(index).await;
    let parts = SetupParts {
        party: Arc::new(cluster.fixture.party(index)),
        keys,
        vault: Arc::new(vault(cluster, index)),
        store: store.clone(),
        hub: node.hub.clone(),
        metrics: node.metrics.clone(),
        cancel: node.cancel.clone(),
    };
    let setup = Setup::start(parts, options).await.unwrap();
    Member { node, setup, store }
}

impl Member {
    fn usable(&self) -> bool {
        self.node.keys.usable(KEY).is_some()
    }

    async fn ready(&self) {
        until(async || self.usable().then_some(())).await;
    }

    async fn stop(self) {
        self.node.cancel.cancel();
        self.setup.stopped().await;
        self.node.stop().await;
    }

    async fn journal(&self) -> String {
        let rows = self.store.journal_tail(50).await.unwrap();
        rows.iter().filter(|row| row.kind == "prss-setup").map(|row| format!("{}\n", row.detail)).collect()
    }
}

async fn cluster() -> Cluster {
    Cluster::new(&[(FheType::Uint8, 77), (FheType::Bool, 1)]).await
}

/// All members decrypt, their keys are those of one set-up, nothing else is left readable.
async fn check(cluster: &Cluster, members: &[(u16, &Member)]) {
    for (_, member) in members {
        member.ready().await;
    }
    let nodes: Vec<_> = members.iter().map(|(index, member)| (*index, &member.node)).collect();
    for node in &nodes {
        until(async || (node.1.hub.connected() >= members.len() - 1).then_some(())).await;
    }
    let id = cluster.ask(&nodes, &cluster.v1()).await;
    for (_, node) in nodes {
        let receipt = node.receipt(id).await;
        assert!(receipt.wrong.iter().all(|byte| *byte == 0), "nobody's share is wrong");
    }
    let keys: Vec<PrssKeys> = members.iter().map(|(index, _)| agreed(cluster, *index).unwrap()).collect();
    assert!(keys.iter().all(|k| (k.run, &k.commitments) == (keys[0].run, &keys[0].commitments)));
    for (index, _) in members {
        let vault = vault(cluster, *index);
        let own = object_name(EPOCH);
        let others = vault.names().unwrap().into_iter().filter(|name| name.starts_with(PREFIX) && *name != own);
        until(async || others.clone().all(|name| vault.get(&name).is_err()).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parties_make_their_keys_decrypt_with_them_and_find_them_again() {
    let cluster = cluster().await;
    let mut members = Vec::new();
    for index in 1..=3 {
        members.push(start(&cluster, index, honest()).await);
    }
    // Three wait for the fourth, and say so.
    for member in &members {
        let waits = || member.setup.waiting_for().filter(|text| text.ends_with("waiting for parties 4"));
        until(async || waits()).await;
        assert!(!member.usable());
        assert!(member.node.metrics.render().contains("kms_node_prss_setup_waits_for{peer=\"4\"} 1"));
    }
    members.push(start(&cluster, 4, honest()).await);
    let all: Vec<_> = (1..).zip(&members).collect();
    check(&cluster, &all).await;
    for member in &members {
        let journal = member.journal().await;
        assert!(journal.contains("attempt 1: keys were made\n") && !journal.contains("wrong"), "{journal}");
        assert_eq!(member.setup.waiting_for(), None);
    }
    let before: Vec<_> = (1..=4).map(|index| agreed(&cluster, index).unwrap()).collect();
    for member in members {
        member.stop().await;
    }
    let mut members = Vec::new();
    for index in 1..=4 {
        members.push(start(&cluster, index, honest()).await);
    }
    let all: Vec<_> = (1..).zip(&members).collect();
    check(&cluster, &all).await;
    assert_eq!(before, (1..=4).map(|index| agreed(&cluster, index).unwrap()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_parties_go_on_without_a_late_one_which_takes_its_keys_over() {
    let cluster = cluster().await;
    let mut members = Vec::new();
    // Every round could wait for the one that is not there; it is taken for late once.
    let options = SetupOptions { bound: Duration::from_secs(4), ..impatient() };
    for index in 1..=3 {
        members.push(start(&cluster, index, options).await);
    }
    let three: Vec<_> = (1..).zip(&members).collect();
    check(&cluster, &three).await;
    for member in &members {
        let journal = member.journal().await;
        assert!(journal.contains("party 4 was late") && !journal.contains("wrong"), "{journal}");
        assert!(member.node.metrics.render().contains("kms_node_peer_late_total{peer=\"4\"}"));
    }
    members.push(start(&cluster, 4, honest()).await);
    let all: Vec<_> = (1..).zip(&members).collect();
    check(&cluster, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_dealer_is_named_and_changes_nothing() {
    let cluster = cluster().await;
    let victims: PartySet = [3].into_iter().filter_map(PartyId::new).collect();
    let lie = Some(kms_mpc::prss_setup::malicious::SetupLie::Sharing(SharingLie::WrongRows { to: victims }));
    let mut members = Vec::new();
    for index in 1..=4 {
        let lie = lie.filter(|_| index == 2);
        members.push(start(&cluster, index, SetupOptions { lie, ..honest() }).await);
    }
    let all: Vec<_> = (1..).zip(&members).collect();
    check(&cluster, &all).await;
    let victim = &members[2];
    let journal = victim.journal().await;
    assert!(journal.contains("party 2 was wrong: its rows contradict its table (signed: channel"), "{journal}");
    assert!(victim.node.metrics.render().contains("kms_node_peer_wrong_total{peer=\"2\"} 1"));
    for honest in [0, 3] {
        assert!(!members[honest].journal().await.contains("party 3 was wrong"));
    }
}

/// A party that dies at a moment, or a power cut for all when the first of them comes to it; everybody comes back.
async fn killed_at(moment: Moment, all: bool) {
    let cluster = cluster().await;
    let mut members = Vec::new();
    for index in 1..=4 {
        let dies_at = (all || index == 4).then_some(moment);
        members.push(start(&cluster, index, SetupOptions { dies_at, ..honest() }).await);
    }
    let victims = if all { std::mem::take(&mut members) } else { members.split_off(3) };
    futures::future::select_all(victims.iter().map(|victim| Box::pin(victim.node.cancel.cancelled()))).await;
    // In a power cut all die at once, wherever they are; with one of them gone the others may never come to that moment.
    victims.iter().for_each(|victim| victim.node.cancel.cancel());
    for victim in victims {
        // A process that is gone writes nothing: what was under way on the disk ends before the next life begins.
        until(async || victim.setup.is_still().then_some(())).await;
        victim.node.stop().await;
    }
    for index in if all { 1..=4 } else { 4..=4 } {
        members.push(start(&cluster, index, honest()).await);
    }
    let all: Vec<_> = (1..).zip(&members).collect();
    check(&cluster, &all).await;
    for member in members {
        let journal = member.journal().await;
        assert!(!journal.contains("wrong"), "{moment:?}: {journal}");
        member.stop().await;
    }
}

macro_rules! killed {
    ($($one:ident, $all:ident: $moment:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $one() {
            killed_at(Moment::$moment, false).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn $all() {
            killed_at(Moment::$moment, true).await;
        }
    )*};
}

killed! {
    a_party_killed_before_it_deals_takes_its_keys_over, a_power_cut_before_the_first_message: Seeded;
    a_party_killed_with_unsealed_keys_takes_them_over, a_power_cut_with_unsealed_keys: Ran;
    a_party_killed_with_a_live_seed_goes_on, a_power_cut_with_live_seeds: Made;
    a_party_killed_before_it_claims_goes_on, a_power_cut_before_the_claims: Erased;
    a_party_killed_before_it_tells_its_vote_goes_on, a_power_cut_before_the_votes_are_told: Voted;
    a_party_killed_before_the_end_goes_on, a_power_cut_before_the_end: Agreed;
    a_party_killed_before_it_clears_up_goes_on, a_power_cut_before_clearing_up: Done;
    a_party_killed_at_the_end_has_its_keys, a_power_cut_at_the_end: Cleared;
}
