//! The robust opening (`kms_mpc::opening`) under liars: messages of a whole committee, some of them wrong in a chosen way,
//! in a chosen order.

use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use kms_algebra::{Codec, Gr, GrVec, PartyId, PartySet, packing, shamir};
use kms_mpc::opening::Opening;
use kms_mpc::{Committee, wire};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// One opening.
#[derive(Arbitrary, Debug)]
pub struct Story {
    committee: u8,
    seed: u8,
    values: Vec<u128>,
    /// In the order of arrival.
    messages: Vec<Message>,
}

#[derive(Arbitrary, Debug)]
struct Message {
    from: u8,
    lie: Option<Lie>,
}

#[derive(Arbitrary, Debug)]
enum Lie {
    Garbage(Vec<u8>),
    Cut(u8),
    Flip {
        at: u16,
        bit: u8,
    },
    Add(Vec<u128>),
    /// Another polynomial of the right degree, the same for all who say so.
    Collude(u8),
}

/// The committees: all ring degrees, small and large.
const COMMITTEES: [(usize, usize); 5] = [(4, 1), (7, 2), (10, 3), (13, 4), (16, 3)];

/// Runs it. With at most t liars: an answer is the right one, and nobody honest is blamed.
pub fn check(story: &Story) {
    let (n, t) = COMMITTEES[usize::from(story.committee) % COMMITTEES.len()];
    if n <= 15 { run::<4>(story, n, t) } else { run::<5>(story, n, t) }
}

fn run<const D: usize>(story: &Story, n: usize, t: usize) {
    let values = &story.values[..story.values.len().min(9)];
    if values.is_empty() {
        return;
    }
    let committee = Committee::new(n, t).expect("listed committees are possible");
    let codec = Arc::new(Codec::<u128, D>::new(n, t).expect("listed committees are possible"));
    let honest = shares::<D>(values, n, t, story.seed.into());
    let mut opening = Opening::new(committee, codec, values.len());
    let (mut liars, mut heard) = (PartySet::EMPTY, PartySet::EMPTY);
    let mut decided = false;
    for message in story.messages.iter().take(3 * n) {
        let Some(from) = PartyId::new(1 + message.from % n as u8) else { continue };
        let truth = wire::encode(&honest[from.slot()]);
        let bytes =
            message.lie.as_ref().map_or_else(|| truth.clone(), |lie| spoil::<D>(lie, &truth, values, n, t, from));
        // Whoever's second message differs from its first has lied too.
        if bytes != truth {
            if liars.len() == t && !liars.contains(from) {
                continue;
            }
            liars.insert(from);
        }
        heard.insert(from);
        opening.insert(from, &bytes);
        if opening.ready()
            && let Some(opened) = opening.attempt()
        {
            assert!(!decided, "decided twice");
            assert_eq!(opened[..], *values);
            decided = true;
        }
    }
    let outcome = opening.outcome();
    assert_eq!(outcome.arrived, heard);
    assert_eq!(outcome.arrived.len() + outcome.late.len(), n);
    assert!(outcome.culprits().without(liars).is_empty(), "an honest party is blamed: {:?}", outcome.wrong);
    assert!(outcome.wrong.len() == outcome.culprits().len(), "blamed twice");
    if heard.without(liars).len() > 2 * t && heard.len() == n {
        assert!(decided, "all that were honest are here, but nothing was decided");
    }
}

fn shares<const D: usize>(values: &[u128], n: usize, t: usize, seed: u64) -> Vec<GrVec<u128, D>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let single = shamir::share_words::<u128, D>(values, n, t, &mut rng);
    single.iter().map(packed).collect()
}

/// Element g of the packed vector is Σ_j X^j·share\[g·D + j\].
fn packed<const D: usize>(shares: &GrVec<u128, D>) -> GrVec<u128, D> {
    let elements = packing::packed_len::<D>(shares.len());
    (0..elements)
        .map(|g| {
            (0..D).filter(|j| g * D + j < shares.len()).fold(Gr::ZERO, |sum, j| {
                let mut power = [0; D];
                power[j] = 1;
                sum + Gr(power) * shares.get(g * D + j)
            })
        })
        .collect()
}

fn spoil<const D: usize>(lie: &Lie, truth: &Bytes, values: &[u128], n: usize, t: usize, from: PartyId) -> Bytes {
    let mut bytes = truth.to_vec();
    match lie {
        Lie::Garbage(garbage) => return garbage.clone().into(),
        Lie::Cut(cut) => bytes.truncate(bytes.len() - usize::from(*cut).min(bytes.len())),
        Lie::Flip { at, bit } => {
            let at = usize::from(*at) % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
        }
        Lie::Add(words) => {
            for (place, word) in bytes[wire::HEADER_BYTES..].as_chunks_mut::<16>().0.iter_mut().zip(words) {
                *place = u128::from_le_bytes(*place).wrapping_add(*word).to_le_bytes();
            }
        }
        Lie::Collude(seed) => return wire::encode(&shares::<D>(values, n, t, 256 + u64::from(*seed))[from.slot()]),
    }
    bytes.into()
}
