//! Decryptions over links that lose messages.

use super::*;
use crate::peer::InboxLimits;

/// A counter that may not be there yet.
fn count(node: &Node, name: &str) -> f64 {
    let text = node.metrics.render();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_inbox_dropped_is_asked_for_and_answered() {
    let mut cluster = Cluster::new(&[(FheType::Bool, 1); 8]).await;
    cluster.inbox = InboxLimits { messages: 1, ..InboxLimits::default() };
    let nodes = cluster.start_all(&[]).await;
    let ask =
        async |index: u16, handle| settled(&nodes[usize::from(index) - 1], cluster.call_for(index, &[handle])).await;
    // Three parties decide; the fourth is not asked and keeps one message of each of them.
    let deciding = cluster.handles.iter().flat_map(|handle| (1..=3).map(|index| ask(index, *handle)));
    for outcome in futures::future::join_all(deciding).await {
        assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
    }
    for node in &nodes[..3] {
        // The senders know.
        until(async || (count(node, "kms_node_peer_dropped_total{peer=\"4\"}") >= 7.0).then_some(())).await;
    }
    let late = cluster.handles.iter().map(|handle| ask(4, *handle));
    for outcome in futures::future::join_all(late).await {
        assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decryption_survives_a_cut_link() {
    let cluster = Cluster::new(&values()).await;
    // Whoever dials party 3 goes through here; party 4 is away, so all three are needed.
    let cable = cluster.fixture.relay(3).await;
    let mut nodes = Vec::new();
    for index in 1..=3 {
        nodes.push(cluster.start(index, None).await);
    }
    for node in &nodes {
        until(async || (node.hub.connected() == 2).then_some(())).await;
    }
    cable.cut();
    until(async || (nodes[2].hub.connected() == 0).then_some(())).await;
    let id = cluster.call(1, cluster.v1()).id();
    let all: Vec<_> = (1u16..).zip(&nodes).collect();
    let extra_data = cluster.v1();
    let asking = cluster.ask(&all, &extra_data);
    let mending = async {
        // All of them have sent what they have; nobody can decide.
        for node in &nodes {
            let opening = async || node.engine.status(id).await.unwrap().stage() == node::Stage::Opening;
            until(async || opening().await.then_some(())).await;
        }
        until(async || (count(&nodes[2], "kms_node_peer_unsent_total{peer=\"1\"}") >= 1.0).then_some(())).await;
        cable.mend();
    };
    tokio::join!(asking, mending);
    for node in &nodes {
        assert_eq!(bits(&node.receipt(id).await.arrived), 0b0111);
    }
    for node in nodes {
        node.stop().await;
    }
}
