//! What goes on after a quorum: late answers, and receipts.

use std::time::Duration;

use alloy_primitives::B256;
use tokio::sync::mpsc;

use super::{Committee, DispatchRules, Receipt, Said, classify, in_grace, user};
use crate::job::{Job, Payload};
use crate::store::Store;

/// Late answers: for the record, and for the user whose shares they are.
pub(super) async fn tail(
    store: Store,
    job: Job,
    rules: DispatchRules,
    threshold: usize,
    all: usize,
    mut said: mpsc::Receiver<(u32, Said)>,
) {
    let for_user = matches!(job.payload, Payload::UserDecrypt(_));
    let collect = async {
        while let Some(first) = said.recv().await {
            let mut batch = vec![first];
            while let Ok(more) = said.try_recv() {
                batch.push(more);
            }
            let report = |(party, said)| classify(party, in_grace(&job, rules, said), 0, rules.longest_pause);
            let reports: Vec<_> = batch.into_iter().map(report).collect();
            match store.record(job.id, &reports, threshold).await {
                Ok(recorded) if for_user && recorded.agreeing >= all => user::finish(&store, &job).await,
                Ok(_) => {}
                Err(error) => tracing::warn!(request = %job.id, %error, "a late answer is not recorded"),
            }
        }
    };
    // Whoever is not done by then is late; the receipts of the others will say so.
    let _ = tokio::time::timeout(if for_user { rules.last_call } else { rules.tail }, collect).await;
}

/// Fetches the receipts of the parties that answered, some time after the quorum.
pub async fn receipts(store: Store, committee: std::sync::Arc<dyn Committee>, job: B256, pause: Duration) {
    for round in 0..RECEIPT_ROUNDS {
        tokio::time::sleep(pause * 2u32.pow(round)).await;
        let Ok(missing) = store.without_receipt(job).await else { return };
        if missing.is_empty() {
            return;
        }
        let asked = missing.iter().map(|party| async { (*party, committee.receipt(*party, job).await) });
        let answered = futures::future::join_all(asked).await;
        let given: Vec<(u32, Receipt)> =
            answered.into_iter().filter_map(|(party, receipt)| Some((party, receipt?))).collect();
        match store.record_receipts(job, &given).await {
            Ok(()) if given.len() == missing.len() => return,
            Ok(()) => {}
            Err(error) => tracing::warn!(request = %job, %error, "receipts are not recorded"),
        }
    }
}

/// Times that receipts are asked for, each after twice the pause before.
const RECEIPT_ROUNDS: u32 = 6;
