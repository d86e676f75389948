//! One JSON-RPC endpoint of one chain.

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::{Ethereum, TransactionBuilder};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::BatchRequest;
use alloy::rpc::types::TransactionRequest;
use alloy::transports::{RpcError, TransportError};
use alloy_primitives::{Address, B256, Bytes};
use futures::future::join_all;
use kms_chain::request::Finality;
use kms_chain::rpc::{AnswerLimits, BoundedHttp, TooLarge, Url};

/// Calls in one message …
const BATCH: usize = 32;
/// … and bytes of their inputs: answers are up to ten times as long, and bounded as well.
const BATCH_BYTES: usize = 96 << 10;
/// Error code of a reverted call.
const REVERTED: i64 = 3;

/// A block, as far as the guard cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockRef {
    pub(super) number: u64,
    pub(super) hash: B256,
    pub(super) timestamp: u64,
}

/// What one endpoint says about the height of the chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    /// Latest block.
    pub(super) latest: BlockRef,
    /// Height of the safe block; 0 if nobody asked for it.
    safe: u64,
    /// Height of the finalised block; 0 if nobody asked for it.
    finalized: u64,
}

impl Heads {
    /// Highest block that satisfies a finality which was asked for; none: the chain is too short.
    pub(super) fn height(&self, finality: Finality) -> Option<u64> {
        finality.height(self.latest.number, self.safe, self.finalized)
    }
}

/// Why an endpoint gave no answer that can be used.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum EndpointError {
    /// No answer, or a faulty one.
    #[error("{endpoint}: {problem}")]
    Unavailable { endpoint: String, problem: String },
    /// The answer is for another chain.
    #[error("{endpoint} is an endpoint of chain {found}, not of {expected}")]
    WrongChain { endpoint: String, expected: u64, found: u64 },
    /// The block is not known there, or not canonical any more.
    #[error("{endpoint} does not know the block: {problem}")]
    BlockUnknown { endpoint: String, problem: String },
}

/// An endpoint. Its name leaves out path and user: they often carry an access key.
#[derive(Debug)]
pub(super) struct Endpoint {
    name: String,
    chain_id: u64,
    provider: RootProvider<Ethereum>,
}

impl Endpoint {
    /// Prepares the endpoint; nothing is sent.
    pub(super) fn new(chain_id: u64, url: &str) -> Result<Self, String> {
        let url: Url = url.parse().map_err(|e| format!("{e}"))?;
        let name = match (url.host_str(), url.port_or_known_default()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            _ => return Err("there is no host in it".into()),
        };
        let http = BoundedHttp::new(url, AnswerLimits::default()).map_err(|e| e.to_string())?;
        let provider = RootProvider::new(http.into_client());
        Ok(Self { name, chain_id, provider })
    }

    /// Host and port.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Latest block and the heights of these finalities, after making sure that this is the right chain.
    pub(super) async fn heads(&self, finalities: &[Finality]) -> Result<Heads, EndpointError> {
        let needs = |f| finalities.contains(&f);
        let (found, latest, safe, finalized) = futures::try_join!(
            async { self.provider.get_chain_id().await.map_err(|e| self.failed(&e)) },
            self.head(BlockNumberOrTag::Latest),
            self.head_if(needs(Finality::Safe), BlockNumberOrTag::Safe),
            self.head_if(needs(Finality::Finalized), BlockNumberOrTag::Finalized),
        )?;
        if found != self.chain_id {
            return Err(EndpointError::WrongChain { endpoint: self.name.clone(), expected: self.chain_id, found });
        }
        Ok(Heads { latest, safe: safe.unwrap_or(0), finalized: finalized.unwrap_or(0) })
    }

    /// The canonical block at a height.
    pub(super) async fn block_at(&self, number: u64) -> Result<BlockRef, EndpointError> {
        self.head(BlockNumberOrTag::Number(number)).await
    }

    /// Calls a contract at the state of one canonical block.
    pub(super) async fn call(&self, to: Address, input: Bytes, block: B256) -> Result<Bytes, EndpointError> {
        let call = TransactionRequest::default().with_to(to).with_input(input);
        self.provider.call(call).block(BlockId::hash_canonical(block)).await.map_err(|e| self.failed(&e))
    }

