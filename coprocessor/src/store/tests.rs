use alloy_primitives::{Address, B256, U256};
use kms_chain::follower::BlockRef;
use tempfile::TempDir;

use super::*;
use crate::event::{Event, Kind, Operation};

const CHAIN: u64 = 31337;
const ROOM: InputRoom = InputRoom { total: 1 << 20, client: 1 << 20 };

fn word(byte: u8) -> B256 {
    B256::repeat_byte(byte)
}

fn block(number: u64, fork: u8) -> BlockRef {
    let hash = |number: u64| B256::from(U256::from(number * 256 + u64::from(fork)));
    BlockRef { number, hash: hash(number), parent: hash(number.saturating_sub(1)), timestamp: number }
}

fn trivial(result: u8) -> Event {
    let operation =
        Operation { result: word(result), kind: Kind::Trivial, operands: vec![], plain: Some(U256::from(result)) };
    Event::Operation(operation)
}

fn add(result: u8, a: u8, b: u8) -> Event {
    let operation = Operation { result: word(result), kind: Kind::Add, operands: vec![word(a), word(b)], plain: None };
    Event::Operation(operation)
}

fn input_event(result: u8) -> Event {
    Event::Operation(Operation { result: word(result), kind: Kind::Input, operands: vec![], plain: None })
}

struct Bench {
    folder: TempDir,
    store: Store,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}/db", folder.path().display())).await.unwrap();
        Self { folder, store }
    }

    /// What a kill and a start leave: only what is in the file.
    async fn restart(self) -> Self {
        self.store.close().await;
        let store = Store::open(&format!("sqlite://{}/db", self.folder.path().display())).await.unwrap();
        Self { folder: self.folder, store }
    }

    async fn say(&self, at: BlockRef, events: Vec<Event>) {
        self.store.apply(CHAIN, &[], &[(at, events, vec![])], at, 0).await.unwrap();
    }

    async fn ready(&self) -> Vec<B256> {
        self.store.ready_operations(100).await.unwrap().into_iter().map(|pending| pending.operation.result).collect()
    }

    async fn pending(&self, result: u8) -> PendingOperation {
        let ready = self.store.ready_operations(100).await.unwrap();
        ready.into_iter().find(|pending| pending.operation.result == word(result)).expect("is ready")
    }

    async fn compute(&self, result: u8) {
        let pending = self.pending(result).await;
        assert!(self.store.settle(&pending, &Outcome::Computed(vec![result])).await.unwrap());
    }

    async fn progress(&self, handle: u8) -> Progress {
        self.store.handle_status(word(handle)).await.unwrap().progress
    }
}

fn commitment(handle: u8) -> Commitment {
    Commitment { chain_id: CHAIN, handle: word(handle), key_id: word(0xaa), digest: word(handle.wrapping_add(100)) }
}

fn input(id: u8, handles: &[u8]) -> StoredInput {
    let input = Input {
        id: word(id),
        chain_id: CHAIN,
        contract: Address::repeat_byte(1),
        user: Address::repeat_byte(2),
        ciphertext: vec![id; 10],
    };
    StoredInput { input, handles: handles.iter().copied().map(word).collect() }
}

#[tokio::test]
async fn operations_become_ready_when_their_operands_are_computed() {
    let bench = Bench::new().await;
    bench.say(block(1, 0), vec![trivial(1), trivial(2), add(3, 1, 2), add(4, 3, 3)]).await;
    assert_eq!(bench.ready().await, [word(1), word(2)]);
    bench.compute(2).await;
    assert_eq!(bench.ready().await, [word(1)]);
    bench.compute(1).await;
    assert_eq!(bench.ready().await, [word(3)]);
    let bench = bench.restart().await;
    assert_eq!(bench.ready().await, [word(3)]);
    bench.compute(3).await;
    assert_eq!(bench.ready().await, [word(4)]);
    assert_eq!(bench.store.ciphertext(word(3)).await.unwrap(), Some(vec![3]));
}

#[tokio::test]
async fn operands_that_are_unknown_or_failed_are_named() {
    let bench = Bench::new().await;
    bench.say(block(1, 0), vec![trivial(1), add(3, 1, 9)]).await;
    bench.compute(1).await;
    assert_eq!(bench.store.operand_problem(word(1)).await.unwrap(), None);
    let problem = bench.store.operand_problem(word(9)).await.unwrap().unwrap();
    assert!(matches!(&problem, Outcome::Missing(reason) if reason.contains("unknown")), "{problem:?}");
    let pending = bench.pending(3).await;
    assert!(bench.store.settle(&pending, &Outcome::Failed("bad".into())).await.unwrap());
    assert!(matches!(bench.store.operand_problem(word(3)).await.unwrap(), Some(Outcome::Failed(_))));
    let status = bench.store.handle_status(word(3)).await.unwrap();
    assert_eq!((status.progress, status.failure.as_deref()), (Progress::Failed, Some("bad")));
}

