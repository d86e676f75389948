//! What a scenario is, and what it says about a run.

use core::fmt;

use super::profile::Timing;
use crate::Committee;

/// A protocol with liars, weather, and a judge.
pub trait Scenario: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// The models that the protocol is written for.
    fn timings(&self) -> &'static [Timing];

    /// Lies that can be forced on the liars, by name.
    fn lies(&self) -> Vec<&'static str>;

    /// Plays one seed. Everything random comes from it.
    ///
    /// # Errors
    /// The first thing that is not as the protocol promises.
    fn play(&self, run: &Run) -> Result<Summary, Violation>;
}

/// One run: what decides everything that happens in it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The committee.
    pub committee: Committee,
    /// The model of the network.
    pub timing: Timing,
    /// The seed.
    pub seed: u64,
    /// Exactly t liars that all tell this lie; otherwise the seed decides.
    pub lie: Option<&'static str>,
    /// Whether to keep a line per event.
    pub log: bool,
}

impl Run {
    /// Randomness for one purpose, independent of that of others, so that a change in one does not change all.
    #[must_use]
    pub fn rng(&self, purpose: u64) -> rand_chacha::ChaCha20Rng {
        use rand::SeedableRng;
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(self.seed);
        rng.set_stream(purpose);
        rng
    }
}

/// What happened in a run in which everything was as it should be.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Right results at honest parties.
    pub results: u64,
    /// Honest refusals at honest parties.
    pub refusals: u64,
    /// Protocols of honest parties that did not end. Zero within the model.
    pub unfinished: u64,
    /// Times that an honest party named a liar.
    pub named: u64,
    /// Messages that reached their receiver.
    pub delivered: u64,
    /// Most bytes that waited at an honest party.
    pub peak: usize,
    /// Digest of the run.
    pub trace: [u8; 32],
    /// One line per event, if asked for.
    pub log: Vec<String>,
}

/// What a protocol promised and did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Breach {
    /// An honest party got a wrong result, or two.
    WrongResult,
    /// Honest parties disagree.
    Disagreement,
    /// An honest party did not finish.
    Hang,
    /// An honest party was named wrong.
    HonestNamed,
    /// A liar whose lie was seen was not named, or with the wrong evidence.
    LiarNotNamed,
    /// A party was called late that was not, or the other way round.
    Presence,
    /// More was revealed than may be.
    Revealed,
    /// More bytes waited than a party should have to hold.
    Memory,
    /// A protocol panicked.
    Panic,
}

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What kind of promise was broken.
    pub breach: Breach,
    /// At whom, and what was seen instead.
    pub text: String,
    /// The cast and the weather.
    pub setting: String,
    /// One line per event, if asked for.
    pub log: Vec<String>,
}

impl Violation {
    /// A violation whose setting and log are not known yet.
    #[must_use]
    pub fn new(breach: Breach, text: impl Into<String>) -> Self {
        Self { breach, text: text.into(), setting: String::new(), log: Vec::new() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.breach, self.text)
    }
}
