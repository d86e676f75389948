//! Robust openings of random values: several rounds of one job at once, any number of values.

use core::pin::pin;
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::{Either, select};
use kms_algebra::{Codec, Gr, GrVec, packing, shamir};
use rand::Rng;

use super::judge::{Judge, PATIENCE, draw_lies};
use crate::malicious::{Behaviour, LIES, Malicious};
use crate::opening::Opening;
use crate::sim::{Breach, Cast, Run, Scenario, Sim, Summary, Timing, Violation, Weather};
use crate::{Closed, Committee, JobId, Network, Outcome, PartyId, wire};

/// See the module.
pub(super) struct OpeningScenario;

/// One opening as all parties know it.
struct Round<const D: usize> {
    number: u8,
    values: Vec<u128>,
    shares: Vec<GrVec<u128, D>>,
}

impl<const D: usize> Round<D> {
    fn draw(committee: &Committee, number: u8, count: usize, rng: &mut impl Rng) -> Self {
        let values: Vec<u128> = (0..count).map(|_| rng.random()).collect();
        let constants: Vec<Gr<u128, D>> = values.iter().map(|v| Gr::constant(*v)).collect();
        let packed = packing::pack(&constants);
        let mut shares = vec![GrVec::zeros(packed.len()); committee.n()];
        for (i, secret) in packed.iter().enumerate() {
            for (share, s) in shares.iter_mut().zip(shamir::share(secret, committee.n(), committee.t(), rng)) {
                share.set(i, s);
            }
        }
        Self { number, values, shares }
    }
}

type Opened = Arc<Mutex<Vec<Vec<u128>>>>;
type Answer = Result<Outcome, Closed>;

/// The opening of one round, as a protocol would drive it.
async fn open<N: Network, const D: usize>(
    net: &N,
    mut opening: Opening<D>,
    job: JobId,
    round: u8,
    message: Bytes,
    opened: &Opened,
    patience: Duration,
) -> Answer {
    for party in PartyId::all(net.n()).filter(|p| *p != net.own()) {
        net.send(job, round, party, message.clone());
    }
    opening.insert(net.own(), &message);
    loop {
        if opening.ready()
            && let Some(values) = opening.attempt()
        {
            opened.lock().unwrap_or_else(PoisonError::into_inner).push(values.to_vec());
            break;
        }
        let (from, message) = net.recv(job, round).await?;
        opening.insert(from, &message);
    }
    let mut timeout = pin!(net.sleep(patience));
    while !opening.complete() {
        match select(pin!(net.recv(job, round)), timeout.as_mut()).await {
            Either::Left((received, _)) => {
                let (from, message) = received?;
                opening.insert(from, &message);
            }
            Either::Right(_) => break,
        }
    }
    Ok(opening.outcome())
}

impl Scenario for OpeningScenario {
    fn name(&self) -> &'static str {
        "opening"
    }

    fn timings(&self) -> &'static [Timing] {
        &[Timing::Asynchronous, Timing::BoundViolated]
    }

    fn lies(&self) -> Vec<&'static str> {
        LIES.iter().map(|lie| lie.name).collect()
    }

    fn play(&self, run: &Run) -> Result<Summary, Violation> {
        match run.committee.degree() {
            4 => play::<4>(run),
            _ => play::<5>(run),
        }
    }
}

