//! Calls about the generation of keys, and the public files that come out.

use futures::StreamExt;
use futures::stream::BoxStream;
use kms_fhe::{KeyInfo, bundle};
use kms_proto::bounds::{self, BoundsError, MAX_PIECE};
use kms_proto::node::{
    GetKeyFileRequest, KeyFilePiece, KeyGenAbortRequest, KeyGenRequest, KeyGenResponse, KeyGenStatusRequest,
};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Service;
use crate::config::Permission;
use crate::dkg::DkgError;
use crate::lifecycle::Call as Route;
use crate::store::NewKeygen;

impl Service {
    pub(super) async fn open_key_gen(
        &self,
        request: Request<KeyGenRequest>,
    ) -> Result<Response<KeyGenResponse>, Status> {
        let client = self.admit_call(&request, Permission::Keygen, Route::KeyGen)?;
        let call = request.into_inner();
        let asked = read(&call).map_err(|e| Status::invalid_argument(e.to_string()))?;
        tracing::warn!(client = client.name(), run = %asked.run_id, "a client asks for the generation of a key");
        self.api.dkg.open(asked).await.map(Response::new).map_err(|e| status(&e))
    }

    pub(super) fn show_key_gen(
        &self,
        request: &Request<KeyGenStatusRequest>,
    ) -> Result<Response<KeyGenResponse>, Status> {
        self.admit_query(request, Route::KeyGenStatus)?;
        let run_id = match request.get_ref().run_id.as_slice() {
            [] => None,
            id => Some(bounds::id("run_id", id).map_err(|e| Status::invalid_argument(e.to_string()))?.into()),
        };
        // A run that nobody has asked for is in the state that the default says: unknown.
        Ok(Response::new(self.api.dkg.status(run_id).unwrap_or_default()))
    }

    pub(super) async fn abort_key_gen(
        &self,
        request: Request<KeyGenAbortRequest>,
    ) -> Result<Response<KeyGenResponse>, Status> {
        let client = self.admit_call(&request, Permission::Keygen, Route::KeyGen)?;
        let id = bounds::id("run_id", &request.into_inner().run_id);
        let run_id = id.map_err(|e| Status::invalid_argument(e.to_string()))?.into();
        tracing::warn!(client = client.name(), run = %run_id, "a client ends the generation of a key");
        self.api.dkg.abort(run_id).await.map(Response::new).map_err(|e| status(&e))
    }

    pub(super) async fn send_key_file(
        &self,
        request: Request<GetKeyFileRequest>,
    ) -> Result<Response<BoxStream<'static, Result<KeyFilePiece, Status>>>, Status> {
        let client = self.admit_call(&request, Permission::Status, Route::KeyGenStatus)?;
        let place = client.open().ok_or_else(|| Status::resource_exhausted("too many open requests of this client"))?;
        let asked = request.into_inner();
        bounds::check_get_key_file(&asked).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let folder = self.api.public.join(hex::encode(&asked.key_id));
        let unknown = || Status::not_found("this party has no public files of this key");
        // Only names that the description lists lead to a file.
        let description = folder.clone();
        let info = tokio::task::spawn_blocking(move || KeyInfo::load(&description)).await;
        let info = info.map_err(|e| Status::internal(e.to_string()))?.map_err(|_| unknown())?;
        if asked.file != bundle::INFO && info.sha256(&asked.file).is_none() {
            return Err(Status::not_found("the key has no such file"));
        }
        let mut file = tokio::fs::File::open(folder.join(&asked.file)).await.map_err(|_| unknown())?;
        let (pieces, stream) = mpsc::channel(4);
        tokio::spawn(async move {
            let _place = place;
            loop {
                let mut bytes = Vec::with_capacity(MAX_PIECE);
                let piece = match (&mut file).take(MAX_PIECE as u64).read_to_end(&mut bytes).await {
                    Ok(0) => return,
                    Ok(_) => Ok(KeyFilePiece { bytes }),
                    Err(error) => Err(Status::internal(error.to_string())),
                };
                // Whoever asked may have gone away.
                if pieces.send(piece).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream).boxed()))
    }
}

fn read(call: &KeyGenRequest) -> Result<NewKeygen, BoundsError> {
    bounds::check_key_gen(call)?;
    Ok(NewKeygen {
        run_id: bounds::id("run_id", &call.run_id)?.into(),
        params: u8::try_from(call.params).unwrap_or_default(),
        compressed: call.with_compression,
        crs_digest: bounds::id("crs_digest", &call.crs_digest)?.into(),
    })
}

fn status(error: &DkgError) -> Status {
    match error {
        DkgError::Params(_) => Status::invalid_argument(error.to_string()),
        DkgError::Unknown(_) => Status::not_found(error.to_string()),
        DkgError::Differs(_) | DkgError::Ended { .. } | DkgError::Busy(_) | DkgError::HasKey(_) => {
            Status::failed_precondition(error.to_string())
        }
        DkgError::Store(_) | DkgError::Keys(_) => {
            // Details are the operator's business.
            tracing::error!(%error, "a call about a key generation failed inside");
            Status::internal("this party has a fault of its own")
        }
    }
}
