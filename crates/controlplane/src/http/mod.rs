//! The protocol: from an HTTP request to an answer.
//!
//! ```text
//!  path ─► authenticate ─► authorise ─┬─► objects   get, list, watch, create, update, patch, delete
//!                                     ├─► reviews   access reviews, token requests
//!                                     └─► discovery, OpenAPI, health, metrics
//! ```
//!
//! Flows in: requests with a body that was read whole, and the client certificate of the connection. Flows out:
//! responses; only watches stream. Called by [`crate::server`] for every request of every connection.

pub mod discovery;
mod impersonate;
pub mod list;
pub mod negotiate;
mod objects;
pub mod openapi_v2;
pub mod openapi_v3;
pub mod path;
mod plain;
pub mod query;
mod respond;
pub mod select;
mod virtuals;
pub mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use apimachinery::status::StatusError;
use axum::body::Body as HttpBody;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Response};
use tokio_util::sync::CancellationToken;

use crate::auth::Credentials;
use crate::auth::rbac::MASTERS;
use crate::core::Core;
use crate::registry::{Catalog, Resource};
use crate::request::{ALL_CLUSTERS, Attributes, UserInfo};
use path::{RequestPath, ResourcePath};
use query::Query;

/// Bodies beyond this many bytes are refused, as in kube-apiserver.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// Everything a request needs.
pub struct Front {
    /// The control plane.
    pub core: Arc<Core>,
    /// Ends watches when the server stops.
    pub shutdown: CancellationToken,
    /// Counters for `/metrics`.
    pub counters: Counters,
}

/// What `/metrics` shows; independent of the number of tenants.
#[derive(Default)]
pub struct Counters {
    requests: AtomicU64,
    failures: AtomicU64,
    watches: AtomicU64,
}

/// A request whose body was read.
pub struct Incoming {
    /// HTTP method.
    pub method: Method,
    /// Path as sent.
    pub path: String,
    /// Query as sent.
    pub query: Option<String>,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// The verified client certificate (DER).
    pub certificate: Option<Arc<Vec<u8>>>,
}

/// A request after authentication and authorisation.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
    pub(crate) query: Query,
    pub(crate) user: UserInfo,
    pub(crate) cluster: Arc<str>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) path: &'a str,
}