fn play<const D: usize>(run: &Run) -> Result<Summary, Violation> {
    let committee = run.committee;
    let cast = Cast::draw(&committee, run.timing, run.lie.is_some(), &mut run.rng(1));
    let weather = Weather::draw(&committee, run.timing, &cast, true, &mut run.rng(2));
    let lies = draw_lies(run, &cast, &mut run.rng(3));
    let mut rng = run.rng(4);
    let (count, rounds) = (rng.random_range(1..=48), rng.random_range(1..=3));
    let patience =
        if run.lie.is_some() || rng.random_bool(0.7) { PATIENCE } else { Duration::from_secs(rng.random_range(0..3)) };
    let mut job = [0; 32];
    rng.fill(&mut job);
    let job = JobId::from_bytes(job);
    let rounds: Vec<Round<D>> = (1..=rounds).map(|r| Round::draw(&committee, r, count, &mut rng)).collect();
    // What replaying liars send: shares of other values, from another opening of the same shape.
    let other: Round<D> = Round::draw(&committee, 0, count, &mut rng);
    let codec = Arc::new(Codec::<u128, D>::new(committee.n(), committee.t()).expect("a committee that exists"));

    let mut sim: Sim<Answer> = Sim::new(committee.n(), run.seed, weather.profile);
    if run.log {
        sim.keep_log();
    }
    weather.apply(&mut sim);
    let mut kept: Vec<(PartyId, &Round<D>, Opened)> = Vec::new();
    for party in committee.parties() {
        for round in &rounds {
            let opened = Opened::default();
            kept.push((party, round, Arc::clone(&opened)));
            let (number, message) = (round.number, wire::encode(&round.shares[party.slot()]));
            let (net, codec, start) = (sim.net(party), Arc::clone(&codec), weather.starts[party.slot()]);
            let new = move || Opening::new(committee, Arc::clone(&codec), count);
            let Some((_, lie)) = lies.get(&party) else {
                sim.spawn_durable(party, move || {
                    let (net, opening, message, opened) = (net.clone(), new(), message.clone(), Arc::clone(&opened));
                    async move {
                        net.sleep(start).await;
                        open(&net, opening, job, number, message, &opened, patience).await
                    }
                });
                continue;
            };
            let net = Malicious::new(net, *lie).with_stock(wire::encode(&other.shares[party.slot()]));
            sim.spawn(party, async move {
                net.sleep(start).await;
                let answer = open(&net, new(), job, number, message, &opened, patience).await;
                net.linger().await;
                answer
            });
        }
    }
    let report = sim.report();

    let within = run.timing != Timing::BoundViolated;
    let truthful = cast.truthful();
    let mut summary = Summary { delivered: report.delivered, trace: report.trace, ..Summary::default() };
    let verdict = || -> Result<Summary, Violation> {
        for ((party, round, opened), (_, answer)) in kept.iter().zip(&report.results) {
            if !truthful.contains(*party) {
                continue;
            }
            let number = round.number;
            if opened.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|values| *values != round.values) {
                return Err(Violation::new(
                    Breach::WrongResult,
                    format!("P{party} opens other values in round {number}"),
                ));
            }
            match answer {
                Some(Ok(outcome)) => {
                    let (patient, first) = (patience == PATIENCE, number == 1);
                    let judge = Judge { committee: &committee, cast: &cast, lies: &lies, within, patient, first };
                    judge.judge(*party, outcome)?;
                    summary.results += 1;
                    summary.named += outcome.wrong.len() as u64;
                }
                Some(Err(Closed)) => unreachable!("the simulated network is never closed"),
                None if within && cast.honest.contains(*party) => {
                    let text =
                        format!("P{party} waits for ever in round {number} ({:?} at {:?})", report.end, report.at);
                    return Err(Violation::new(Breach::Hang, text));
                }
                None => summary.unfinished += 1,
            }
        }
        let message = wire::message_len::<D>(packing::packed_len::<D>(count));
        let loud = lies.values().filter(|(_, lie)| *lie != Behaviour::Silent).count();
        let fair = rounds.len() * (committee.n() * message + loud * (50 * message + (1 << 17)));
        if let Some((party, peak)) = weather.over_memory(&report, truthful, fair) {
            return Err(Violation::new(Breach::Memory, format!("{peak} bytes wait at P{party}")));
        }
        summary.peak = truthful.iter().map(|p| report.peaks[p.slot()]).max().unwrap_or(0);
        summary.log = report.log.clone();
        Ok(summary)
    };
    verdict().map_err(|mut violation| {
        violation.setting = format!("{cast:?}\n{lies:?}\n{weather:?}\npatience {patience:?}");
        violation.log = report.log.clone();
        violation
    })
}
