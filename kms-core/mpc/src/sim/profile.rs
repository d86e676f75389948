//! How the network behaves, and which of the three models of the design that is.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha20Rng;

/// Time within which the synchronous protocols of a scenario expect every message of a live party.
pub const BOUND: Duration = Duration::from_secs(60);

/// How the network behaves. Times are virtual.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Shortest delay of a message.
    pub min_delay: Duration,
    /// Longest delay of a message on an ordinary link. Delays are uniform, so messages overtake each other.
    pub max_delay: Duration,
    /// Probability that a message is lost and sent again after `retransmit`; that one may be lost, too.
    pub loss: f64,
    /// Time until a lost message is sent again.
    pub retransmit: Duration,
    /// Probability that a message is delivered twice.
    pub duplicate: f64,
    /// Probability that a link (in one direction) is slow for the whole run.
    pub slow: f64,
    /// What a slow link multiplies delays by.
    pub slow_factor: u32,
    /// If there is one, every message arrives in less than this after it was sent, whatever else the profile says, cuts
    /// included.
    pub bound: Option<Duration>,
    /// Most bytes that wait at a party from one sender; what comes on top is dropped, as by the real transport.
    pub queue_limit: usize,
}

impl Default for Profile {
    /// 1 to 50 ms, nothing lost or repeated.
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(50),
            loss: 0.0,
            retransmit: Duration::from_millis(200),
            duplicate: 0.0,
            slow: 0.0,
            slow_factor: 1,
            bound: None,
            queue_limit: 64 << 20,
        }
    }
}

impl Profile {
    /// Everything that the asynchronous model allows: long delays, a fifth of the messages lost, a fifth repeated.
    #[must_use]
    pub fn rough() -> Self {
        Self { max_delay: Duration::from_secs(2), loss: 0.2, duplicate: 0.2, ..Self::default() }
    }

    /// A network of a model, as a seed wants it: from a quiet one in one room to one that loses more than it carries.
    #[must_use]
    pub fn draw(timing: Timing, rng: &mut ChaCha20Rng) -> Self {
        let mut one_of = |choices: &[f64]| *choices.choose(rng).unwrap_or(&0.0);
        let (loss, duplicate) = (one_of(&[0.0, 0.0, 0.05, 0.3, 0.6]), one_of(&[0.0, 0.0, 0.1, 0.5]));
        let (slow, longest) = (one_of(&[0.0, 0.0, 0.1, 0.5]), one_of(&[0.005, 0.05, 2.0, 20.0]));
        let wild = Self {
            max_delay: Duration::from_secs_f64(longest),
            loss,
            duplicate,
            slow,
            slow_factor: 100,
            ..Self::default()
        };
        match timing {
            Timing::Asynchronous => wild,
            Timing::Synchronous => Self { bound: Some(BOUND), ..wild },
            // Some links miss the bound often, others hardly ever.
            Timing::BoundViolated => {
                Self { max_delay: BOUND.mul_f64(rng.random_range(0.2..3.0)), slow_factor: 10, ..wild }
            }
        }
    }
}

/// The models of the network that protocols are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timing {
    /// Every message between live parties arrives some time. Decryption and openings of degree t.
    Asynchronous,
    /// Every message between live parties arrives within [`BOUND`]. Set-up and key generation.
    Synchronous,
    /// More parties are late, cut off or gone than the protocol bears. Then it need not end, but there are never two
    /// outputs, nothing is revealed after a final certificate, and nobody honest is named wrong.
    BoundViolated,
}

impl Timing {
    /// All models.
    pub const ALL: [Self; 3] = [Self::Asynchronous, Self::Synchronous, Self::BoundViolated];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asynchronous => "asynchronous",
            Self::Synchronous => "synchronous",
            Self::BoundViolated => "bound-violated",
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Timing {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|t| t.name() == name)
            .ok_or_else(|| format!("no profile {name:?}; there are {names}"))
    }
}
