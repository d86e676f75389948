//! One JSON-RPC endpoint of one chain.

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::{Ethereum, TransactionBuilder};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::TransactionRequest;
use alloy::transports::{RpcError, TransportError};
use alloy_primitives::{Address, B256, Bytes};
use kms_chain::request::Finality;
use kms_chain::rpc::{AnswerLimits, BoundedHttp, TooLarge, Url};

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
    /// Highest block that satisfies all finalities asked for; none: the chain is too short.
    pub(super) target: Option<u64>,
}

/// Why an endpoint gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
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

    /// Latest block and the height that satisfies both finalities, after making sure that this is the right chain.
    pub(super) async fn heads(&self, finalities: [Finality; 2]) -> Result<Heads, EndpointError> {
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
        // Heights that nobody asked for are not used below.
        let height = |f: Finality| f.height(latest.number, safe.unwrap_or(0), finalized.unwrap_or(0));
        let target = height(finalities[0]).zip(height(finalities[1])).map(|(a, b)| a.min(b));
        Ok(Heads { latest, target })
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
