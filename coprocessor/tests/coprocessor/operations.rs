use alloy_primitives::{B256, U256};
use kms_chain::{follower::BlockRef, ids};
use kms_coprocessor::{
    event::{Event, Kind, Operation},
    store::{HandleStatus, Progress},
};
use kms_encoding::FheType;
use sha2::{Digest, Sha256};

use crate::fixture::{ACL, Bench, CHAIN, Recipient, client, handles, key, post};

fn handle(salt: u8, fhe_type: FheType) -> B256 {
    ids::input_handle(B256::repeat_byte(salt), ACL, CHAIN, 0xff, fhe_type).raw()
}

fn block(number: u64) -> BlockRef {
    let hash = |number: u64| B256::from(U256::from(number));
    BlockRef { number, hash: hash(number), parent: hash(number - 1), timestamp: number }
}

fn op(kind: Kind, result: B256, operands: &[B256], plain: Option<U256>) -> Event {
    Event::Operation(Operation { result, kind, operands: operands.to_vec(), plain })
}

impl Bench {
    pub(crate) async fn say(&self, number: u64, events: Vec<Event>) {
        let at = block(number);
        self.store.apply(CHAIN, &[], &[(at, events, vec![])], at, 0).await.unwrap();
        self.signals.all();
    }

    async fn status_when(&self, handle: B256, arrived: impl Fn(&HandleStatus) -> bool) -> HandleStatus {
        loop {
            let status = self.store.handle_status(handle).await.unwrap();
            if arrived(&status) {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Waits for the object of a wanted handle and decrypts it.
    pub(crate) async fn value(&self, handle: B256) -> U256 {
        let arrived = |status: &HandleStatus| status.digest.is_some() || status.progress == Progress::Failed;
        let status = self.status_when(handle, arrived).await;
        let digest = status.digest.unwrap_or_else(|| panic!("{handle} failed: {:?}", status.failure));
        let object = self.objects.get(digest).await.unwrap().unwrap();
        key().decrypt(&object, handle)
    }
}

#[tokio::test]
async fn operations_give_the_right_values() {
    let bench = Bench::start().await;
    let to = Recipient::default();
    let list = key().encrypt(&[(FheType::Bool, 1), (FheType::Uint64, 1_000), (FheType::Uint8, 250)], &to);
    let (_, answer) = post(&bench.url("/v1/inputs"), &to, &list).await;
    let [flag, wide, narrow] = handles(&answer)[..] else { panic!("{answer}") };

    let mut events: Vec<Event> = [flag, wide, narrow].iter().map(|input| op(Kind::Input, *input, &[], None)).collect();
    let mut expected = vec![(flag, U256::from(1)), (wide, U256::from(1_000)), (narrow, U256::from(250))];
    let mut salt = 0;
    let mut next = |kind, fhe_type, operands: &[B256], plain: Option<U256>, value: U256| {
        salt += 1;
        let result = handle(salt, fhe_type);
        events.push(op(kind, result, operands, plain));
        expected.push((result, value));
        result
    };
    use FheType::{Address, Bool, Uint8, Uint64, Uint128, Uint256};
    let n = |value: u64| U256::from(value);
    let seven = next(Kind::Trivial, Uint64, &[], Some(n(7)), n(7));
    let sum = next(Kind::Add, Uint64, &[wide, seven], None, n(1_007));
    next(Kind::Add, Uint8, &[narrow], Some(n(10)), n(4));
    next(Kind::Sub, Uint64, &[seven, wide], None, n(7).wrapping_sub(n(1_000)) & U256::from(u64::MAX));
    next(Kind::Sub, Uint64, &[sum], Some(n(7)), n(1_000));
    next(Kind::Eq, Bool, &[wide, sum], None, n(0));
    next(Kind::Eq, Bool, &[sum], Some(n(1_007)), n(1));
    let least = next(Kind::Ge, Bool, &[sum, wide], None, n(1));
    next(Kind::Ge, Bool, &[wide], Some(n(1_001)), n(0));
    next(Kind::Eq, Bool, &[flag, least], None, n(1));
    next(Kind::Cast, Uint8, &[wide], None, n(1_000 % 256));
    next(Kind::Cast, Uint128, &[narrow], None, n(250));
    let one = next(Kind::Cast, Uint64, &[flag], None, n(1));
    next(Kind::Select, Uint64, &[flag, one, seven], None, n(1));
    let other = next(Kind::Eq, Bool, &[one, seven], None, n(0));
    next(Kind::Select, Uint64, &[other, one, seven], None, n(7));
    let huge = U256::MAX - n(5);
    let big = next(Kind::Trivial, Uint256, &[], Some(huge), huge);
    next(Kind::Eq, Bool, &[big], Some(huge), n(1));
    let account = U256::from(1) << 159;
    next(Kind::Trivial, Address, &[], Some(account), account);

    events.push(Event::Wanted(expected.iter().map(|(handle, _)| *handle).collect()));
    bench.say(1, events).await;
    for (handle, value) in expected {
        assert_eq!(bench.value(handle).await, value, "{handle}");
    }
}

#[tokio::test]
async fn only_what_is_wanted_is_squashed_and_its_bytes_hash_to_the_digest() {
    let bench = Bench::start().await;
    let (a, b) = (handle(1, FheType::Uint8), handle(2, FheType::Uint8));
    let trivial = |result| op(Kind::Trivial, result, &[], Some(U256::from(9)));
    bench.say(1, vec![trivial(a), trivial(b)]).await;
    bench.status_when(b, |status| status.progress == Progress::Computed).await;
    bench.say(2, vec![Event::Wanted(vec![b])]).await;
    assert_eq!(bench.value(b).await, U256::from(9));
    assert_eq!(bench.store.handle_status(a).await.unwrap().digest, None);

    let get = |path: String| client().get(bench.url(&path)).send();
    let status: serde_json::Value = get(format!("/v1/handles/{b}")).await.unwrap().json().await.unwrap();
    assert_eq!(status["state"], "computed");
    let digest = status["digest"].as_str().unwrap().to_owned();
    let response = get(format!("/ct/{}", &digest[2..])).await.unwrap();
    assert!(response.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let bytes = response.bytes().await.unwrap();
    assert_eq!(format!("0x{}", hex::encode(Sha256::digest(&bytes))), digest);
    assert_eq!(get(format!("/ct/{}", "00".repeat(32))).await.unwrap().status().as_u16(), 404);
    assert_eq!(get("/ct/xyz".into()).await.unwrap().status().as_u16(), 400);
    let unknown: serde_json::Value =
        get(format!("/v1/handles/{}", handle(77, FheType::Bool))).await.unwrap().json().await.unwrap();
    assert_eq!((&unknown["state"], &unknown["digest"]), (&"unknown".into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn what_cannot_be_computed_says_why_and_does_not_stop_the_rest() {
    let bench = Bench::start().await;
    let [a, bad, after, unknown, lost] = [1, 2, 3, 4, 5].map(|salt| handle(salt, FheType::Uint8));
    let flag = handle(6, FheType::Bool);
    let events = vec![
        op(Kind::Trivial, a, &[], Some(U256::from(3))),
        // A plain value that does not fit, an operand of another type, an operand that nobody knows.
        op(Kind::Add, bad, &[a], Some(U256::from(300))),
        op(Kind::Add, after, &[bad, a], None),
        op(Kind::Add, lost, &[a, unknown], None),
        op(Kind::Ge, flag, &[a, handle(9, FheType::Uint64)], None),
        op(Kind::Trivial, handle(9, FheType::Uint64), &[], Some(U256::from(1))),
        op(Kind::Input, handle(10, FheType::Uint8), &[], None),
    ];
    bench.say(1, events).await;
    let failed = |status: &HandleStatus| status.progress == Progress::Failed;
    for (handle, reason) in [
        (bad, "does not fit"),
        (after, "failed"),
        (lost, "unknown"),
        (flag, "not defined"),
        (handle(10, FheType::Uint8), "not posted"),
    ] {
        let failure = bench.status_when(handle, failed).await.failure.unwrap();
        assert!(failure.contains(reason), "{failure}");
    }
    bench.status_when(a, |status| status.progress == Progress::Computed).await;
}
