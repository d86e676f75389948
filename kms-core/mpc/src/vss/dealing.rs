//! A dealing: symmetric bivariate polynomials, rows, and the table of hashes that binds the dealer to them.

use kms_algebra::{Gr, GrVec, PartyId, Word};
use rand::CryptoRng;
use sha3::{Digest, Sha3_256};

use crate::{Committee, SessionId};

/// SHA3-256 of values of a dealing.
pub type Hash = [u8; 32];

/// What the hashes of a dealing are bound to.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The run.
    pub session: SessionId,
    /// First channel of the sharing in the run.
    pub first: u8,
    /// The dealer.
    pub dealer: PartyId,
}

/// Place of the pair (i, j) in a table, i ≠ j.
#[must_use]
pub const fn pair(i: PartyId, j: PartyId) -> usize {
    let (low, high) = if i.slot() < j.slot() { (i.slot(), j.slot()) } else { (j.slot(), i.slot()) };
    high * (high - 1) / 2 + low
}

/// Elements of a row of this many values.
#[must_use]
pub const fn row_len(committee: &Committee, values: usize) -> usize {
    (values + 1) * (committee.t() + 1)
}

/// One dealer's polynomials, as the rows of all parties and the table. Erased on drop.
pub struct Dealing<W: Word, const D: usize> {
    /// Row of each party.
    pub rows: Vec<GrVec<W, D>>,
    /// Hash of each pair of parties.
    pub table: Vec<Hash>,
}

impl<W: Word, const D: usize> core::fmt::Debug for Dealing<W, D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Dealing({} parties)", self.rows.len())
    }
}

impl<W: Word, const D: usize> Dealing<W, D> {
    /// Deals secrets: for each one, and for a random value more, F(x, y) = Σ a_pq·x^p·y^q with a_pq = a_qp uniformly
    /// random, p, q ≤ t, and a_00 the secret. The row of party i is F(·, α_i), as coefficients.
    ///
    /// (n·(t + 1)² products in the ring per value.)
    pub fn new(committee: &Committee, binding: &Binding, secrets: &GrVec<W, D>, rng: &mut impl CryptoRng) -> Self {
        let width = committee.t() + 1;
        let mut rows = vec![GrVec::zeros(row_len(committee, secrets.len())); committee.n()];
        let mut a = GrVec::<W, D>::zeros(width * width);
        for value in 0..=secrets.len() {
            for p in 0..width {
                for q in p..width {
                    let coefficient = Gr::random(rng);
                    a.set(p * width + q, coefficient);
                    a.set(q * width + p, coefficient);
                }
            }
            if value < secrets.len() {
                a.set(0, secrets.get(value));
            }
            for (party, row) in committee.parties().zip(&mut rows) {
                let point = Gr::<W, D>::point(party);
                for q in 0..width {
                    let f = (0..width).rev().fold(Gr::ZERO, |sum, p| sum * point + a.get(p * width + q));
                    row.set(value * width + q, f);
                }
            }
        }
        let table = committee
            .parties()
            .zip(&rows)
            .flat_map(|(i, row)| {
                committee.parties().take(i.slot()).map(move |j| pair_hash(committee, binding, i, j, row))
            })
            .collect();
        Self { rows, table }
    }
}

/// Hash of F(α_i, α_j) of all values, out of the row of party i; the same out of the row of party j.
///
/// SHA3-256("KMS-VSS-PAIR-1" ‖ session ‖ u8 first channel ‖ u8 dealer ‖ u8 lower index ‖ u8 higher index ‖ words). The
/// random value that every dealing has at its end keeps the hash from being a test for guesses of the others.
#[must_use]
pub fn pair_hash<W: Word, const D: usize>(
    committee: &Committee,
    binding: &Binding,
    i: PartyId,
    j: PartyId,
    row: &GrVec<W, D>,
) -> Hash {
    let width = committee.t() + 1;
    let point = Gr::<W, D>::point(j);
    let mut hash = Sha3_256::new();
    hash.update(b"KMS-VSS-PAIR-1");
    hash.update(binding.session.as_bytes());
    hash.update([binding.first, binding.dealer.index(), i.min(j).index(), i.max(j).index()]);
    let mut bytes = zeroize::Zeroizing::new([0u8; 16]);
    for value in 0..row.len() / width {
        let f = (0..width).rev().fold(Gr::ZERO, |sum, q| sum * point + row.get(value * width + q));
        for word in f.0 {
            word.write_le(bytes.as_mut_slice());
            hash.update(&bytes[..W::BYTES]);
        }
    }
    hash.finalize().into()
}

