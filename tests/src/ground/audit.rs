//! What the chain says in the end: who fulfilled what, who was paid, who paid for nothing.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, U256},
    providers::{DynProvider, Provider},
    rpc::types::{Filter, Log},
    sol_types::SolEvent,
};
use anyhow::{Context, Result, bail, ensure};
use kms_chain::{abi::DecryptionGateway, handle::Handle};

use super::{Asked, Chain};
use crate::stub::cleartext;

/// What became of requests, and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Fulfilments by account.
    pub fulfilled: BTreeMap<Address, usize>,
    /// Transactions of the watched accounts that were reverted.
    pub reverted: usize,
    /// Gas that those used.
    pub gas_lost: u64,
    /// Transactions of the watched accounts that did nothing: a nonce was used up.
    pub noops: usize,
    /// Gas of all transactions of the watched accounts.
    pub gas: u64,
}

impl Audit {
    /// Fulfilments of all accounts.
    pub fn total(&self) -> usize {
        self.fulfilled.values().sum()
    }
}

impl Chain {
    /// Waits until all of these requests have a fulfilment that stands.
    ///
    /// # Errors
    /// Some have none within `patience`.
    pub async fn fulfilled(&self, asked: &[Asked], patience: Duration) -> Result<()> {
        let provider = self.anvil.provider()?;
        let deadline = Instant::now() + patience;
        let mut open: std::collections::HashSet<B256> = asked.iter().map(|asked| asked.id).collect();
        // What is read once is not read again; a reorganisation shows in the audit.
        let mut from = self.deployment_block;
        loop {
            let head = provider.get_block_number().await?;
            for log in self.fulfilments(&provider, from, head).await? {
                open.remove(log.topics().get(1).context("no request")?);
            }
            if open.is_empty() {
                return Ok(());
            }
            from = head.saturating_sub(8).max(self.deployment_block);
            if Instant::now() > deadline {
                bail!("{} of {} requests are not fulfilled after {patience:?}", open.len(), asked.len());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn fulfilments(&self, provider: &DynProvider, from: u64, to: u64) -> Result<Vec<Log>> {
        let filter = Filter::new()
            .address(self.contracts.decryption_gateway)
            .event_signature(DecryptionGateway::DecryptionFulfilled::SIGNATURE_HASH)
            .from_block(from)
            .to_block(to);
        Ok(provider.get_logs(&filter).await?)
    }

    /// Looks at everything on the chain: each of these requests has exactly one fulfilment with the right cleartexts, its fee
    /// was credited exactly once, and nothing else was credited.
    ///
    /// # Errors
    /// One of that is not so; the error says which.
    pub async fn audit(&self, asked: &[Asked], accounts: &[Address]) -> Result<Audit> {
        let provider = self.anvil.provider()?;
        let head = provider.get_block_number().await?;
        let mut audit = Audit::default();
        let mut due = BTreeMap::<Address, U256>::new();
        let mut answers = HashMap::<B256, usize>::new();
        let requests: HashMap<B256, &Asked> = asked.iter().map(|asked| (asked.id, asked)).collect();
        for log in self.fulfilments(&provider, self.deployment_block, head).await? {
            let event = log.log_decode::<DecryptionGateway::DecryptionFulfilled>()?.inner.data;
            let Some(asked) = requests.get(&event.requestId) else { continue };
            let words =
                asked.request.handles.iter().map(|raw| Ok(cleartext(&Handle::parse(*raw)?).to_be_bytes::<32>()));
            let expected = words.collect::<Result<Vec<_>>>()?.concat();
            ensure!(event.cleartexts.as_ref() == expected, "wrong cleartexts for {}", event.requestId);
            *answers.entry(event.requestId).or_default() += 1;
            *audit.fulfilled.entry(event.fulfiller).or_default() += 1;
            *due.entry(event.fulfiller).or_default() += U256::from(asked.fee);
        }
        for asked in asked {
            let times = answers.get(&asked.id).copied().unwrap_or(0);
            ensure!(times == 1, "request {} has {times} fulfilments", asked.id);
        }
        let gateway = DecryptionGateway::new(self.contracts.decryption_gateway, &provider);
        for account in accounts {
            let credit = gateway.creditOf(*account).call().await?;
            let earned = due.remove(account).unwrap_or_default();
            ensure!(credit == earned, "{account} has {credit} wei of fees and earned {earned}");
        }
        ensure!(due.is_empty(), "accounts that nobody watches were paid: {due:?}");
        self.count_transactions(&provider, accounts, head, &mut audit).await?;
        Ok(audit)
    }

    async fn count_transactions(
        &self,
        provider: &DynProvider,
        accounts: &[Address],
        head: u64,
        audit: &mut Audit,
    ) -> Result<()> {
        for number in self.deployment_block..=head {
            let receipts = provider.get_block_receipts(BlockId::number(number)).await?.unwrap_or_default();
            for receipt in receipts.iter().filter(|receipt| accounts.contains(&receipt.from)) {
                audit.gas += receipt.gas_used;
                if !receipt.status() {
                    audit.reverted += 1;
                    audit.gas_lost += receipt.gas_used;
                } else if receipt.to != Some(self.contracts.decryption_gateway) {
                    audit.noops += 1;
                    audit.gas_lost += receipt.gas_used;
                }
            }
        }
        Ok(())
    }
}
