//! Key generation without a dealer: nobody ever knows a secret key.
//!
//! - [`spec`]: what a key consists of, in numbers;
//! - [`bits`], [`double`], [`noise`]: random bits, their openings of degree 2t, and the noise made of them;
//! - [`exchange`], [`journal`]: what a run needs of the world;
//! - [`Run`]: one run at one party, with its [`Progress`], and what it leaves behind: [`Finished`], [`Culprit`].

pub mod bits;
pub mod double;
mod error;
mod evidence;
pub mod exchange;
pub mod journal;
pub mod noise;
mod progress;
mod run;
pub mod spec;

pub use error::{Answerless, RunError};
pub use evidence::{Culprit, Misdeed};
pub use progress::{Phase, Progress};
pub use run::{Finished, Run, RunConfig, Seed};
