//! The protocols in synchronous rounds: broadcast, verifiable sharing, coin, PRSS set-up.
//!
//! Within the bound: every honest party that stays ends, all agree, all that honest parties hold fits together, nobody
//! honest is named or called late, and liars are named by those who see their lie. A party that restarts listens, counts
//! towards t, and what it learns is what all learned. With the bound violated there is still nobody honest named, no
//! message put into an honest mouth, and no two results where a protocol promises one.

mod judge;
mod lies;

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use kms_algebra::{Gr, GrVec};
use kms_encoding::PrssKey;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;

use self::judge::Judge;
use self::lies::{Kind, SyncLie};
use crate::broadcast::broadcast;
use crate::lockstep::malicious::Tampering;
use crate::lockstep::{Lockstep, Report};
use crate::malicious::Malicious;
use crate::prss_setup::{self, DealingSeed};
use crate::sim::{BOUND, Cast, Run, Scenario, Sim, Summary, Timing, Violation, Weather};
use crate::vss::{self, Dealing, dealing::Binding};
use crate::{Committee, Network, PartyId, SessionId, broadcast, coin};

/// One of the protocols as a scenario.
pub(super) struct LockstepScenario(pub(super) Kind);

impl LockstepScenario {
    pub(super) const BROADCAST: Self = Self(Kind::Broadcast);
    pub(super) const SHARING: Self = Self(Kind::Sharing);
    pub(super) const COIN: Self = Self(Kind::Coin);
    pub(super) const SETUP: Self = Self(Kind::Setup);
}

/// First channel of the protocols that do not choose it themselves.
const FIRST: u8 = 1;

/// What one run is about.
struct Plan {
    committee: Committee,
    kind: Kind,
    session: SessionId,
    /// What each party broadcasts, by slot.
    messages: Vec<Bytes>,
    /// Values of a sharing.
    values: usize,
    /// Randomness of each party's dealing, by slot.
    seeds: Vec<[u8; 32]>,
}

/// What a party got.
#[derive(Clone, Debug)]
enum Got {
    Messages(Vec<Option<Bytes>>),
    Shares { agreed: Vec<u8>, shares: Vec<Option<Vec<u64>>> },
    Coin([u8; 32]),
    Keys { agreed: Vec<u8>, keys: Vec<PrssKey> },
}

/// What came out at a party: its result or why it has none, and whom it names.
struct Answer {
    got: Result<Got, String>,
    report: Report,
}

impl Plan {
    fn draw(run: &Run, kind: Kind) -> Self {
        let mut rng = run.rng(4);
        let n = run.committee.n();
        let mut session = [0; 32];
        rng.fill_bytes(&mut session);
        let message = |rng: &mut ChaCha20Rng| -> Bytes {
            let length = *[0, 1, 32, 1000].get(rng.random_range(0..4)).unwrap_or(&0);
            (0..length).map(|_| rng.random::<u8>()).collect()
        };
        Self {
            committee: run.committee,
            kind,
            session: SessionId::from_bytes(session),
            messages: (0..n).map(|_| message(&mut rng)).collect(),
            values: rng.random_range(1..=4),
            seeds: (0..n).map(|_| rng.random()).collect(),
        }
    }

    fn dealing<const D: usize>(&self, own: PartyId) -> Dealing<u64, D> {
        let mut rng = ChaCha20Rng::from_seed(self.seeds[own.slot()]);
        let secrets: GrVec<u64, D> = (0..self.values).map(|_| Gr::random(&mut rng)).collect();
        let binding = Binding { session: self.session, first: FIRST, dealer: own };
        Dealing::new(&self.committee, &binding, &secrets, &mut rng)
    }

    /// One party's side. `speaks`: it has not been down.
    async fn party<N: Network>(&self, net: &N, speaks: bool) -> Answer {
        let (committee, own) = (self.committee, net.own());
        let seed = speaks.then(|| DealingSeed::from_bytes(self.seeds[own.slot()]));
        if self.kind == Kind::Setup {
            return match prss_setup::run(net, committee, self.session, seed, BOUND).await {
                Ok(setup) => {
                    let mut agreed = setup.transcript.to_vec();
                    agreed.extend(setup.ready.bits().to_be_bytes());
                    agreed.extend(setup.dealers.bits().to_be_bytes());
                    Answer { got: Ok(Got::Keys { agreed, keys: setup.keys.clone() }), report: setup.report }
                }
                Err(error) => Answer { got: Err(error.reason.to_string()), report: error.report },
            };
        }
        let rounds = match self.kind {
            Kind::Broadcast => broadcast::rounds(&committee),
            Kind::Sharing => vss::rounds(&committee),
            _ => coin::rounds(&committee),
        };
        let mut run = Lockstep::start(net, committee, self.session, speaks, rounds, BOUND);
        let got = match self.kind {
            Kind::Broadcast => broadcast(&mut run, FIRST, self.messages[own.slot()].clone(), 1000)
                .await
                .map(Got::Messages)
                .map_err(|error| error.to_string()),
            Kind::Sharing if committee.degree() == 4 => self.share::<N, 4>(&mut run, speaks).await,
            Kind::Sharing => self.share::<N, 5>(&mut run, speaks).await,
            _ => coin::toss(&mut run, FIRST, seed).await.map(Got::Coin).map_err(|error| error.to_string()),
        };
        let mut report = core::mem::take(&mut run.report);
        report.late = report.late.without(report.wrong());
        report.late.remove(own);
        Answer { got, report }
    }

