//! The engine: its hot loops on one thread at production dimensions, set against what the machine can do at most, and a
//! whole committee in one process.

mod cluster;
mod peak;

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

use self::peak::Peak;
use crate::report::{Figure, median};

/// Dimension of a squashed block at production parameters.
const DIMENSION: usize = 4096;
/// Time spent on one figure: so many windows of so long. See [`rate`].
const WINDOWS: usize = 7;
const WINDOW: Duration = Duration::from_millis(400);

/// All figures of the area.
///
/// # Errors
/// A committee is out of range: a mistake in this file.
pub(crate) fn run() -> Result<Vec<Figure>> {
    // One thread: the figures are per core.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut figures = pool.install(|| {
        let peak = Peak::measure();
        let mut figures = peak.figures();
        figures.extend([
            mask("mpc.mask.n4", 4, 1, 64, &peak)?,
            mask("mpc.mask.n7", 7, 2, 64, &peak)?,
            mask("mpc.mask.n13", 13, 4, 64, &peak)?,
            mask("mpc.mask16.n13", 13, 4, 16, &peak)?,
            partial_decrypt(&peak)?,
            open("mpc.open.n4", 4, 1, 0, &peak)?,
            open("mpc.open.n13", 13, 4, 0, &peak)?,
            open("mpc.open_4wrong.n13", 13, 4, 4, &peak)?,
        ]);
        anyhow::Ok(figures)
    })?;
    figures.extend(cluster::run("mpc.cluster.n13", 13, 4)?);
    Ok(figures)
}

/// Runs `work` (which does `items` things) again and again; items per second. The median of a window's runs is deaf to
/// single interruptions, the best window to neighbours that come and go: noise only ever slows down.
pub(crate) fn rate(items: usize, mut work: impl FnMut()) -> f64 {
    work();
    (0..WINDOWS)
        .map(|_| {
            let end = Instant::now() + WINDOW;
            let mut rates = Vec::new();
            while rates.is_empty() || Instant::now() < end {
                let clock = Instant::now();
                work();
                #[expect(clippy::cast_precision_loss, reason = "small counts")]
                rates.push(items as f64 / clock.elapsed().as_secs_f64());
            }
            median(rates)
        })
        .fold(0.0, f64::max)
}

/// Masks of sessions that were never seen before, so that every call derives its keys.
fn mask(name: &str, n: usize, t: usize, batch: usize, peak: &Peak) -> Result<Figure> {
    let committee = Committee::new(n, t)?;
    let mut rng = StdRng::seed_from_u64(1);
    let keys = insecure_dealt::prss_keys(&committee, &mut rng);
    let own = PartyId::all(n).next().context("a party")?;
    let prss = Prss::<4>::new(&committee, own, &keys[0])?;
    let mut sessions = 0u64;
    let mut out = vec![Gr::<u128, 4>([0; 4]); batch];
    let value = rate(batch, || {
        sessions += 1;
        let mut session = [7; 32];
        session[..8].copy_from_slice(&sessions.to_le_bytes());
        prss.add_masks(&SessionId::from_bytes(session), 0, black_box(&mut out));
    });
    // Per set: three blocks of CMAC for a batch, two of the stream for each mask.
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let blocks = prss.sets() as f64 * (2.0 + 3.0 / batch as f64);
    Ok(Figure::new(
        name,
        value,
        "masks/s/core",
        format!(
            "PRSS masks, ({n},{t}), {batch} of one new session a call, key derivation included; {blocks:.0} AES blocks a mask, {}",
            peak.share_of_aes(value * blocks)
        ),
    ))
}

fn partial_decrypt(peak: &Peak) -> Result<Figure> {
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
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let products = (4 * DIMENSION) as f64;
    Ok(Figure::new(
        "mpc.partial_decrypt",
        value,
        "blocks/s/core",
        format!(
            "partial decryption and mask of squashed blocks, dimension {DIMENSION}, 4 ring coefficients, (4,1), {blocks} blocks a call; {products} products mod 2^128 a block, {}",
            peak.share_of_products(value * products)
        ),
    ))
}

/// Opens batches in which the last `wrong` parties' shares are wrong everywhere; the decoder starts anew with each.
fn open(name: &str, n: usize, t: usize, wrong: usize, peak: &Peak) -> Result<Figure> {
    const VALUES: usize = 4096;
    let mut rng = StdRng::seed_from_u64(3);
    // Four values of Z_2^128 are packed in one ring element.
    let secrets: GrVec<u128, 4> = (0..VALUES / 4).map(|_| Gr::random(&mut rng)).collect();
    let mut shares = vec![GrVec::<u128, 4>::zeros(secrets.len()); n];
    for (column, secret) in secrets.iter().enumerate() {
        for (party, share) in shamir::share(secret, n, t, &mut rng).into_iter().enumerate() {
            let error = if party < n - wrong { Gr::ZERO } else { Gr::random(&mut rng) };
            shares[party].set(column, share + error);
        }
    }
    let codec = Codec::<u128, 4>::new(n, t)?;
    let received: Vec<(PartyId, &GrVec<u128, 4>)> = PartyId::all(n).zip(&shares).collect();
    let decoded = codec.decode(&received)?;
    anyhow::ensure!(decoded.values == secrets && decoded.culprits.len() == wrong, "wrong values or culprits");
    let value = rate(VALUES, || {
        let _ = black_box(codec.decode(black_box(&received)));
    });
    // The shares beyond the base of t + 1 are computed from it and compared, and the secret is computed.
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let products = ((n - wrong - t) * 4 * (t + 1) * 4) as f64 / 4.0;
    let liars = if wrong == 0 { "without errors".to_owned() } else { format!("the same {wrong} wrong in all values") };
    Ok(Figure::new(
        name,
        value,
        "values/s/core",
        format!(
            "decoding {n} shares, {liars}, four values packed per ring element, {VALUES} a batch; {products} products mod 2^128 a value, {}",
            peak.share_of_products(value * products)
        ),
    ))
}
