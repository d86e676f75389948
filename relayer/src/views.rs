//! What the relayer itself sees of a user's rights, to refuse early what every party would refuse.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use alloy::eips::BlockId;
use alloy_primitives::Address;
use async_trait::async_trait;
use kms_chain::abi::GuardLens;
use kms_chain::rpc::Chain;
use kms_chain::user_view::{UserQuestion, UserRefusal, UserVerdict, UserView, UserWait};
use tokio::sync::Semaphore;

/// Questions that are before the endpoints at a time.
const AT_ONCE: usize = 64;
/// How long an endpoint may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads chains.
#[async_trait]
pub trait Views: Send + Sync + Debug {
    /// The answer of the chain's `GuardLens` at its latest block.
    ///
    /// # Errors
    /// Why there is none, for the log.
    async fn user(&self, chain: u64, call: GuardLens::viewUserDecryptionCall) -> Result<UserView, String>;
}

/// Chains through their endpoints.
#[derive(Debug)]
pub struct ChainViews {
    chains: BTreeMap<u64, (Chain, Address)>,
}

impl ChainViews {
    /// By chain id: the chain and its `GuardLens`.
    #[must_use]
    pub fn new(chains: BTreeMap<u64, (Chain, Address)>) -> Self {
        Self { chains }
    }
}

#[async_trait]
impl Views for ChainViews {
    async fn user(&self, chain: u64, call: GuardLens::viewUserDecryptionCall) -> Result<UserView, String> {
        let (chain, lens) = self.chains.get(&chain).ok_or("the chain is not served")?;
        let asked = chain.call(*lens, &call, BlockId::latest());
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer.map_err(|e| e.to_string()),
            Err(_) => Err("no answer in time".into()),
        }
    }
}

/// What one's own chain says before the parties are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Early {
    /// Nothing against it, and the signature is the user's.
    Fine,
    /// The parties would refuse.
    Refused(UserRefusal),
    /// The chain can't be asked, and without it nobody knows whose signature this is.
    Unknown,
    /// Too many are asking.
    Busy,
}

/// Judges user decryptions by the latest block.
#[derive(Debug)]
pub struct Judge {
    views: std::sync::Arc<dyn Views>,
    looks: u32,
    pause: Duration,
    places: Semaphore,
}

impl Judge {
    /// A right that is not there is looked for up to `looks` times, `pause` apart: the endpoint of whoever asks may be ahead.
    #[must_use]
    pub fn new(views: std::sync::Arc<dyn Views>, looks: u32, pause: Duration) -> Self {
        Self { views, looks, pause, places: Semaphore::new(AT_ONCE) }
    }

    /// What the chain says about it.
    pub async fn look(&self, question: &UserQuestion) -> Early {
        for look in 1.. {
            let early = self.look_once(question).await;
            match &early {
                Early::Refused(refusal) if look < self.looks && may_be_behind(refusal) => {
                    tokio::time::sleep(self.pause).await;
                }
                _ => return early,
            }
        }
        Early::Unknown
    }

    async fn look_once(&self, question: &UserQuestion) -> Early {
        let Ok(_place) = self.places.try_acquire() else { return Early::Busy };
        let chain = question.request().host_chain_id;
        // The parties see for themselves; but a signature that only the chain can judge must be judged.
        let unseen = if question.is_signed_by_wallet() { Early::Fine } else { Early::Unknown };
        let view = match self.views.user(chain, question.call()).await {
            Ok(view) => view,
            Err(why) => {
                tracing::warn!(chain, why, "the rights of a user can't be read");
                return unseen;
            }
        };
        // How final it is is the parties' business, so the latest block stands for both.
        match question.judge(&view, &view) {
            UserVerdict::Allowed(_) => Early::Fine,
            UserVerdict::NotYet { reason: UserWait::ChainUnavailable, detail } => {
                tracing::warn!(chain, detail, "the rights of a user can't be read");
                unseen
            }
            UserVerdict::NotYet { .. } => Early::Fine,
            UserVerdict::Refused { refusal, .. } => Early::Refused(refusal),
        }
    }
}

/// What a block that this endpoint does not have yet may have given.
fn may_be_behind(refusal: &UserRefusal) -> bool {
    matches!(
        refusal,
        UserRefusal::UserNotAllowed { .. }
            | UserRefusal::ContractNotAllowed { .. }
            | UserRefusal::NotDelegated { .. }
            | UserRefusal::DelegationExpired { .. }
    )
}
