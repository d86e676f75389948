//! What key generation consists of: random bits, and products of masks with shares. Without a network.

use std::hint::black_box;

use anyhow::{Context, Result};
use kms_algebra::{
    GrVec, Word,
    negacyclic::{SharePoly, add_products},
};
use kms_mpc::{
    Committee, PartyId, SessionId,
    dkg::{
        bits,
        double::{self, Double},
    },
    insecure_dealt,
    prss::Prss,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::{mpc::rate, report::Figure};

/// Rows of the 128-bit squashing key at production parameters.
const SQUASHING_ROWS: usize = 918 * 9;

/// All figures of the area.
///
/// # Errors
/// A committee is out of range: a mistake in this file.
pub(crate) fn run() -> Result<Vec<Figure>> {
    let mut figures =
        vec![committee_bits::<u64>("dkg.bits64.n4", 4, 1)?, committee_bits::<u128>("dkg.bits128.n4", 4, 1)?];
    // One thread: the figures are per core.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| {
        figures.extend(party_bits::<u64>("64", 13, 4)?);
        figures.extend(party_bits::<u128>("128", 13, 4)?);
        figures.push(products(SQUASHING_ROWS)?);
        anyhow::Ok(())
    })?;
    Ok(figures)
}

struct Parties {
    committee: Committee,
    prss: Vec<Prss<4>>,
    double: Double<4>,
}

impl Parties {
    fn new(n: usize, t: usize) -> Result<Self> {
        let committee = Committee::new(n, t)?;
        let keys = insecure_dealt::prss_keys(&committee, &mut StdRng::seed_from_u64(1));
        let prss = committee.parties().zip(&keys).map(|(own, keys)| Prss::new(&committee, own, keys));
        Ok(Self { committee, prss: prss.collect::<Result<_, _>>()?, double: Double::new(&committee)? })
    }

    /// What a party does when it has everybody's shares.
    fn solve<W: Word>(&self, a: GrVec<W, 4>, packed: &[(PartyId, &GrVec<W, 4>)]) -> Result<GrVec<W, 4>> {
        let count = a.len();
        let opened = self.double.open(packed).context("honest shares open")?;
        Ok(bits::solve(a, &double::unpack(&opened, count))?)
    }
}

fn session(number: u64) -> SessionId {
    let mut session = [9; 32];
    session[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::from_bytes(session)
}

/// Bits per second of a whole committee on all cores, each party with all its work.
fn committee_bits<W: Word>(name: &str, n: usize, t: usize) -> Result<Figure> {
    const COUNT: usize = 1 << 16;
    let parties = Parties::new(n, t)?;
    let mut sessions = 0;
    let mut failed = None;
    let value = rate(COUNT, || {
        sessions += 1;
        let (a, packed): (Vec<_>, Vec<_>) =
            parties.prss.par_iter().map(|prss| bits::square::<W, 4>(prss, &session(sessions), 0, COUNT)).unzip();
        let packed: Vec<_> = parties.committee.parties().zip(&packed).collect();
        let done: Result<Vec<_>> = a.into_par_iter().map(|a| parties.solve(a, &packed)).collect();
        failed = black_box(done).err().or(failed.take());
    });
    failed.map_or(Ok(()), Err)?;
    Ok(Figure::new(
        name,
        value,
        "bits/s",
        format!(
            "shared random bits of {} bits each, ({n},{t}), all {n} parties in this process on {} cores, {COUNT} of a new session at a time",
            W::BITS,
            rayon::current_num_threads()
        ),
    ))
}

/// Bits per second and core of one party, and what it sends for one.
fn party_bits<W: Word>(width: &str, n: usize, t: usize) -> Result<[Figure; 2]> {
    const COUNT: usize = 1 << 13;
    let parties = Parties::new(n, t)?;
    let others: Vec<_> = parties.prss.iter().map(|prss| bits::square::<W, 4>(prss, &session(0), 0, COUNT).1).collect();
    let packed: Vec<_> = parties.committee.parties().zip(&others).collect();
    let own = parties.prss.first().context("a party")?;
    let mut failed = None;
    let value = rate(COUNT, || {
        let (a, sent) = bits::square::<W, 4>(own, &session(0), 0, COUNT);
        black_box(sent);
        failed = black_box(parties.solve(a, black_box(&packed))).err().or(failed.take());
    });
    failed.map_or(Ok(()), Err)?;
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let bytes = (others[0].words().len() * W::BYTES * (n - 1)) as f64 / COUNT as f64;
    let (n_t, sets) = (format!("({n},{t})"), own.sets());
    Ok([
        Figure::new(
            &format!("dkg.bits{width}.n{n}"),
            value,
            "bits/s/core",
            format!(
                "shared random bits of {width} bits each, {n_t}, one party in {sets} PRSS sets, without network, {COUNT} of a session at a time"
            ),
        ),
        Figure::new(
            &format!("dkg.bytes_per_bit{width}.n{n}"),
            bytes,
            "bytes",
            format!(
                "sent by a party per random bit of {width} bits, {n_t}: packed shares to {} parties; a signature and a header per chunk come on top",
                n - 1
            ),
        ),
    ])
}

/// Rows of the squashing key: two masks times shares of two polynomials of 2048 coefficients, four ring coefficients.
fn products(rows: usize) -> Result<Figure> {
    const LEN: usize = 2048;
    let mut rng = StdRng::seed_from_u64(4);
    let mut words = |count: usize| (0..count).map(|_| rng.random()).collect::<Vec<u128>>();
    let masks = [words(LEN), words(LEN)];
    let share =
        |words| Ok::<_, anyhow::Error>(SharePoly::<u128, 4>::new(&GrVec::from_words(words).context("whole elements")?));
    let shares = [share(words(4 * LEN))?, share(words(4 * LEN))?];
    let mut out = GrVec::zeros(LEN);
    let value = rate(1, || {
        let masks = black_box(&masks);
        add_products(&[&masks[0], &masks[1]], &[&shares[0], &shares[1]], black_box(&mut out));
    });
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let seconds = rows as f64 / value;
    Ok(Figure::new(
        "dkg.products128",
        value,
        "rows/s/core",
        format!(
            "rows of the squashing key without noise: two masks times a share of two polynomials of {LEN} coefficients mod 2^128, 4 ring coefficients; {rows} rows take {seconds:.1} s"
        ),
    ))
}