impl Front {
    /// Answers a request. Errors become `Status` objects.
    pub async fn handle(self: &Arc<Self>, incoming: Incoming) -> Response<HttpBody> {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let response = match self.answer(&incoming).await {
            Ok(response) => response,
            Err(error) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                respond::error(&error)
            }
        };
        tracing::debug!(method = %incoming.method, path = incoming.path, status = response.status().as_u16(), "request");
        response
    }

    /// The answer to a request that could not be read.
    pub fn refuse(&self, error: &StatusError) -> Response<HttpBody> {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        respond::error(error)
    }

    async fn answer(self: &Arc<Self>, incoming: &Incoming) -> Result<Response<HttpBody>, StatusError> {
        let Some(parsed) = RequestPath::parse(&incoming.path) else {
            return Err(StatusError::bad_request(format!("the path {:?} is not well formed", incoming.path)));
        };
        let query = Query::parse(incoming.query.as_deref());
        let user = self.authenticate(incoming, &parsed.cluster)?;
        let user = impersonate::effective(&self.core, &parsed.cluster, user, &incoming.headers)?;
        let attributes = attributes(&parsed, &incoming.method, &query);
        self.core.auth.require(&*self.core, &user, &attributes)?;
        let (cluster, catalog) = self.cluster(&parsed, &user).await?;
        let request = Request {
            method: &incoming.method,
            headers: &incoming.headers,
            body: &incoming.body,
            query,
            user,
            cluster,
            catalog,
            path: &parsed.path,
        };
        match &parsed.resource {
            Some(resource) => self.resource(&request, resource).await,
            None => self.plain(&request),
        }
    }

    fn authenticate(&self, incoming: &Incoming, cluster: &str) -> Result<UserInfo, StatusError> {
        let header = incoming.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let bearer = header.and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let credentials = Credentials { bearer, certificate: incoming.certificate.as_ref().map(|c| c.as_slice()) };
        self.core.auth.authenticate(&*self.core, cluster, &credentials, self.core.now())
    }

    /// The logical cluster of a request and what it serves. An administrator of all clusters makes one by using it.
    async fn cluster(&self, path: &RequestPath, user: &UserInfo) -> Result<(Arc<str>, Arc<Catalog>), StatusError> {
        let clusters = &self.core.clusters;
        if path.cluster == ALL_CLUSTERS {
            return Ok((ALL_CLUSTERS.into(), self.everywhere(path.resource.as_ref())?));
        }
        let master = user.cluster.as_deref() == Some(ALL_CLUSTERS) && user.groups.iter().any(|g| g == MASTERS);
        if clusters.catalog(&path.cluster).is_none() && master {
            self.core.create_cluster(&path.cluster).await?;
        }
        match (clusters.name(&path.cluster), clusters.catalog(&path.cluster)) {
            (Some(name), Some(catalog)) => Ok((name, catalog)),
            _ => Err(StatusError::not_found("core.kcp.io", "logicalclusters", &path.cluster)),
        }
    }

    /// What a wildcard request can see: built-ins, and a custom resource that some logical cluster serves. Where
    /// several clusters have different definitions of one name, the request names one as `plural:identity`.
    fn everywhere(&self, path: Option<&ResourcePath>) -> Result<Arc<Catalog>, StatusError> {
        let base = self.core.clusters.base();
        let Some(path) = path else {
            return Ok(base.clone());
        };
        let (plural, identity) = path.plural.split_once(':').unwrap_or((&path.plural, ""));
        if base.resolve(&path.group, &path.version, plural).is_some() {
            return Ok(base.clone());
        }
        let mut found: Vec<Arc<Resource>> = Vec::new();
        for name in self.core.clusters.names() {
            if let Some(catalog) = self.core.clusters.catalog(&name)
                && let Some(resource) = catalog.resolve(&path.group, &path.version, plural)
                && resource.identity.starts_with(identity)
                && !found.iter().any(|known| known.identity == resource.identity)
            {
                found.push(resource.clone());
            }
        }
        match found.len() {
            0 => Ok(base.clone()),
            1 => Ok(Arc::new(base.with_custom(found))),
            _ => {
                let names: Vec<String> = found.iter().map(|r| format!("{plural}:{}", r.identity)).collect();
                Err(StatusError::bad_request(format!(
                    "logical clusters define {plural} differently; name one definition in the URL: {}",
                    names.join(", ")
                )))
            }
        }
    }

    async fn resource(
        self: &Arc<Self>,
        request: &Request<'_>,
        path: &ResourcePath,
    ) -> Result<Response<HttpBody>, StatusError> {
        let plural = path.plural.split(':').next().unwrap_or_default();
        let found = request.catalog.resolve(&path.group, &path.version, plural);
        let resource: Arc<Resource> = found.ok_or_else(StatusError::no_such_resource)?.clone();
        let mut response = if resource.is_virtual() {
            self.review(request, &resource, path)?
        } else {
            self.objects(request, &resource, path).await?
        };
        if let Some(text) = &resource.deprecation {
            respond::warn(&mut response, std::slice::from_ref(text));
        }
        Ok(response)
    }
}

fn attributes(parsed: &RequestPath, method: &Method, query: &Query) -> Attributes {
    match &parsed.resource {
        Some(resource) => {
            let verb = resource.verb(method, query.flag("watch"));
            let mut name = resource.name.clone();
            // A list of one name is a read of that name: RBAC rules with resourceNames allow it.
            if name.is_empty()
                && matches!(verb, "list" | "watch" | "deletecollection")
                && let Some(selector) = query.get("fieldSelector")
                && let Ok(fields) = apimachinery::selector::FieldSelector::parse(selector)
                && let Some(only) = fields.exact("metadata.name")
            {
                name = only.to_owned();
            }
            Attributes {
                cluster: parsed.cluster.clone(),
                verb: verb.to_owned(),
                group: resource.group.clone(),
                version: resource.version.clone(),
                resource: resource.plural.split(':').next().unwrap_or_default().to_owned(),
                subresource: resource.subresource.clone(),
                namespace: resource.namespace.clone(),
                name,
                path: parsed.path.clone(),
            }
        }
        None => Attributes {
            cluster: parsed.cluster.clone(),
            verb: method.as_str().to_lowercase(),
            path: parsed.path.clone(),
            ..Attributes::default()
        },
    }
}
