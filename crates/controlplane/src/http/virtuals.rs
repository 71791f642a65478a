//! Requests that are answered and not stored: access reviews, token reviews, token requests.

use apimachinery::status::StatusError;
use axum::body::Body as HttpBody;
use http::{Method, Response};
use serde_json::Value;

use super::path::ResourcePath;
use super::{Front, Request, negotiate, respond};
use crate::auth::review::{Asker, is_review};
use crate::pipeline::Body;
use crate::registry::Resource;

impl Front {
    /// Answers a review.
    pub(super) fn review(
        &self,
        request: &Request<'_>,
        resource: &Resource,
        path: &ResourcePath,
    ) -> Result<Response<HttpBody>, StatusError> {
        if *request.method != Method::POST || !path.name.is_empty() || !is_review(&resource.group, &resource.plural) {
            return Err(StatusError::method_not_allowed());
        }
        let output = negotiate::output(request.headers, false)?;
        let mut body = Body::decode(request.body, negotiate::body_format(request.headers)?)?.value;
        set_type(&mut body, &resource.api_version(), &resource.kind)?;
        let answer = self.core.auth.review(&self.asker(request, path), &resource.group, &resource.plural, body)?;
        Ok(respond::value(201, &output, &answer))
    }

    /// Answers `POST …/serviceaccounts/<name>/token`.
    pub(super) fn token_request(
        &self,
        request: &Request<'_>,
        path: &ResourcePath,
    ) -> Result<Response<HttpBody>, StatusError> {
        if *request.method != Method::POST {
            return Err(StatusError::method_not_allowed());
        }
        let output = negotiate::output(request.headers, false)?;
        let mut body = Body::decode(request.body, negotiate::body_format(request.headers)?)?.value;
        set_type(&mut body, "authentication.k8s.io/v1", "TokenRequest")?;
        let id = uuid::Uuid::new_v4().to_string();
        let answer = self.core.auth.request_token(&self.asker(request, path), &path.name, body, id)?;
        Ok(respond::value(201, &output, &answer))
    }

    fn asker<'a>(&'a self, request: &'a Request<'_>, path: &'a ResourcePath) -> Asker<'a> {
        Asker {
            reader: &*self.core,
            user: &request.user,
            cluster: &request.cluster,
            namespace: &path.namespace,
            now: self.core.now(),
        }
    }
}

fn set_type(body: &mut Value, api_version: &str, kind: &str) -> Result<(), StatusError> {
    let map = body.as_object_mut().ok_or_else(|| StatusError::bad_request("the request body is not a JSON object"))?;
    map.insert("apiVersion".into(), api_version.into());
    map.insert("kind".into(), kind.into());
    Ok(())
}
