//! `POST /api/redeem`: turns the short-lived code of a redirect into what it stands for.
//!
//! In: the code and the verifier whose challenge opened the flow. Out: an access token, or the answer to a bind. So no
//! credential ever stands in a URL. A code works for 120 seconds, for the client with the verifier, once.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kube_bind_api::wire::{RedeemRequest, TokenResponse};

use super::{App, access};
use crate::bind::{self, Ask};
use crate::error::ApiError;
use crate::identity::session::{self, CODE_LIFETIME, Grant};
use crate::seal::Purpose;

/// See the module.
pub async fn redeem(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let request: RedeemRequest = serde_json::from_slice(&body)
        .map_err(|err| ApiError::bad_request("Invalid JSON request body", err.to_string()))?;
    let now = app.now();
    let refused = |details: String| ApiError::bad_request("The code cannot be redeemed", details);
    let code = session::open_code(&app.sealer, &request.code, &request.code_verifier, now)
        .map_err(|err| refused(format!("{err}; start again")))?;
    if !app.used.first(&code.id, now, CODE_LIFETIME) {
        return Err(refused("it has been used already; start again".to_owned()));
    }
    access::authorize(&app, &code.session.person).await?;
    match code.grant {
        Grant::Token => {
            let token = app
                .sealer
                .seal(Purpose::Bearer, &code.session, now, app.token_expiry)
                .map_err(|err| ApiError::internal("The token could not be made", err.to_string()))?;
            let answer = TokenResponse {
                access_token: token,
                token_type: "Bearer".to_owned(),
                expires_in: app.token_expiry.as_secs(),
                cluster_id: Some(code.session.cluster.clone()).filter(|cluster| !cluster.is_empty()),
            };
            Ok(Json(answer).into_response())
        }
        Grant::Bind(grant) => {
            let ask = Ask {
                name: grant.offering.clone(),
                offering: grant.offering,
                consumer: grant.consumer,
                pretty_name: String::new(),
                dry_run: grant.dry_run,
                moved_contract: grant.contract,
            };
            Ok(Json(bind::bind(&app.api, &app.issuing, &code.session, &ask).await?).into_response())
        }
    }
}