    async fn share<N: Network, const D: usize>(&self, run: &mut Lockstep<'_, N>, speaks: bool) -> Result<Got, String> {
        let dealing = speaks.then(|| self.dealing::<D>(run.own()));
        let shared = vss::share(run, FIRST, self.values, dealing).await.map_err(|error| error.to_string())?;
        let mut agreed = shared.transcript.to_vec();
        agreed.extend(shared.qualified.bits().to_be_bytes());
        let shares = shared.shares.iter().map(|share| share.as_ref().map(|s| s.words().to_vec())).collect();
        Ok(Got::Shares { agreed, shares })
    }
}

impl Scenario for LockstepScenario {
    fn name(&self) -> &'static str {
        match self.0 {
            Kind::Broadcast => "broadcast",
            Kind::Sharing => "vss",
            Kind::Coin => "coin",
            Kind::Setup => "prss-setup",
        }
    }

    fn timings(&self) -> &'static [Timing] {
        &[Timing::Synchronous, Timing::BoundViolated]
    }

    fn lies(&self) -> Vec<&'static str> {
        lies::of(self.0).map(|lie| lie.name).collect()
    }

    fn play(&self, run: &Run) -> Result<Summary, Violation> {
        let committee = run.committee;
        let cast = Cast::draw(&committee, run.timing, run.lie.is_some(), &mut run.rng(1));
        let mut rng = run.rng(2);
        let mut weather = Weather::draw(&committee, run.timing, &cast, false, &mut rng);
        // Who goes down may come back: it is counted as faulty all the same.
        for (_, at, back) in &mut weather.crashes {
            if rng.random_bool(0.5) {
                *back = Some(*at + BOUND.mul_f64(rng.random_range(0.0..3.0)));
            }
        }
        let lies = lies::draw(self.0, run, &cast, &mut run.rng(3));
        let plan = Arc::new(Plan::draw(run, self.0));

        let mut sim: Sim<Answer> = Sim::new(committee.n(), run.seed, weather.profile);
        if run.log {
            sim.keep_log();
        }
        weather.apply(&mut sim);
        for party in committee.parties() {
            let (net, plan, start) = (sim.net(party), Arc::clone(&plan), weather.starts[party.slot()]);
            match lies.get(&party).map(|(_, lie)| lie.clone()) {
                None => {
                    // What a party keeps: whether it has run before.
                    let mut speaks = true;
                    sim.spawn_durable(party, move || {
                        let (net, plan, speaks) =
                            (net.clone(), Arc::clone(&plan), core::mem::replace(&mut speaks, false));
                        async move {
                            if speaks {
                                net.sleep(start).await;
                            }
                            let answer = plan.party(&net, speaks).await;
                            net.say(|| match &answer.got {
                                Ok(_) => "has a result".into(),
                                Err(error) => error.clone(),
                            });
                            answer
                        }
                    });
                }
                Some(SyncLie::Bytes(behaviour)) => {
                    let net = Malicious::new(net, behaviour);
                    sim.spawn(party, lying(net, plan, start));
                }
                Some(lie) => {
                    let net = Tampering::new(net, lie.tamper(&committee));
                    sim.spawn(party, lying(net, plan, start));
                }
            }
        }
        let report = sim.report();
        Judge { run, plan: &plan, cast: &cast, weather: &weather, lies: &lies }.judge(&report).map_err(
            |mut violation| {
                violation.setting = format!("{cast:?}\n{lies:?}\n{weather:?}");
                violation.log = report.log.clone();
                violation
            },
        )
    }
}

async fn lying<N: Network>(net: N, plan: Arc<Plan>, start: Duration) -> Answer {
    net.sleep(start).await;
    plan.party(&net, true).await
}