    /// Calls one contract with each input at the state of a canonical block, several calls in one message.
    pub(super) async fn call_all(&self, to: Address, calls: &[(Bytes, B256)]) -> Vec<Result<Bytes, EndpointError>> {
        let mut batches = vec![Vec::new()];
        let mut bytes = 0;
        for call in calls {
            bytes += call.0.len();
            if batches.last().is_some_and(|b| b.len() == BATCH || (bytes > BATCH_BYTES && !b.is_empty())) {
                batches.push(Vec::new());
                bytes = call.0.len();
            }
            if let Some(batch) = batches.last_mut() {
                batch.push(call.clone());
            }
        }
        join_all(batches.iter().map(|batch| self.call_batch(to, batch))).await.concat()
    }

    async fn call_batch(&self, to: Address, calls: &[(Bytes, B256)]) -> Vec<Result<Bytes, EndpointError>> {
        let singly = async || join_all(calls.iter().map(|(input, block)| self.call(to, input.clone(), *block))).await;
        if calls.len() <= 2 {
            return singly().await;
        }
        let mut batch = BatchRequest::new(self.provider.client());
        let waiters = calls.iter().map(|(input, block)| {
            let call = TransactionRequest::default().with_to(to).with_input(input.clone());
            batch.add_call::<_, Bytes>("eth_call", &(call, BlockId::hash_canonical(*block)))
        });
        let Ok(waiters) = waiters.collect::<Result<Vec<_>, _>>() else { return singly().await };
        // An endpoint may not know batches: then one call at a time has to do.
        if batch.send().await.is_err() {
            return singly().await;
        }
        let answers = join_all(waiters.into_iter().map(IntoFuture::into_future)).await;
        answers.into_iter().map(|answer| answer.map_err(|e| self.failed(&e))).collect()
    }

    /// Whether there is a contract at an address, at the latest block.
    pub(super) async fn has_code(&self, address: Address) -> Result<bool, EndpointError> {
        self.provider.get_code_at(address).await.map(|code| !code.is_empty()).map_err(|e| self.failed(&e))
    }

    async fn head_if(&self, needed: bool, tag: BlockNumberOrTag) -> Result<Option<u64>, EndpointError> {
        if needed { self.head(tag).await.map(|b| Some(b.number)) } else { Ok(None) }
    }

    async fn head(&self, tag: BlockNumberOrTag) -> Result<BlockRef, EndpointError> {
        let block = self.provider.get_block_by_number(tag).await.map_err(|e| self.failed(&e))?;
        let Some(block) = block else {
            return Err(EndpointError::BlockUnknown {
                endpoint: self.name.clone(),
                problem: format!("there is no block {tag}"),
            });
        };
        Ok(BlockRef { number: block.header.number, hash: block.header.hash, timestamp: block.header.timestamp })
    }

    fn failed(&self, error: &TransportError) -> EndpointError {
        let endpoint = self.name.clone();
        let problem = match error {
            RpcError::ErrorResp(payload) => {
                let message = payload.message.to_string();
                let lower = message.to_lowercase();
                // Clients word it differently: "header not found", "hash is not currently canonical", "BlockNotFound".
                let unknown = ["not found", "notfound", "canonical", "unknown block"].iter().any(|w| lower.contains(w));
                if unknown && payload.code != REVERTED {
                    return EndpointError::BlockUnknown { endpoint, problem: message };
                }
                message
            }
            // The body may be long, and the URL in a transport error may carry a key.
            RpcError::DeserError { err, .. } => format!("an answer that makes no sense: {err}"),
            RpcError::Transport(e) => match (e.as_http_error(), TooLarge::of(e)) {
                (Some(http), _) => format!("HTTP status {}", http.status),
                (None, Some(too_large)) => too_large.to_string(),
                (None, None) => "no connection, or no answer in time".into(),
            },
            other => other.to_string(),
        };
        EndpointError::Unavailable { endpoint, problem: problem.chars().take(200).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_endless_answer_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // An answer before its question would be another fault.
                    let asked = stream.read(&mut [0; 4096]).await.unwrap();
                    assert!(asked > 0);
                    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                    let mut sent = stream.write_all(head.as_bytes()).await;
                    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
                    // Endless enough for a test.
                    for _ in 0..1000 {
                        if sent.is_ok() {
                            sent = stream.write_all(chunk.as_bytes()).await;
                        }
                    }
                });
            }
        });
        let error = Endpoint::new(1, &url).unwrap().has_code(Address::ZERO).await.unwrap_err();
        assert!(error.to_string().contains("an answer of more than"), "{error}");
        server.abort();
    }
}