#[tokio::test]
async fn an_input_that_comes_late_revives_what_missed_it() {
    let bench = Bench::new().await;
    bench.say(block(1, 0), vec![trivial(1), input_event(5), add(6, 1, 5)]).await;
    bench.compute(1).await;
    let pending = bench.pending(5).await;
    bench.store.settle(&pending, &Outcome::Missing("not posted".into())).await.unwrap();
    let pending = bench.pending(6).await;
    bench.store.settle(&pending, &Outcome::Missing("operand".into())).await.unwrap();
    assert_eq!(bench.progress(6).await, Progress::Failed);
    assert!(bench.ready().await.is_empty());

    bench.store.insert_input(&input(50, &[5, 7]), b"me", &ROOM, 0).await.unwrap();
    assert_eq!(bench.ready().await, [word(5)]);
    assert_eq!(bench.progress(7).await, Progress::Pending);
    assert_eq!(bench.store.input_of(word(7)).await.unwrap(), Some((CHAIN, word(50))));
    let pending = bench.pending(5).await;
    assert!(!bench.store.settle_expanded(&pending).await.unwrap(), "no ciphertext yet");
    bench.store.store_expansion(&[(word(5), vec![5]), (word(7), vec![7])]).await.unwrap();
    assert!(bench.store.settle_expanded(&pending).await.unwrap());
    assert_eq!(bench.ready().await, [word(6)]);
}

#[tokio::test]
async fn the_same_input_is_stored_once() {
    let bench = Bench::new().await;
    bench.store.insert_input(&input(50, &[5, 7]), b"me", &ROOM, 1).await.unwrap();
    bench.store.insert_input(&input(50, &[5, 7]), b"me", &ROOM, 2).await.unwrap();
    assert_eq!(bench.store.input(CHAIN, word(50)).await.unwrap(), Some(input(50, &[5, 7])));
    assert_eq!(bench.store.input(CHAIN + 1, word(50)).await.unwrap(), None);
}

#[tokio::test]
async fn a_reorg_takes_back_what_its_blocks_said() {
    let bench = Bench::new().await;
    bench.say(block(1, 0), vec![trivial(1)]).await;
    let committed = Event::Committed { handle: word(2), key_id: word(0xaa), digest: word(102) };
    bench.say(block(2, 0), vec![trivial(2), add(3, 1, 2), Event::Wanted(vec![word(2), word(3)]), committed]).await;
    bench.compute(1).await;
    bench.compute(2).await;
    let stale = bench.pending(3).await;
    bench.store.insert_commitment(&commitment(2)).await.unwrap();
    assert_eq!(bench.progress(2).await, Progress::Committed);

    let (old, new) = (block(2, 0), BlockRef { parent: block(1, 0).hash, ..block(2, 1) });
    bench.store.apply(CHAIN, &[old], &[(new, vec![trivial(2)], vec![])], new, 0).await.unwrap();
    assert_eq!(bench.store.ciphertext(word(2)).await.unwrap(), None);
    assert_eq!(bench.progress(3).await, Progress::Unknown);
    assert_eq!(bench.progress(1).await, Progress::Computed);
    assert!(!bench.store.settle(&stale, &Outcome::Computed(vec![3])).await.unwrap(), "its row is gone");
    assert!(bench.store.ready_commitments(CHAIN, 0, 10).await.unwrap().is_empty(), "nobody wants it on this branch");
    assert_eq!(bench.store.blocks(CHAIN).await.unwrap(), [block(1, 0), new]);

    // The same operation on the new branch is the same handle: computed again, and never signed with another digest.
    bench.compute(2).await;
    let next = block(3, 1);
    bench.say(next, vec![Event::Wanted(vec![word(2)])]).await;
    assert!(bench.store.ready_squashes(0, 10).await.unwrap().is_empty(), "its digest stands already");
    assert_eq!(bench.store.ready_commitments(CHAIN, 0, 10).await.unwrap(), [commitment(2)]);
    let other = Commitment { digest: word(0xee), ..commitment(2) };
    bench.store.insert_commitment(&other).await.unwrap();
    assert_eq!(bench.store.ready_commitments(CHAIN, 0, 10).await.unwrap(), [commitment(2)]);
}

