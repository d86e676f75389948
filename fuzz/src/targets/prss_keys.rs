//! The sealed pseudorandom keys of a party (`kms_encoding::prss_keys`).

use kms_encoding::prss_keys::{MAX_BYTES, PrssRun, sets};
use kms_encoding::{PrssKey, PrssKeys, PrssKeysError};

use crate::budget::{FACTOR, bounded};

/// Any bytes; and what they say about a committee, with its keys and commitments put right.
pub fn check(data: &[u8]) {
    let _ = read(data);
    if let [n, t, index, attempt, spoil, ..] = data {
        built(1 + u16::from(n % 13), u16::from(t % 5), u16::from(*index), u32::from(*attempt), *spoil);
    }
}

fn read(bytes: &[u8]) -> Result<PrssKeys, PrssKeysError> {
    let keys = bounded(bytes.len(), FACTOR, || PrssKeys::from_bytes(bytes))?;
    assert!(bytes.len() <= MAX_BYTES);
    assert_eq!(keys.check(), Ok(()));
    assert_eq!(keys.to_bytes().expect("what was read is writable")[..], *bytes, "one encoding per object");
    Ok(keys)
}

fn built(n: u16, t: u16, index: u16, attempt: u32, spoil: u8) {
    let run = PrssRun { context_id: [1; 32], epoch_id: [2; 32], attempt };
    let possible = t >= 1 && n > 3 * t && (1..=n).contains(&index) && attempt >= 1;
    let key = |set: u32| PrssKey { set, key: [set as u8; 16] };
    let mut keys = PrssKeys { run, n, t, index, commitments: Vec::new(), keys: Vec::new() };
    if possible {
        assert!(sets(n, t).all(|set| set.count_ones() == u32::from(n - t) && set >> n == 0));
        keys.keys = sets(n, t).filter(|set| set >> (index - 1) & 1 == 1).map(key).collect();
        keys.commitments = sets(n, t).map(|set| run.commitment(&key(set))).collect();
    }
    let spoiled = match spoil {
        0 => false,
        at if at % 3 == 0 && !keys.keys.is_empty() => {
            let at = usize::from(at) % keys.keys.len();
            keys.keys[at].key[0] ^= 1;
            true
        }
        at if at % 3 == 1 && !keys.keys.is_empty() => {
            keys.keys.remove(usize::from(at) % keys.keys.len());
            true
        }
        _ => keys.commitments.pop().is_some(),
    };
    assert_eq!(keys.check().is_ok(), possible && !spoiled, "{:?}", keys.check());
    if let Ok(bytes) = keys.to_bytes() {
        assert_eq!(read(&bytes).expect("what was written is readable"), keys);
    }
}