/// Hashes of the pairs of party i with all others, ascending, out of its row.
#[must_use]
pub fn row_hashes<W: Word, const D: usize>(
    committee: &Committee,
    binding: &Binding,
    i: PartyId,
    row: &GrVec<W, D>,
) -> Vec<Hash> {
    committee.parties().filter(|j| *j != i).map(|j| pair_hash(committee, binding, i, j, row)).collect()
}

/// The same hashes out of a table.
#[must_use]
pub fn table_hashes(committee: &Committee, table: &[Hash], i: PartyId) -> Vec<Hash> {
    committee.parties().filter(|j| *j != i).map(|j| table[pair(i, j)]).collect()
}

/// Digest of a row: SHA3-256("KMS-VSS-ROW-1" ‖ hashes of its pairs).
#[must_use]
pub fn digest(hashes: &[Hash]) -> Hash {
    let mut hash = Sha3_256::new();
    hash.update(b"KMS-VSS-ROW-1");
    hashes.iter().for_each(|h| hash.update(h));
    hash.finalize().into()
}

/// A party's shares of the values of a dealing: the constants of its row, without the random value at the end.
#[must_use]
pub fn shares<W: Word, const D: usize>(committee: &Committee, row: &GrVec<W, D>) -> GrVec<W, D> {
    let width = committee.t() + 1;
    (0..row.len() / width - 1).map(|value| row.get(value * width)).collect()
}

#[cfg(test)]
mod tests {
    use kms_algebra::Codec;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;

    fn check<W: Word, const D: usize>(n: usize, t: usize) {
        let c = Committee::new(n, t).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let binding = Binding { session: SessionId::from_bytes([1; 32]), first: 1, dealer: PartyId::new(1).unwrap() };
        let secrets: GrVec<W, D> = (0..5).map(|_| Gr::random(&mut rng)).collect();
        let dealing = Dealing::new(&c, &binding, &secrets, &mut rng);
        assert_eq!(dealing.table.len(), n * (n - 1) / 2);
        for (i, row) in c.parties().zip(&dealing.rows) {
            assert_eq!(row_hashes(&c, &binding, i, row), table_hashes(&c, &dealing.table, i));
        }
        let shares: Vec<_> = dealing.rows.iter().map(|row| shares(&c, row)).collect();
        let decoded = Codec::new(n, t).unwrap().decode(&c.parties().zip(&shares).collect::<Vec<_>>()).unwrap();
        assert_eq!((decoded.values, decoded.agreeing.len()), (secrets, n));
    }

    #[test]
    fn rows_agree_pairwise_and_share_the_secrets() {
        check::<u64, 4>(4, 1);
        check::<u128, 4>(7, 2);
        check::<u64, 4>(13, 4);
        check::<u64, 5>(16, 4);
    }

    #[test]
    fn hashes_are_bound_to_session_channel_dealer_and_pair() {
        let c = Committee::new(4, 1).unwrap();
        let parties: Vec<PartyId> = c.parties().collect();
        let row = GrVec::<u64, 4>::zeros(row_len(&c, 1));
        let binding = |session, first, dealer: usize| Binding {
            session: SessionId::from_bytes([session; 32]),
            first,
            dealer: parties[dealer],
        };
        let all = [
            pair_hash(&c, &binding(1, 1, 0), parties[0], parties[1], &row),
            pair_hash(&c, &binding(2, 1, 0), parties[0], parties[1], &row),
            pair_hash(&c, &binding(1, 2, 0), parties[0], parties[1], &row),
            pair_hash(&c, &binding(1, 1, 1), parties[0], parties[1], &row),
            pair_hash(&c, &binding(1, 1, 0), parties[0], parties[2], &row),
        ];
        assert!((0..5).all(|i| (0..i).all(|j| all[i] != all[j])));
    }
}