#[tokio::test]
async fn an_outcome_of_an_orphaned_row_does_not_touch_its_successor() {
    let bench = Bench::new().await;
    bench.say(block(1, 0), vec![trivial(1)]).await;
    let stale = bench.pending(1).await;
    let new = block(1, 1);
    bench.store.apply(CHAIN, &[block(1, 0)], &[(new, vec![trivial(1)], vec![])], new, 0).await.unwrap();
    assert!(!bench.store.settle(&stale, &Outcome::Failed("stale".into())).await.unwrap());
    assert_eq!(bench.ready().await, [word(1)]);
}

#[tokio::test]
async fn a_repeated_event_belongs_to_its_first_block() {
    let bench = Bench::new().await;
    bench.say(block(1, 0), vec![input_event(5), Event::Wanted(vec![word(5)])]).await;
    bench.say(block(2, 0), vec![input_event(5), Event::Wanted(vec![word(5)])]).await;
    let new = block(2, 1);
    bench.store.apply(CHAIN, &[block(2, 0)], &[(new, vec![], vec![])], new, 0).await.unwrap();
    assert_eq!(bench.ready().await, [word(5)]);
}

#[tokio::test]
async fn blocks_are_kept_down_to_the_final_one() {
    let bench = Bench::new().await;
    for number in [3, 7, 8, 9] {
        let at = block(number, 0);
        bench.store.apply(CHAIN, &[], &[(at, vec![], vec![])], at, 7).await.unwrap();
    }
    let numbers = |blocks: Vec<BlockRef>| blocks.into_iter().map(|block| block.number).collect::<Vec<_>>();
    assert_eq!(numbers(bench.store.blocks(CHAIN).await.unwrap()), [7, 8, 9]);
    // A cursor far below the final height is kept as well.
    let at = block(10, 0);
    bench.store.apply(CHAIN, &[], &[(at, vec![], vec![])], at, 500).await.unwrap();
    assert_eq!(numbers(bench.store.blocks(CHAIN).await.unwrap()), [10]);
    assert!(bench.store.blocks(CHAIN + 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_wanted_and_computed_handles_are_squashed_and_committed_once() {
    let bench = Bench::new().await;
    bench.say(block(1, 0), vec![trivial(1), trivial(2), Event::Wanted(vec![word(2)])]).await;
    assert!(bench.store.ready_squashes(0, 10).await.unwrap().is_empty());
    bench.compute(1).await;
    bench.compute(2).await;
    assert_eq!(bench.store.ready_squashes(0, 10).await.unwrap(), [(CHAIN, word(2))]);
    bench.store.insert_commitment(&commitment(2)).await.unwrap();
    let bench = bench.restart().await;
    assert!(bench.store.ready_squashes(0, 10).await.unwrap().is_empty());
    assert_eq!(bench.store.ready_commitments(CHAIN, 0, 10).await.unwrap(), [commitment(2)]);
    assert!(bench.store.ready_commitments(CHAIN + 1, 0, 10).await.unwrap().is_empty());
    assert_eq!(bench.store.handle_status(word(2)).await.unwrap().digest, Some(word(102)));
    assert_eq!(bench.progress(2).await, Progress::Computed);
    assert_eq!(bench.store.commitment_counts().await.unwrap(), (1, 0));

    bench.store.postpone_commitments(&[word(2)], 50).await.unwrap();
    assert!(bench.store.ready_commitments(CHAIN, 49, 10).await.unwrap().is_empty());
    assert_eq!(bench.store.ready_commitments(CHAIN, 50, 10).await.unwrap().len(), 1);
    let committed = Event::Committed { handle: word(2), key_id: word(0xaa), digest: word(0xee) };
    bench.say(block(2, 0), vec![committed]).await;
    assert!(bench.store.ready_commitments(CHAIN, 50, 10).await.unwrap().is_empty());
    assert_eq!(bench.progress(2).await, Progress::Committed);
    assert_eq!(bench.store.commitment_counts().await.unwrap(), (0, 1), "and the contradiction is counted");
}

#[tokio::test]
async fn unreadable_logs_are_kept_aside() {
    let bench = Bench::new().await;
    let log = QuarantinedLog { log_index: 1, address: Address::ZERO, reason: "why".into() };
    let at = block(1, 0);
    bench.store.apply(CHAIN, &[], &[(at, vec![], vec![log])], at, 0).await.unwrap();
    assert_eq!(bench.store.quarantined().await.unwrap(), 1);
    let new = block(1, 1);
    bench.store.apply(CHAIN, &[at], &[(new, vec![], vec![])], new, 0).await.unwrap();
    assert_eq!(bench.store.quarantined().await.unwrap(), 0);
}

/// Bytes of [`input`] with two handles.
const SMALL: u64 = 10 + 2 * 160;

#[tokio::test]
async fn inputs_that_wait_have_limited_room_and_those_in_use_take_none_of_it() {
    let bench = Bench::new().await;
    let room = InputRoom { total: 3 * SMALL, client: 2 * SMALL };
    let insert = async |id: u8, client: &[u8]| {
        bench.store.insert_input(&input(id, &[id, id + 1]), client, &room, 0).await.unwrap()
    };
    assert_eq!(insert(10, b"one").await, Admitted::Stored);
    assert_eq!(insert(20, b"one").await, Admitted::Stored);
    assert_eq!(insert(30, b"one").await, Admitted::NoRoomForClient);
    assert_eq!(insert(30, b"two").await, Admitted::Stored);
    assert_eq!(insert(40, b"three").await, Admitted::NoRoom);
    assert_eq!(bench.store.input_room(b"three", 1, &room).await.unwrap(), Admitted::NoRoom);
    assert_eq!(bench.store.input(CHAIN, word(40)).await.unwrap(), None);
    assert_eq!(bench.store.waiting_inputs().await.unwrap(), (3, 3 * SMALL as i64));

    // The chain uses one member of the first list: the list has its place for good, and somebody else its room.
    bench.say(block(1, 0), vec![input_event(11)]).await;
    assert_eq!(bench.store.waiting_inputs().await.unwrap().0, 2);
    assert_eq!(insert(40, b"one").await, Admitted::Stored);
    // One that comes after its use never waits.
    bench.say(block(2, 0), vec![input_event(51)]).await;
    assert_eq!(bench.store.insert_input(&input(50, &[50, 51]), b"x", &ROOM, 0).await.unwrap(), Admitted::Stored);
    assert_eq!(bench.store.waiting_inputs().await.unwrap().0, 3);
    // A reorg gives it back its place among those that wait.
    let new = block(2, 1);
    bench.store.apply(CHAIN, &[block(2, 0)], &[(new, vec![], vec![])], new, 0).await.unwrap();
    assert_eq!(bench.store.waiting_inputs().await.unwrap().0, 4);
}

#[tokio::test]
async fn an_input_is_forgotten_when_the_chain_did_not_use_it_in_its_time() {
    let bench = Bench::new().await;
    for id in [10, 20, 30] {
        bench.store.insert_input(&input(id, &[id, id + 1]), b"me", &ROOM, u64::from(id)).await.unwrap();
    }
    bench.store.store_expansion(&[(word(20), vec![20]), (word(21), vec![21])]).await.unwrap();
    let prune = async |now, limit| bench.store.prune_inputs(CHAIN, 100, now, limit).await.unwrap();
    assert_eq!(prune(1_000, 9).await, 0, "a chain that was never looked at may have used them");
    bench.say(block(115, 0), vec![input_event(10)]).await;
    assert_eq!(prune(1_000, 9).await, 0, "followed as far as it is, the time of the others is not over");
    let at = block(1_000, 0);
    bench.store.apply(CHAIN, &[], &[(at, vec![], vec![])], at, 1_000).await.unwrap();
    assert_eq!(prune(121, 9).await, 1, "by our own clock only one is old enough");
    assert_eq!(bench.store.input(CHAIN, word(20)).await.unwrap(), None);
    assert_eq!(bench.store.ciphertext(word(21)).await.unwrap(), None, "nothing of it is left");
    bench.store.renew_input(CHAIN, word(30), 31, 500).await.unwrap();
    assert_eq!(prune(599, 9).await, 0, "whoever posts again waits anew");
    bench.store.insert_input(&input(40, &[40, 41]), b"me", &ROOM, 40).await.unwrap();
    assert_eq!((prune(900, 1).await, prune(900, 1).await, prune(900, 1).await), (1, 1, 0), "step by step");
    assert!(bench.store.input(CHAIN, word(10)).await.unwrap().is_some(), "what is used stays");

    // Used too late: it fails with a reason, until it is posted again.
    bench.say(block(1_001, 0), vec![input_event(20)]).await;
    let pending = bench.pending(20).await;
    bench.store.settle(&pending, &Outcome::Missing("forgotten".into())).await.unwrap();
    let status = bench.store.handle_status(word(20)).await.unwrap();
    assert_eq!((status.progress, status.failure.as_deref()), (Progress::Failed, Some("forgotten")));
    bench.store.insert_input(&input(20, &[20, 21]), b"me", &ROOM, 1_001).await.unwrap();
    assert!(bench.ready().await.contains(&word(20)));
    assert_eq!(bench.store.waiting_inputs().await.unwrap().0, 0);
}

#[tokio::test]
async fn a_handle_with_two_holders_is_wanted_after_what_was_asked_for() {
    let mut bench = Bench::new().await;
    let allowed =
        |handle: u8, account: u8| Event::Allowed { handle: word(handle), account: Address::repeat_byte(account) };
    let squashes = async |bench: &Bench| {
        bench.store.ready_squashes(0, 10).await.unwrap().into_iter().map(|(_, handle)| handle).collect::<Vec<_>>()
    };
    let results = vec![trivial(1), trivial(2), trivial(3), allowed(1, 0xc0), allowed(1, 0xc0), allowed(2, 0xc0)];
    bench.say(block(1, 0), results).await;
    for result in 1..=3 {
        bench.compute(result).await;
    }
    assert!(squashes(&bench).await.is_empty(), "a contract keeps what it may use: nobody reads that");

    // The second holder comes later, and after a restart.
    bench = bench.restart().await;
    bench.say(block(2, 0), vec![allowed(1, 0xa1), allowed(2, 0xa1), Event::Wanted(vec![word(3)])]).await;
    assert_eq!(squashes(&bench).await, [word(3), word(1), word(2)]);
    bench.say(block(3, 0), vec![Event::Wanted(vec![word(2)]), allowed(3, 0xc0), allowed(3, 0xa1)]).await;
    assert_eq!(squashes(&bench).await, [word(2), word(3), word(1)], "asked for, it comes first, and stays so");
    bench.store.insert_commitment(&commitment(1)).await.unwrap();
    assert_eq!(bench.store.ready_commitments(CHAIN, 0, 10).await.unwrap(), [commitment(1)]);

    // A reorg takes rights back, first holders too.
    let taken = [block(3, 0), block(2, 0)];
    let new = block(2, 1);
    bench.store.apply(CHAIN, &taken, &[(new, vec![], vec![])], new, 0).await.unwrap();
    assert!(squashes(&bench).await.is_empty());
    bench.say(block(3, 1), vec![allowed(3, 0xa1), allowed(2, 0xa2)]).await;
    assert_eq!(squashes(&bench).await, [word(2)]);
}

#[tokio::test]
async fn a_squashing_that_fails_is_remembered_tried_again_and_given_up() {
    let mut bench = Bench::new().await;
    bench.say(block(1, 0), vec![trivial(1), trivial(2), Event::Wanted(vec![word(1), word(2)])]).await;
    bench.compute(1).await;
    bench.compute(2).await;
    let mut now = 1_000;
    for pause in [30, 120, 480, 1_920] {
        assert!(!bench.store.fail_squash(word(1), "too noisy", now).await.unwrap());
        bench = bench.restart().await;
        assert_eq!(bench.store.ready_squashes(now + pause - 1, 10).await.unwrap(), [(CHAIN, word(2))]);
        now += pause;
        assert_eq!(bench.store.ready_squashes(now, 10).await.unwrap().len(), 2);
        let status = bench.store.handle_status(word(1)).await.unwrap();
        assert_eq!((status.progress, status.failure.as_deref()), (Progress::Computed, Some("not squashed: too noisy")));
    }
    assert!(bench.store.fail_squash(word(1), "too noisy", now).await.unwrap());
    assert_eq!(bench.store.ready_squashes(u64::MAX >> 1, 10).await.unwrap(), [(CHAIN, word(2))]);
    assert_eq!(bench.progress(1).await, Progress::Failed);
    assert_eq!(bench.store.failure_counts().await.unwrap(), (1, 0));
    // One that works after all leaves no trace; a reorg takes the failure with the ciphertext.
    bench.store.fail_squash(word(2), "too noisy", now).await.unwrap();
    bench.store.insert_commitment(&commitment(2)).await.unwrap();
    assert_eq!(bench.store.handle_status(word(2)).await.unwrap().failure, None);
    let new = block(1, 1);
    bench.store.apply(CHAIN, &[block(1, 0)], &[(new, vec![trivial(1)], vec![])], new, 0).await.unwrap();
    assert_eq!(bench.store.failure_counts().await.unwrap(), (0, 0));
}
