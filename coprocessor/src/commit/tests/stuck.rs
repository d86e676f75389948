//! What can't be mined must not hold up what stands behind it.

use super::*;

const TEN: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

impl Bench {
    async fn status(&self, handle: u8) -> (Progress, Option<String>) {
        let status = self.store.handle_status(word(handle)).await.unwrap();
        (status.progress, status.failure)
    }

    /// Settles operations, so that handles count as computed.
    async fn computed(self) -> Self {
        for pending in self.store.ready_operations(100).await.unwrap() {
            self.store.settle(&pending, &crate::store::Outcome::Computed(vec![1])).await.unwrap();
        }
        self
    }

    /// Ticks and blocks, one second after the other.
    async fn run(&mut self, seconds: std::ops::Range<u64>) {
        for second in seconds {
            self.committer.tick(second).await.unwrap();
            self.ledger.mine();
        }
        self.follow().await;
    }
}

#[tokio::test]
async fn one_bad_commitment_is_found_by_halving_and_the_others_go_in_one_transaction() {
    let mut bench = Bench::new(&TEN).await.computed().await;
    bench.ledger.with(|world| world.bad.insert(word(7)));
    bench.run(0..2).await;
    assert_eq!((bench.registry(), bench.transactions()), (9, 1));
    assert!(bench.ledger.with(|world| world.simulations) <= 12);
    let (progress, reason) = bench.status(7).await;
    assert_eq!((progress, reason.as_deref()), (Progress::Computed, Some("not committed: no")), "it is tried again");
    bench.run(2..200).await;
    assert_eq!(bench.status(7).await, (Progress::Failed, Some("not committed: no".into())));
    assert_eq!(bench.store.failure_counts().await.unwrap(), (0, 1));
    assert_eq!(bench.transactions(), 1, "and costs nothing");
    // What was wrong may come right.
    bench.ledger.with(|world| world.bad.clear());
    bench.run(200..600).await;
    assert_eq!((bench.registry(), bench.status(7).await), (10, (Progress::Committed, None)));
}

#[tokio::test]
async fn several_bad_ones_do_not_keep_the_good_ones_back() {
    let mut bench = Bench::new(&TEN).await;
    bench.ledger.with(|world| world.bad.extend([1, 2, 5, 9, 10].map(word)));
    bench.run(0..5).await;
    assert_eq!((bench.registry(), bench.transactions()), (5, 1));
}

#[tokio::test]
async fn when_the_account_or_the_registry_is_at_fault_no_commitment_is_blamed_for_long() {
    let mut bench = Bench::new(&TEN).await.computed().await;
    bench.ledger.with(|world| world.unable = true);
    bench.run(0..10).await;
    assert_eq!(bench.ledger.with(|world| world.simulations), 1, "one look is enough");
    assert_eq!(bench.status(1).await, (Progress::Computed, None));
    bench.ledger.with(|world| (world.unable, world.simulations_revert, world.simulations) = (false, true, 0));
    bench.run(15..16).await;
    assert!(bench.ledger.with(|world| world.simulations) <= 20, "it gives up on the rest");
    assert_eq!(bench.status(10).await, (Progress::Computed, None));
    bench.ledger.with(|world| world.simulations_revert = false);
    bench.run(30..50).await;
    assert_eq!(bench.registry(), 10);
}

#[tokio::test]
async fn a_batch_that_reverts_only_when_mined_is_halved_from_transaction_to_transaction() {
    let mut bench = Bench::new(&[1, 2, 3, 4]).await.computed().await;
    bench.committer.setup.config.batch = 4;
    bench.ledger.with(|world| world.bad_when_mined.insert(word(3)));
    bench.run(0..120).await;
    assert_eq!(bench.registry(), 3);
    let reverted = bench.ledger.with(|world| world.mined.iter().filter(|batch| !batch.success).count());
    assert!((3..=5).contains(&reverted), "4, 2, 1 and then with long pauses: {reverted}");
    assert_eq!(bench.status(3).await.1.as_deref(), Some("not committed: its transaction reverted"));
}

#[tokio::test]
async fn a_transaction_that_is_never_mined_gives_up_its_nonce_and_its_commitments_go_again() {
    let mut bench = Bench::new(&[1, 2]).await;
    bench.committer.setup.config.max_fee_per_gas = 1 << 40;
    bench.ledger.with(|world| world.drops_calls = true);
    bench.run(0..46).await;
    assert_eq!(bench.transactions(), 0);
    let mut bench = bench.restart().await;
    bench.committer.setup.config.max_fee_per_gas = 1 << 40;
    let given_up = PATIENCE * bench.committer.setup.config.bump_after_seconds;
    bench.run(given_up..given_up + 3).await;
    let filled = bench.ledger.with(|world| world.mined.iter().map(|batch| batch.handles.len()).collect::<Vec<_>>());
    assert_eq!(filled, [0], "an empty transaction took the nonce");
    bench.ledger.with(|world| world.drops_calls = false);
    bench.run(given_up + 3..given_up + 40).await;
    assert_eq!(bench.registry(), 2);
}

#[tokio::test]
async fn a_transaction_that_the_node_refuses_gives_up_its_nonce_soon() {
    let mut bench = Bench::new(&[1]).await;
    let refused = Broadcast::Refused("exceeds block gas limit".into());
    bench.ledger.with(|world| world.refuses_calls = Some(refused));
    let soon = u64::from(REFUSALS) * REBROADCAST;
    bench.run(0..soon + 2).await;
    assert_eq!(bench.transactions(), 1);
    bench.ledger.with(|world| world.refuses_calls = None);
    bench.run(soon + 2..soon + 40).await;
    assert_eq!((bench.registry(), bench.transactions()), (1, 2));
}

#[tokio::test]
async fn a_nonce_that_the_node_counted_and_lost_is_filled() {
    let mut bench = Bench::new(&[1]).await;
    // The node counts two transactions of this account that are never mined.
    bench.ledger.with(|world| world.phantom_nonces = 2);
    bench.run(0..40).await;
    assert_eq!(bench.transactions(), 0, "ours waits for a nonce that nobody uses");
    bench.run(40..240).await;
    assert_eq!((bench.registry(), bench.transactions()), (1, 3), "two empty ones and ours");
    bench.ledger.with(|world| world.final_height = world.height);
    bench.run(240..250).await;
    assert!(bench.store.unsettled_transactions(CHAIN).await.unwrap().is_empty());
}
