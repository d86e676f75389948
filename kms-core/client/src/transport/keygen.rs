//! Generation of keys, party by party.

use std::io;

use alloy_primitives::B256;
use futures::{StreamExt, future::join_all};
use kms_proto::{
    bounds::{self, MAX_PIECE},
    node::{
        GetKeyFileRequest, KeyGenAbortRequest, KeyGenRequest, KeyGenResponse, KeyGenStatusRequest,
        node_client::NodeClient,
    },
};
use tokio::time::timeout;
use tonic::{Response, Status, transport::Channel};

use super::{CALL_TIMEOUT, Parties, PartyError};
use crate::verify::AnswerError;

pub use kms_proto::node::KeyGenState;

/// A file of a key that did not come whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The party did not send it.
    #[error(transparent)]
    Party(#[from] PartyError),
    /// It is larger than it may be.
    #[error("the file has more than {0} bytes")]
    TooLarge(u64),
    /// It can't be written here.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Parties {
    async fn keygen_call<F>(
        &self,
        index: u32,
        call: impl FnOnce(NodeClient<Channel>) -> F,
    ) -> Result<KeyGenResponse, PartyError>
    where
        F: Future<Output = Result<Response<KeyGenResponse>, Status>>,
    {
        let response = self.call(index, CALL_TIMEOUT, call).await?;
        bounds::check_key_gen_response(&response).map_err(AnswerError::from)?;
        Ok(response)
    }

    /// Has one party take part in a run.
    ///
    /// # Errors
    /// The party could not be reached, broke the protocol, or refuses; its words say why.
    pub async fn key_gen(&self, index: u32, request: KeyGenRequest) -> Result<KeyGenResponse, PartyError> {
        self.keygen_call(index, |mut client| async move { client.key_gen(request).await }).await
    }

    /// Where a run stands at one party; without an id the one that it was asked for last.
    ///
    /// # Errors
    /// The party could not be reached or broke the protocol.
    pub async fn key_gen_status(&self, index: u32, run_id: Option<B256>) -> Result<KeyGenResponse, PartyError> {
        let request = KeyGenStatusRequest { run_id: run_id.map(|id| id.to_vec()).unwrap_or_default() };
        self.keygen_call(index, |mut client| async move { client.key_gen_status(request).await }).await
    }

    /// The same of all parties, asked at once, in order of index.
    pub async fn key_gen_status_all(&self, run_id: Option<B256>) -> Vec<(u32, Result<KeyGenResponse, PartyError>)> {
        join_all(self.indices().map(|index| async move { (index, self.key_gen_status(index, run_id).await) })).await
    }

    /// Ends a run at one party.
    ///
    /// # Errors
    /// The party could not be reached, broke the protocol, or does not know the run, or it has come to its key there.
    pub async fn key_gen_abort(&self, index: u32, run_id: B256) -> Result<KeyGenResponse, PartyError> {
        let request = KeyGenAbortRequest { run_id: run_id.to_vec() };
        self.keygen_call(index, |mut client| async move { client.key_gen_abort(request).await }).await
    }

    /// Fetches a public file of a key into `sink`, at most `limit` bytes. The caller checks its digest.
    ///
    /// # Errors
    /// The party does not have it, it is too large, or `sink` fails.
    pub async fn key_file(
        &self,
        index: u32,
        key_id: B256,
        file: &str,
        limit: u64,
        sink: &mut (dyn io::Write + Send),
    ) -> Result<(), FileError> {
        let request = GetKeyFileRequest { key_id: key_id.to_vec(), file: file.to_owned() };
        let call = |mut client: NodeClient<Channel>| async move { client.get_key_file(request).await };
        let mut pieces = self.call(index, CALL_TIMEOUT, call).await?;
        let mut left = limit;
        loop {
            let piece = match timeout(CALL_TIMEOUT, pieces.next()).await {
                Err(_) => return Err(PartyError::Timeout.into()),
                Ok(None) => return Ok(()),
                Ok(Some(piece)) => piece.map_err(|status| PartyError::from_status(&status))?.bytes,
            };
            left = left.checked_sub(piece.len() as u64).ok_or(FileError::TooLarge(limit))?;
            if piece.len() > MAX_PIECE {
                return Err(FileError::TooLarge(MAX_PIECE as u64));
            }
            sink.write_all(&piece)?;
        }
    }
}
