//! The engine's hot loops, one thread, production dimensions.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use kms_algebra::{Codec, Gr, GrVec, shamir};
use kms_encoding::{FheType, LweBlocks, SecretKeyKind};
use kms_mpc::{Committee, Epoch, Item, PartyId, SessionId, insecure_dealt, prss::Prss};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::report::{Figure, median};

/// Dimension of a squashed block at production parameters.
const DIMENSION: usize = 4096;
/// Time spent on one figure.
const BUDGET: Duration = Duration::from_secs(3);

/// All figures of the area.
///
/// # Errors
/// A committee is out of range: a mistake in this file.
pub(crate) fn run() -> Result<Vec<Figure>> {
    // One thread: the figures are per core.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| {
        Ok(vec![
            mask("mpc.mask.n4", 4, 1)?,
            mask("mpc.mask.n13", 13, 4)?,
            partial_decrypt()?,
            open("mpc.open.n4", 4, 1)?,
            open("mpc.open.n13", 13, 4)?,
        ])
    })
}

/// Runs `work` (which does `items` things) until the budget is spent; items per second, median of the runs.
fn rate(items: usize, mut work: impl FnMut()) -> f64 {
    work();
    let end = Instant::now() + BUDGET;
    let mut rates = Vec::new();
    while Instant::now() < end {
        let clock = Instant::now();
        work();
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        rates.push(items as f64 / clock.elapsed().as_secs_f64());
    }
    median(rates)
}

fn mask(name: &str, n: usize, t: usize) -> Result<Figure> {
    const BATCH: usize = 64;
    let committee = Committee::new(n, t)?;
    let mut rng = StdRng::seed_from_u64(1);
    let keys = insecure_dealt::prss_keys(&committee, &mut rng);
    let own = PartyId::all(n).next().context("a party")?;
    let prss = Prss::<4>::new(&committee, own, &keys[0])?;
    let session = SessionId::from_bytes([7; 32]);
    let mut out = vec![Gr::<u128, 4>([0; 4]); BATCH];
    let value = rate(BATCH, || prss.add_masks(&session, 0, black_box(&mut out)));
    Ok(Figure::new(
        name,
        value,
        "masks/s/core",
        format!("PRSS masks, ({n},{t}), batches of {BATCH}, key derivation included"),
    ))
}

fn partial_decrypt() -> Result<Figure> {
    let committee = Committee::new(4, 1)?;
    let mut rng = StdRng::seed_from_u64(2);
    let keys = insecure_dealt::prss_keys(&committee, &mut rng);
    let own = PartyId::all(4).next().context("a party")?;
    let epoch = Epoch::new(committee, own, &keys[0])?;
    let secret: Vec<u128> = (0..DIMENSION).map(|_| u128::from(rng.random::<bool>())).collect();
    let shares = insecure_dealt::key_shares(&committee, SecretKeyKind::Squashing, &secret, &mut rng);
    let blocks = FheType::Uint256.squashed_blocks();
    let masks = (0..blocks * DIMENSION).map(|_| rng.random()).collect();
    let bodies = (0..blocks).map(|_| rng.random()).collect();
    let blocks_of = LweBlocks::new(SecretKeyKind::Squashing, DIMENSION, 0, masks, bodies)?;
    let items = [Item { session: SessionId::from_bytes([3; 32]), ty: FheType::Uint256, blocks: Arc::new(blocks_of) }];
    epoch.partial_decrypt(&shares[..1], &items)?;
    let value = rate(blocks, || {
        let _ = black_box(epoch.partial_decrypt(&shares[..1], black_box(&items)));
    });
    Ok(Figure::new(
        "mpc.partial_decrypt",
        value,
        "blocks/s/core",
        format!(
            "partial decryption and mask of squashed blocks, dimension {DIMENSION}, 4 ring coefficients, (4,1), {blocks} blocks a call"
        ),
    ))
}

fn open(name: &str, n: usize, t: usize) -> Result<Figure> {
    const VALUES: usize = 4096;
    let mut rng = StdRng::seed_from_u64(3);
    // Four values of Z_2^128 are packed in one ring element.
    let secrets: Vec<Gr<u128, 4>> =
        (0..VALUES / 4).map(|_| Gr([rng.random(), rng.random(), rng.random(), rng.random()])).collect();
    let mut shares = vec![GrVec::<u128, 4>::zeros(secrets.len()); n];
    for (column, secret) in secrets.iter().enumerate() {
        for (party, share) in shamir::share(*secret, n, t, &mut rng).into_iter().enumerate() {
            shares[party].set(column, share);
        }
    }
    let codec = Codec::<u128, 4>::new(n, t)?;
    let received: Vec<(PartyId, &GrVec<u128, 4>)> = PartyId::all(n).zip(&shares).collect();
    codec.decode(&received).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let value = rate(VALUES, || {
        let _ = black_box(codec.decode(black_box(&received)));
    });
    Ok(Figure::new(
        name,
        value,
        "values/s/core",
        format!("decoding {n} shares without errors, four values packed per ring element, {VALUES} a batch"),
    ))
}
