use alloy_primitives::B256;

use super::*;

fn new_request(n: u8) -> NewRequest {
    NewRequest { id: B256::repeat_byte(n), chain_id: u64::MAX, epoch_id: B256::repeat_byte(9), payload: vec![n; 3] }
}

/// The share of request n is about to leave.
async fn open(store: &Store, n: u8) -> bool {
    store.open_request(key(n), B256::repeat_byte(n % 2), vec![n; 3]).await.unwrap()
}

/// All that a restart would take up, in pages of two.
async fn pending(store: &Store) -> Vec<RequestKey> {
    let pending = store.pending().await.unwrap();
    let (mut keys, mut after) = (Vec::new(), Position::default());
    loop {
        let page = store.pending_after(u64::MAX, after, pending.last, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        keys.extend(page.iter().map(|row| row.key));
    }
    assert_eq!(keys.len() as u64, pending.count);
    keys
}

fn key(n: u8) -> RequestKey {
    RequestKey { id: B256::repeat_byte(n), epoch_id: B256::repeat_byte(9) }
}

fn new_key() -> KeyRow {
    KeyRow {
        key_id: B256::repeat_byte(1),
        epoch_id: B256::repeat_byte(2),
        context_id: B256::repeat_byte(3),
        params: 0xF1,
        object: "share-1".into(),
        share_digest: B256::repeat_byte(4),
        state: KeyState::Usable,
        detail: None,
    }
}

#[tokio::test]
async fn everything_acknowledged_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    {
        let store = Store::open(&path).await.unwrap();
        for n in 1..=4 {
            assert_eq!(store.insert_request(new_request(n)).await.unwrap(), Inserted::New);
        }
        assert!(open(&store, 1).await);
        assert!(store.answer(key(2), vec![7], Duration::from_micros(5)).await.unwrap());
        assert!(store.refuse(key(3), vec![8], "bad ciphertext".into()).await.unwrap());
        store.put_key(new_key()).await.unwrap();
        store.journal("start", "node", "first").await.unwrap();
    }
    // The first writer may still be closing: WAL lets both in, and everything acknowledged is committed.
    let store = Store::open(&path).await.unwrap();
    assert_eq!(pending(&store).await, [key(1), key(2), key(4)]);
    let row = async |n| store.request(key(n)).await.unwrap().unwrap();
    assert_eq!((row(1).await.stage, row(4).await.stage), (Stage::Opening, Stage::Received));
    assert_eq!(row(1).await.detail.as_deref(), Some("shares of the other parties"));
    assert_eq!(row(1).await.chain_id, u64::MAX);
    let answered = store.request(key(2)).await.unwrap().unwrap();
    assert_eq!(
        (answered.stage, answered.answer, answered.mpc),
        (Stage::Answered, Some(vec![7]), Some(Duration::from_micros(5)))
    );
    let refused = store.request(key(3)).await.unwrap().unwrap();
    assert_eq!((refused.stage, refused.refusal), (Stage::Refused, Some(vec![8])));
    assert_eq!(store.keys().await.unwrap(), [new_key()]);
    let journal = store.journal_tail(5).await.unwrap();
    let lines: Vec<_> = journal.iter().map(|line| (line.seq, &line.kind[..], &line.detail[..])).collect();
    assert_eq!(lines, [(2, "start", "first"), (1, "refused", "bad ciphertext")]);
}

#[tokio::test]
async fn a_repeated_request_keeps_its_first_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("node.db")).await.unwrap();
    store.insert_request(new_request(1)).await.unwrap();
    let other = NewRequest { payload: vec![0xEE], ..new_request(1) };
    match store.insert_request(other).await.unwrap() {
        Inserted::Existing(row) => assert_eq!(row.payload, vec![1; 3]),
        Inserted::New => panic!("the second insertion won"),
    }
}

#[tokio::test]
async fn stages_never_go_back_and_answers_never_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("node.db")).await.unwrap();
    let id = key(1);
    store.insert_request(new_request(1)).await.unwrap();
    assert!(!store.receipt(id, vec![1]).await.unwrap(), "a receipt without an answer");
    assert!(store.answer(id, vec![1], Duration::ZERO).await.unwrap());
    assert!(!store.answer(id, vec![2], Duration::ZERO).await.unwrap());
    assert!(!open(&store, 1).await, "back to the opening");
    assert_eq!(store.request(id).await.unwrap().unwrap().stage, Stage::Answered);
    assert!(!store.refuse(id, vec![3], String::new()).await.unwrap());
    assert_eq!(pending(&store).await, [id]);
    assert!(store.receipt(id, vec![4]).await.unwrap());
    assert!(!store.receipt(id, vec![5]).await.unwrap());
    let row = store.request(id).await.unwrap().unwrap();
    assert_eq!((row.stage, row.answer, row.receipt), (Stage::Final, Some(vec![1]), Some(vec![4])));
    assert!(pending(&store).await.is_empty());
}

