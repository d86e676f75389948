//! What the synchronous protocols promise.

use std::collections::BTreeMap;

use kms_algebra::{Codec, GrVec};

use super::lies::{Kind, Named, SyncLie};
use super::{Answer, Got, Plan};
use crate::sim::{Breach, Cast, Report, Run, Summary, Timing, Violation, Weather};
use crate::{PartyId, PartySet, prss_setup};

/// A run that is to be judged.
pub(super) struct Judge<'a> {
    pub(super) run: &'a Run,
    pub(super) plan: &'a Plan,
    pub(super) cast: &'a Cast,
    pub(super) weather: &'a Weather,
    pub(super) lies: &'a BTreeMap<PartyId, (&'static str, SyncLie)>,
}

/// What a truthful party got.
type Results<'a> = Vec<(PartyId, &'a Got)>;

fn broken(breach: Breach, text: String) -> Violation {
    Violation::new(breach, text)
}

impl Judge<'_> {
    fn within(&self) -> bool {
        self.run.timing != Timing::BoundViolated
    }

    pub(super) fn judge(&self, report: &Report<Answer>) -> Result<Summary, Violation> {
        let truthful = self.cast.truthful();
        let mut summary = Summary { delivered: report.delivered, trace: report.trace, ..Summary::default() };
        let mut results = Results::new();
        for (party, answer) in report.results.iter().filter(|(p, _)| truthful.contains(*p)) {
            let stays = self.cast.honest.contains(*party);
            match answer {
                Some(answer) => {
                    self.names(*party, &answer.report, &mut summary)?;
                    match &answer.got {
                        Ok(got) => {
                            results.push((*party, got));
                            summary.results += 1;
                        }
                        Err(error) if stays && self.within() => {
                            return Err(broken(Breach::WrongResult, format!("P{party} aborts: {error}")));
                        }
                        Err(_) => summary.refusals += 1,
                    }
                }
                None if stays => {
                    let text = format!("P{party} waits for ever ({:?} at {:?})", report.end, report.at);
                    return Err(broken(Breach::Hang, text));
                }
                None => summary.unfinished += 1,
            }
        }
        self.agreement(&results)?;
        self.fits(&results)?;
        self.memory(report)?;
        summary.peak = truthful.iter().map(|p| report.peaks[p.slot()]).max().unwrap_or(0);
        summary.log = report.log.clone();
        Ok(summary)
    }

    /// Nobody truthful is named, nobody who was on time is late, and liars are named by those who see it.
    fn names(&self, at: PartyId, seen: &crate::lockstep::Report, summary: &mut Summary) -> Result<(), Violation> {
        let (wrong, truthful) = (seen.wrong(), self.cast.truthful());
        if let Some(culprit) = seen.culprits.iter().find(|culprit| truthful.contains(culprit.party)) {
            return Err(broken(Breach::HonestNamed, format!("P{at} names P{}: {:?}", culprit.party, culprit.misdeed)));
        }
        if let Some(dispute) =
            seen.disputes.iter().find(|d| self.cast.honest.contains(d.dealer) && self.cast.honest.contains(d.party))
            && self.within()
        {
            return Err(broken(
                Breach::HonestNamed,
                format!("P{at} sees a dispute of two honest parties: {dispute:?}"),
            ));
        }
        summary.named += wrong.len() as u64;
        if !self.within() || !self.cast.honest.contains(at) {
            return Ok(());
        }
        let late = seen.late.without(seen.late.without(self.cast.honest));
        if !late.is_empty() {
            return Err(broken(Breach::Presence, format!("P{at} calls {{{late}}} late, who were on time")));
        }
        for (liar, (name, lie)) in self.lies {
            let must = match lie.named(&self.run.committee, self.cast.honest) {
                Named::ByAll => true,
                Named::By(witnesses) => witnesses.contains(at),
                Named::Perhaps => false,
            };
            if must && !wrong.contains(*liar) {
                return Err(broken(Breach::LiarNotNamed, format!("P{at} does not name P{liar} for {name}")));
            }
        }
        Ok(())
    }

    /// All that is agreed on is the same, and what honest parties said is what they said.
    fn agreement(&self, results: &Results<'_>) -> Result<(), Violation> {
        let truthful = self.cast.truthful();
        for (party, got) in results {
            let Got::Messages(messages) = got else { continue };
            for (sender, message) in self.plan.committee.parties().zip(messages) {
                let sent = &self.plan.messages[sender.slot()];
                let lost = message.is_none() && (!self.within() || !self.cast.honest.contains(sender));
                if truthful.contains(sender) && !lost && message.as_ref() != Some(sent) {
                    return Err(broken(Breach::WrongResult, format!("P{party} has another message of P{sender}")));
                }
            }
        }
        // Without certificates parties that the network has parted may disagree on what is broadcast, and then on what is
        // shared. On a coin they may not.
        let must = self.within() || self.plan.kind == Kind::Coin;
        let Some(((first, expected), others)) = results.split_first() else { return Ok(()) };
        let differs = others.iter().find(|(_, got)| agreed(got) != agreed(expected));
        match differs {
            Some((other, _)) if must => {
                Err(broken(Breach::Disagreement, format!("P{first} and P{other} have different results")))
            }
            _ => Ok(()),
        }
    }

    /// What parties hold that agree on everything public fits together.
    fn fits(&self, results: &Results<'_>) -> Result<(), Violation> {
        let mut groups: BTreeMap<Vec<u8>, Results<'_>> = BTreeMap::new();
        for (party, got) in results {
            groups.entry(agreed(got)).or_default().push((*party, got));
        }
        for group in groups.values() {
            match self.plan.kind {
                Kind::Broadcast | Kind::Coin => {}
                Kind::Sharing if self.plan.committee.degree() == 4 => self.shares_fit::<4>(group)?,
                Kind::Sharing => self.shares_fit::<5>(group)?,
                Kind::Setup => self.keys_fit(group)?,
            }
        }
        Ok(())
    }

    fn shares_fit<const D: usize>(&self, group: &Results<'_>) -> Result<(), Violation> {
        let committee = &self.plan.committee;
        let codec = Codec::<u64, D>::new(committee.n(), committee.t()).expect("a committee that exists");
        for dealer in committee.parties() {
            let held: Vec<(PartyId, GrVec<u64, D>)> = group
                .iter()
                .filter_map(|(party, got)| match got {
                    Got::Shares { shares, .. } => Some((*party, GrVec::from_words(shares[dealer.slot()].clone()?)?)),
                    _ => None,
                })
                .collect();
            let list: Vec<_> = held.iter().map(|(party, share)| (*party, share)).collect();
            if self.within() && self.cast.honest.contains(dealer) {
                let missing = self.cast.honest.without(held.iter().map(|(p, _)| *p).collect());
                if !missing.is_empty() {
                    return Err(broken(Breach::WrongResult, format!("{{{missing}}} have no share of P{dealer}")));
                }
            }
            if list.len() < codec.needed() {
                continue;
            }
            match codec.decode(&list) {
                Ok(decoded) if decoded.culprits.is_empty() => {
                    if self.cast.truthful().contains(dealer) && decoded.values != self.secrets::<D>(dealer) {
                        return Err(broken(Breach::WrongResult, format!("P{dealer}'s secrets are not what it dealt")));
                    }
                }
                _ => {
                    let text = format!("shares of P{dealer} do not lie on polynomials of degree t");
                    return Err(broken(Breach::Disagreement, text));
                }
            }
        }
        Ok(())
    }

    /// What a truthful dealer shares: f(0) of its rows, at 0.
    fn secrets<const D: usize>(&self, dealer: PartyId) -> GrVec<u64, D> {
        use rand::SeedableRng;
        let mut rng = rand_chacha::ChaCha20Rng::from_seed(self.plan.seeds[dealer.slot()]);
        (0..self.plan.values).map(|_| kms_algebra::Gr::random(&mut rng)).collect()
    }

    fn keys_fit(&self, group: &Results<'_>) -> Result<(), Violation> {
        let mut all: BTreeMap<u32, (PartyId, [u8; 16])> = BTreeMap::new();
        for (party, got) in group {
            let Got::Keys { keys, .. } = got else { continue };
            let sets: Vec<u32> =
                self.plan.committee.prss_sets().filter(|set| set.contains(*party)).map(|set| set.bits()).collect();
            if keys.iter().map(|key| key.set).ne(sets) {
                return Err(broken(Breach::WrongResult, format!("P{party} does not hold the keys of its sets")));
            }
            for key in keys {
                let (other, first) = *all.entry(key.set).or_insert((*party, key.key));
                if first != key.key {
                    let text = format!("P{other} and P{party} hold different keys of set {:b}", key.set);
                    return Err(broken(Breach::Disagreement, text));
                }
            }
        }
        Ok(())
    }

    fn memory(&self, report: &Report<Answer>) -> Result<(), Violation> {
        let committee = &self.plan.committee;
        // Everything that a party may send in a run is short, but for liars, whose messages the transport bounds.
        let message = prss_setup::max_message_bytes(committee).max(1000);
        let channels = usize::from(prss_setup::channels(committee));
        let fair = committee.n() * channels * message + self.lies.len() * channels * (2 << 20);
        match self.weather.over_memory(report, PartySet::all(committee.n()), fair) {
            Some((party, peak)) => Err(broken(Breach::Memory, format!("{peak} bytes wait at P{party}"))),
            None => Ok(()),
        }
    }
}

/// What must be the same at parties that agree.
fn agreed(got: &Got) -> Vec<u8> {
    match got {
        Got::Messages(messages) => {
            let mut bytes = Vec::new();
            for message in messages {
                bytes.push(u8::from(message.is_some()));
                bytes.extend(message.iter().flat_map(|m| (m.len() as u32).to_be_bytes()));
                bytes.extend(message.iter().flatten());
            }
            bytes
        }
        Got::Shares { agreed, .. } | Got::Keys { agreed, .. } => agreed.clone(),
        Got::Coin(coin) => coin.to_vec(),
    }
}
