//! `UserDecrypt`.

use kms_proto::node::{UserDecryptRequest, UserDecryptResponse, user_decrypt_response::Outcome};
use kms_telemetry::TraceParent;
use tonic::{Request, Response, Status};

use super::{DEFAULT_WAIT, Service, internal};
use crate::config::Permission;
use crate::engine::to_user;
use crate::lifecycle::Call as Route;

impl Service {
    pub(super) async fn answer_user(
        &self,
        request: Request<UserDecryptRequest>,
    ) -> Result<Response<UserDecryptResponse>, Status> {
        let client = self.admit(&request, Permission::UserDecrypt)?;
        let caller = TraceParent::of(request.metadata());
        let call = request.into_inner();
        let outcome = match self.place(&client, Route::UserDecrypt, call.chain_id) {
            // Held until there is an answer.
            Ok(_place) => self.api.engine.user_decrypt(call, DEFAULT_WAIT, caller).await.map_err(|e| internal(&e))?,
            Err(not_yet) => to_user(not_yet),
        };
        if let Outcome::Refused(refused) = &outcome {
            tracing::warn!(client = client.name(), reason = refused.detail, "a user decryption was refused");
        }
        Ok(Response::new(UserDecryptResponse { outcome: Some(outcome) }))
    }
}