#[tokio::test]
async fn concurrent_writers_share_transactions_and_all_get_their_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("node.db")).await.unwrap();
    let inserts = (0..300u16).map(|i| {
        let store = store.clone();
        async move {
            let mut id = B256::ZERO;
            id[..2].copy_from_slice(&(i % 200).to_be_bytes());
            store.insert_request(NewRequest { id, ..new_request(1) }).await
        }
    });
    let outcomes = futures::future::try_join_all(inserts).await.unwrap();
    assert_eq!(outcomes.iter().filter(|o| **o == Inserted::New).count(), 200);
    assert_eq!(store.stages().await.unwrap(), [(Stage::Received, 200)]);
}

#[tokio::test]
async fn every_epoch_has_its_own_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("node.db")).await.unwrap();
    let (old, new) = (key(1), RequestKey { epoch_id: B256::repeat_byte(8), ..key(1) });
    store.insert_request(new_request(1)).await.unwrap();
    assert!(store.answer(old, vec![1], Duration::ZERO).await.unwrap());
    assert!(store.request(new).await.unwrap().is_none());
    let again = NewRequest { epoch_id: new.epoch_id, ..new_request(1) };
    assert_eq!(store.insert_request(again).await.unwrap(), Inserted::New);
    assert!(store.refuse(new, vec![2], "no".into()).await.unwrap());
    let rows = [store.request(old).await.unwrap().unwrap(), store.request(new).await.unwrap().unwrap()];
    assert_eq!(rows.each_ref().map(|row| row.stage), [Stage::Answered, Stage::Refused]);
    assert_eq!(rows.each_ref().map(RequestRow::key), [old, new]);
    assert_eq!(store.latest_request(old.id).await.unwrap().unwrap().key(), new);
}

#[tokio::test]
async fn a_job_is_known_by_what_has_left_this_party() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("node.db")).await.unwrap();
    let job = B256::repeat_byte(1);
    // Recorded only, then refused: its share must not leave later.
    store.insert_request(new_request(1)).await.unwrap();
    assert!(store.refuse(key(1), vec![1], "cancelled".into()).await.unwrap());
    assert_eq!(store.shared_in_job(job).await.unwrap(), None);
    // Refused after the opening: others may still need the share.
    store.insert_request(new_request(3)).await.unwrap();
    assert!(open(&store, 3).await);
    assert!(store.refuse(key(3), vec![1], "out of range".into()).await.unwrap());
    assert_eq!(store.shared_in_job(job).await.unwrap().unwrap().key(), key(3));
    assert_eq!(store.answered_in_job(job).await.unwrap(), None);
    // A newer row hides no older answer.
    store.insert_request(new_request(5)).await.unwrap();
    assert!(open(&store, 5).await);
    assert!(store.answer(key(5), vec![1], Duration::ZERO).await.unwrap());
    store.insert_request(new_request(7)).await.unwrap();
    assert!(open(&store, 7).await);
    assert!(store.refuse(key(7), vec![1], "cancelled".into()).await.unwrap());
    assert_eq!(store.answered_in_job(job).await.unwrap().unwrap().key(), key(5));
}

#[tokio::test]
async fn a_key_keeps_its_identity_and_changes_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("node.db")).await.unwrap();
    store.put_key(new_key()).await.unwrap();
    let bad = KeyRow { state: KeyState::Quarantined, detail: Some("tampered".into()), ..new_key() };
    store.put_key(bad.clone()).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [bad]);
}

#[tokio::test]
async fn one_generation_of_a_key_is_open_and_what_has_ended_never_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    let keygen = |n: u8| NewKeygen {
        run_id: B256::repeat_byte(n),
        params: 0xF1,
        compressed: true,
        crs_digest: B256::repeat_byte(9),
    };
    let (first, second) = (keygen(1), keygen(2));
    {
        let store = Store::open(&path).await.unwrap();
        assert!(store.open_keygen(first.clone()).await.unwrap());
        assert!(!store.open_keygen(first.clone()).await.unwrap());
        assert!(!store.open_keygen(second.clone()).await.unwrap());
        let ended = |to| store.move_keygen(first.run_id, KeygenState::Open, to, None, None, Some("why".into()));
        assert!(ended(KeygenState::Aborted).await.unwrap());
        assert!(!ended(KeygenState::Failed).await.unwrap());
    }
    let store = Store::open(&path).await.unwrap();
    assert!(!store.open_keygen(first.clone()).await.unwrap());
    assert!(store.open_keygen(second.clone()).await.unwrap());
    let key = Some(B256::repeat_byte(7));
    let sealed = store.move_keygen(second.run_id, KeygenState::Open, KeygenState::Sealed, key, Some(vec![1]), None);
    assert!(sealed.await.unwrap());
    // The next one may start while this party still helps others to the last one.
    assert!(store.open_keygen(keygen(3)).await.unwrap());
    let rows = store.keygens().await.unwrap();
    let states: Vec<_> = rows.iter().map(|row| (row.asked.run_id, row.state, row.key_id)).collect();
    let (aborted, open) = ((first.run_id, KeygenState::Aborted, None), (B256::repeat_byte(3), KeygenState::Open, None));
    assert_eq!(states, [aborted, (second.run_id, KeygenState::Sealed, key), open]);
    assert_eq!((rows[0].detail.as_deref(), &rows[1].result, &rows[1].asked), (Some("why"), &Some(vec![1]), &second));
}
