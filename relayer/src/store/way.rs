//! The way of a request as the root of its trace.

use alloy_primitives::B256;
use kms_telemetry::{Moment, Past};

use super::Store;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::State;

impl Store {
    /// Exports the way of a request so far, when it has reached the state in which a relayer has done what it can for it. Does
    /// nothing where nothing is traced.
    pub(super) fn trace(&self, id: B256, reached: State) {
        if Past::is_wanted() && matches!(reached, State::Submitting | State::Done | State::Refused) {
            let store = self.clone();
            tokio::spawn(async move {
                match store.way(id).await {
                    Ok(Some(way)) => way.as_request(),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(request = %id, %error, "the way of a request is not traced"),
                }
            });
        }
    }

    async fn way(&self, id: B256) -> Result<Option<Past>, Error> {
        let Some(view) = self.view(id).await? else { return Ok(None) };
        let moment =
            |row: super::TimelineRow| Moment { at: row.at, name: row.state, detail: row.detail.unwrap_or_default() };
        Ok(Some(Past {
            request: id,
            name: "request",
            from: view.job.created_at,
            to: now_ms(),
            attributes: vec![
                ("kind", view.job.payload.kind().to_owned()),
                ("chain", view.job.chain.to_string()),
                ("state", view.job.state.to_string()),
                ("reason", view.job.reason.unwrap_or_default()),
            ],
            moments: view.timeline.into_iter().map(moment).collect(),
        }))
    }
}
